#include "server/checks.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <memory>
#include <set>
#include <system_error>
#include <utility>

#include "common/base/unique_fd.h"
#include "common/net/sys.h"
#include "common/net/tun_device.h"
#include "common/tls/peer_policy.h"
#include "server/service_user.h"
#include "server/tls_files.h"
#include "server/users.h"

namespace culvert::server {
namespace {

using std::chrono::days;

constexpr days kWarnAhead{30};

Finding good(std::string subject, std::string text) {
  return {Grade::kGood, std::move(subject), std::move(text), {}, ErrorCode::kFailure};
}

Finding warning(std::string subject, std::string text, std::string hint) {
  return {Grade::kWarning, std::move(subject), std::move(text), std::move(hint),
          ErrorCode::kFailure};
}

Finding bad(std::string subject, std::string text, std::string hint,
            ErrorCode code = ErrorCode::kFailure) {
  return {Grade::kBad, std::move(subject), std::move(text), std::move(hint), code};
}

Finding bad(std::string subject, const Error& error) {
  const std::string where = error.where.empty() ? "" : error.where + ": ";
  return bad(std::move(subject), where + error.what, error.hint, error.code);
}

std::string date_of(WallTime time) {
  return to_iso8601(time).substr(0, 10);
}

std::string days_left(WallTime until, WallTime now) {
  return std::to_string(std::chrono::floor<days>(until - now).count()) + " days";
}

// Dates of a certificate: nothing to say, or a warning, or the end.
Finding check_dates(const std::string& subject, const tls::CertificateInfo& info, WallTime now,
                    const std::string& remedy) {
  if (info.not_after < now) {
    return bad(subject, info.subject + " expired on " + date_of(info.not_after), remedy,
               ErrorCode::kUsage);
  }
  if (info.not_before > now) {
    return bad(subject, info.subject + " is valid from " + date_of(info.not_before) + " only",
               "is this machine's clock right?", ErrorCode::kUsage);
  }
  const std::string text = info.subject + ", until " + date_of(info.not_after) + " (" +
                           days_left(info.not_after, now) + ")";
  if (info.not_after - now < kWarnAhead) return warning(subject, text, remedy);
  return good(subject, text);
}

void check_server_certificate(const ServerConfig& config, const tls::CertificateInfo& own,
                              WallTime now, Findings& out) {
  const std::string subject = "certificate";
  out.push_back(check_dates(subject, own, now, "replace it: nobody connects once it has expired"));
  const bool for_servers =
      own.any_purpose || std::find(own.purposes.begin(), own.purposes.end(),
                                   tls::Purpose::kServerAuth) != own.purposes.end();
  if (!for_servers) {
    out.push_back(bad(subject, "it is not made for servers",
                      "it needs the extended key usage serverAuth", ErrorCode::kUsage));
  }
  if (!tls::matches_name(own, config.profile.name)) {
    out.push_back(bad(
        subject,
        "it is not for the name " + config.profile.name + " that profiles tell clients to expect",
        "profile.name must be one of the certificate's alternative names", ErrorCode::kUsage));
  }
  const auto address = HostPort::parse(config.profile.address);
  if (address && !tls::matches_name(own, address->host)) {
    out.push_back(warning(subject, "it is not for " + address->host + ", where clients connect",
                          "clients with a profile don't mind; a stock client that is given this "
                          "address refuses the certificate"));
  }
}

void check_crl(const tls::CrlInfo& crl, bool accept_expired, WallTime now, Findings& out) {
  const std::string of = "of " + crl.issuer;
  if (!crl.next_update) {
    out.push_back(good("revocation", of + ", without an end"));
    return;
  }
  const std::string until = of + ", valid until " + date_of(*crl.next_update);
  if (*crl.next_update < now) {
    const std::string text = of + ", expired on " + date_of(*crl.next_update);
    const std::string remedy = "get a new list from the CA and run: culvertd reload";
    out.push_back(accept_expired ? warning("revocation", text, remedy)
                                 : bad("revocation", text + ": every client will be refused",
                                       remedy, ErrorCode::kUsage));
  } else if (*crl.next_update - now < kWarnAhead) {
    out.push_back(warning("revocation", until, "every client is refused once it has expired"));
  } else {
    out.push_back(good("revocation", until));
  }
}

// What the server reads after it has given up root, at a reload.
std::vector<std::string> files_of_the_service(const ServerConfig& config) {
  std::vector<std::string> files{config.file, config.tls.certificate, config.tls.key,
                                 config.tls.client_ca, config.users_dir()};
  if (config.tls.crl) files.push_back(*config.tls.crl);
  if (const auto users = read_users(config.users_dir())) {
    for (const auto& entry : *users) {
      files.push_back(config.users_dir() + "/" + entry.first + ".toml");
    }
  }
  return files;
}

bool is_ours_by_name(std::string_view device, std::string_view pattern) {
  const auto percent = pattern.find('%');
  return percent == std::string_view::npos
             ? device == pattern
             : device.substr(0, percent) == pattern.substr(0, percent);
}

std::optional<Prefix> prefix_of(const ifaddrs& entry) {
  if (entry.ifa_addr == nullptr || entry.ifa_netmask == nullptr) return std::nullopt;
  const int family = entry.ifa_addr->sa_family;
  if (family != AF_INET && family != AF_INET6) return std::nullopt;
  const auto bytes_of = [&](const sockaddr* address) {
    const auto* at = reinterpret_cast<const std::byte*>(address);
    return family == AF_INET ? Bytes(at + offsetof(sockaddr_in, sin_addr), 4)
                             : Bytes(at + offsetof(sockaddr_in6, sin6_addr), 16);
  };
  unsigned length = 0;
  for (const std::byte b : bytes_of(entry.ifa_netmask)) {
    length += static_cast<unsigned>(__builtin_popcount(std::to_integer<unsigned>(b)));
  }
  return Prefix{IpAddress::from_bytes(bytes_of(entry.ifa_addr)), static_cast<uint8_t>(length)};
}

bool is_covered(const Prefix& inner, const std::vector<Prefix>& outer) {
  return std::any_of(outer.begin(), outer.end(), [&](const Prefix& prefix) {
    return prefix.length <= inner.length && prefix.overlaps(inner);
  });
}

std::vector<Prefix> pools_of(const ServerConfig& config) {
  std::vector<Prefix> pools;
  if (config.network.ipv4) pools.push_back(*config.network.ipv4);
  if (config.network.ipv6) pools.push_back(*config.network.ipv6);
  return pools;
}

void check_dns(const NetworkSettings& network, Findings& out) {
  for (const IpAddress& server : network.dns) {
    if (network.routes.empty() || is_covered(Prefix::host(server), network.routes)) continue;
    out.push_back(warning("networks",
                          "clients are to ask the DNS server " + server.to_string() +
                              ", which is in none of network.routes",
                          "they will ask it outside the tunnel; add " +
                              Prefix::host(server).to_string() + " to network.routes"));
  }
}

// The first character of a file under /proc/sys; 0 if there is none.
char kernel_switch(const std::string& path) {
  std::ifstream file(path);
  char value = 0;
  file.get(value);
  return file ? value : '\0';
}

// A socket bound as the server would. `type`: SOCK_STREAM or SOCK_DGRAM.
int try_to_bind(const Endpoint& endpoint, int type) {
  sockaddr_storage storage{};
  const socklen_t length = endpoint.to_sockaddr(storage);
  const UniqueFd fd(::socket(storage.ss_family, type | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno;
  const int on = 1;
  const int off = 0;
  if (type == SOCK_STREAM) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (storage.ss_family == AF_INET6) {
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  }
  // Binding alone succeeds beside a listener that has set SO_REUSEADDR as well.
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0) return errno;
  return type == SOCK_STREAM && ::listen(fd.get(), 1) != 0 ? errno : 0;
}

std::string port_remedy(int error, const Endpoint& endpoint, int type) {
  switch (error) {
    case EADDRINUSE:
      return std::string("another program has it: ss ") +
             (type == SOCK_STREAM ? "-ltnp" : "-lunp") +
             " 'sport = :" + std::to_string(endpoint.port) + "'";
    case EADDRNOTAVAIL:
      return "this machine does not have the address (ip address)";
    case EACCES:
    case EPERM:
      return "ports below 1024 are root's";
    case EAFNOSUPPORT:
      return "this machine has no IPv6: listen on 0.0.0.0 instead of [::]";
    default:
      return {};
  }
}

}  // namespace

Findings check_certificates(const ServerConfig& config, WallTime now) {
  Findings out;
  const auto tls = load_tls_config(config.tls);
  if (!tls) {
    out.push_back(bad("certificates", tls.error()));
    return out;
  }
  check_server_certificate(config, (*tls)->own_certificate(), now, out);
  for (const tls::CertificateInfo& ca : (*tls)->trusted_cas()) {
    out.push_back(check_dates("client CA", ca, now, "no client of this CA will be let in"));
  }
  if (!config.tls.crl) {
    out.push_back(warning("revocation", "none (crl = \"none\")",
                          "nobody can be shut out before his certificate expires"));
  }
  for (const tls::CrlInfo& crl : (*tls)->crls()) {
    check_crl(crl, config.tls.accept_expired_crl, now, out);
  }
  struct stat info {};
  if (::stat(config.tls.key.c_str(), &info) == 0 && (info.st_mode & 077) != 0) {
    out.push_back(warning("key", "others may read or write " + config.tls.key,
                          "chmod 0600 " + config.tls.key));
  }
  return out;
}

Findings check_account(const ServerConfig& config) {
  Findings out;
  const auto account = find_account(config.user);
  if (!account) return {bad("account", account.error())};
  if (!*account) {
    out.push_back(bad("account", "there is no user '" + config.user + "' to run as",
                      "useradd --system --user-group --no-create-home --home-dir /nonexistent "
                      "--shell /usr/sbin/nologin " +
                          config.user,
                      ErrorCode::kUsage));
    return out;
  }
  std::set<std::string> said;  // one folder may stand in the way of many files
  for (const std::string& file : files_of_the_service(config)) {
    if (::access(file.c_str(), F_OK) != 0) continue;  // said elsewhere
    const auto status = check_readable(**account, file);
    if (status || !said.insert(status.error().where).second) continue;
    out.push_back(bad("account", status.error()));
  }
  if ((*account)->uid == 0) {
    out.push_back(warning("account", "the server would go on as root",
                          "set user = \"" + std::string(kServiceUser) + "\""));
  }
  if (out.empty()) out.push_back(good("account", config.user + ", and it can read its files"));
  return out;
}

Findings check_users(const ServerConfig& config) {
  Findings out;
  const auto users = read_users(config.users_dir());
  if (!users) return {bad("users", users.error())};
  const Pools pools{config.network.ipv4, config.network.ipv6};
  for (const auto& entry : *users) {
    const auto status = check_user_networks(entry.second, *users, pools);
    if (!status) out.push_back(bad("users", status.error()));
  }
  if (!out.empty()) return out;
  if (users->empty() && config.unknown_users == UnknownUsers::kRefuse) {
    out.push_back(warning("users", "none, and unknown_users = \"refuse\": nobody can log in",
                          "culvertd user add NAME --profile FILE"));
  } else {
    out.push_back(good("users", std::to_string(users->size())));
  }
  return out;
}

Findings check_networks(const ServerConfig& config, const std::vector<LocalNetwork>& local) {
  Findings out;
  std::string pools;
  for (const Prefix& pool : pools_of(config)) {
    pools += (pools.empty() ? "" : ", ") + pool.to_string();
    for (const LocalNetwork& other : local) {
      if (!pool.overlaps(other.prefix)) continue;
      out.push_back(bad("networks",
                        pool.to_string() + " overlaps " + other.prefix.network().to_string() +
                            " on " + other.device,
                        "choose another network for clients in [network]", ErrorCode::kUsage));
    }
  }
  check_dns(config.network, out);
  if (out.empty()) out.push_back(good("networks", pools));
  return out;
}

std::vector<LocalNetwork> local_networks(const std::string& tun_device) {
  std::vector<LocalNetwork> out;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return out;
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, ::freeifaddrs);
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    const auto prefix = prefix_of(*entry);
    if (!prefix || prefix->address.is_loopback() || prefix->address.is_link_local()) continue;
    if (is_ours_by_name(entry->ifa_name, tun_device)) continue;
    out.push_back({entry->ifa_name, *prefix, (entry->ifa_flags & IFF_POINTOPOINT) != 0});
  }
  return out;
}

Status check_other_tunnels(const ServerConfig& config, const std::vector<LocalNetwork>& local) {
  for (const Prefix& pool : pools_of(config)) {
    for (const LocalNetwork& other : local) {
      if (!other.tunnel || !pool.contains(other.prefix.address)) continue;
      return fail(ErrorCode::kUsage,
                  pool.to_string() + " is taken: " + other.device + " has " +
                      other.prefix.address.to_string(),
                  config.file, "choose another network for clients in [network]");
    }
  }
  return {};
}

Findings check_kernel(const ServerConfig& config) {
  Findings out;
  if (config.network.ipv6 && kernel_switch("/proc/sys/net/ipv6/conf/all/disable_ipv6") == '1') {
    out.push_back(bad("kernel", "IPv6 is switched off on this machine",
                      "sysctl -w net.ipv6.conf.all.disable_ipv6=0, or remove network.ipv6"));
  }
  const std::vector<Prefix> pools = pools_of(config);
  const auto leads_beyond = [&](bool v4) {
    const auto& routes = config.network.routes;
    if (routes.empty()) return (v4 ? config.network.ipv4 : config.network.ipv6).has_value();
    return std::any_of(routes.begin(), routes.end(), [&](const Prefix& route) {
      return route.address.is_v4() == v4 && !is_covered(route, pools);
    });
  };
  const std::string text = " is not forwarded: clients reach this machine and no further";
  if (leads_beyond(true) && kernel_switch("/proc/sys/net/ipv4/ip_forward") != '1') {
    out.push_back(warning("forwarding", "IPv4" + text, "sysctl -w net.ipv4.ip_forward=1"));
  }
  if (leads_beyond(false) && kernel_switch("/proc/sys/net/ipv6/conf/all/forwarding") != '1') {
    out.push_back(warning("forwarding", "IPv6" + text,
                          "sysctl -w net.ipv6.conf.all.forwarding=1 (and accept_ra=2 on "
                          "interfaces that live on router advertisements)"));
  }
  return out;
}

Findings check_port(const ServerConfig& config, bool running) {
  const std::string where = config.listen.to_string();
  if (running) return {good("port", where + ", in use by the running server")};
  Findings out;
  std::vector<int> types{SOCK_STREAM};
  if (config.udp.enabled) types.push_back(SOCK_DGRAM);
  for (const int type : types) {
    const std::string what = (type == SOCK_STREAM ? "TCP " : "UDP ") + where;
    const int error = try_to_bind(config.listen, type);
    if (error == 0) {
      out.push_back(good("port", what + " is free"));
      continue;
    }
    const bool denied = error == EACCES || error == EPERM;
    out.push_back(bad("port",
                      "cannot listen on " + what + ": " + std::generic_category().message(error),
                      port_remedy(error, config.listen, type),
                      denied ? ErrorCode::kPermission : ErrorCode::kFailure));
  }
  return out;
}

Findings check_tun(const ServerConfig& config, bool running) {
  if (running) return {good("TUN", config.tun_device + ", in use by the running server")};
  if (::geteuid() != 0) {
    return {warning("TUN", "not looked at: that takes root", "run this check as root")};
  }
  net::KernelSys sys;
  net::TunOptions options;
  options.name = config.tun_device;
  const auto device = net::TunDevice::open(sys, options);
  if (!device) return {bad("TUN", device.error())};
  return {good("TUN", device->name() + " can be made")};
}

}  // namespace culvert::server
