#include "client/profile.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "client/paths.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/config/toml_file.h"
#include "common/net/tun_device.h"

namespace culvert::client {
namespace {

constexpr std::string_view kPemHint =
    "the PEM text itself belongs here, between ''' and ''', not the name of a file";

// Rule priorities below this leave room for the local table's rule at 0.
constexpr int64_t kMinPriority = 1;
constexpr int64_t kMaxPriority = 29000;  // main is looked up at 32766; 3 for each device number

bool is_host(std::string_view host) {
  if (IpAddress::parse(host)) return true;
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
  };
  return !host.empty() && host.size() <= 253 && host.front() != '-' && host.front() != '.' &&
         std::all_of(host.begin(), host.end(), allowed);
}

Error bad_address(std::string_view text) {
  return fail(ErrorCode::kUsage, "not a server address: " + escape_for_display(text), {},
              "HOST, HOST:PORT or [IPV6]:PORT");
}

std::string required_pem(config::TomlReader& reader, std::string_view key) {
  std::string text = reader.required_string(key, kPemHint);
  if (!text.empty() && text.find("-----BEGIN ") == std::string::npos)
    reader.problem(key, "holds no PEM text", std::string(kPemHint));
  return text;
}

void read_server(config::TomlReader& reader, Profile& profile) {
  profile.server_name =
      reader.required_string("name", "the name in the server's certificate: a DNS or IP name");
  if (!profile.server_name.empty() && !is_host(profile.server_name))
    reader.problem("name", "neither a DNS name nor an IP address");
  const std::string address = reader.string("address").value_or(profile.server_name);
  if (const auto where = parse_host_port(address)) {
    profile.host = where->host;
    profile.port = where->port;
  } else if (!address.empty()) {
    reader.problem("address", where.error().what, where.error().hint);
  }
  profile.user = reader.string("user").value_or("");
  profile.password_command = reader.string("password_command").value_or("");
  profile.path = reader.string("path").value_or("/");
  if (profile.path.empty() || profile.path.front() != '/' ||
      profile.path.find(' ') != std::string::npos || !has_no_control_characters(profile.path))
    reader.problem("path", "must begin with / and hold no spaces");
}

void read_tls(config::TomlReader& reader, Profile& profile) {
  profile.ca_pem = required_pem(reader, "tls.ca");
  profile.certificate_pem = required_pem(reader, "tls.certificate");
  std::string key = required_pem(reader, "tls.key");
  profile.key_pem = Secret(as_bytes(key));
  wipe(std::as_writable_bytes(std::span(key)));
  if (reader.has("tls.crl")) profile.crl_pem = required_pem(reader, "tls.crl");
  if (reader.choice("tls.min_version", {"1.2", "1.3"}).value_or("1.2") == "1.3")
    profile.min_version = tls::Version::k13;
}

void read_numbers(config::TomlReader& reader, RoutingNumbers& numbers) {
  constexpr int64_t kMax32 = 0xffffffff;
  constexpr int64_t kMaxTable = 0x7fffffff;
  if (const auto mark = reader.integer("routing.fwmark", 1, kMax32))
    numbers.fwmark = static_cast<uint32_t>(*mark);
  if (const auto table = reader.integer("routing.table", 256, kMaxTable))
    numbers.table = static_cast<uint32_t>(*table);
  if (const auto priority = reader.integer("routing.priority", kMinPriority, kMaxPriority))
    numbers.priority = static_cast<uint32_t>(*priority);
}

void read_device(config::TomlReader& reader, Profile& profile) {
  profile.device = reader.string("device").value_or(profile.device);
  std::string sample = profile.device;
  if (const auto number = sample.find("%d"); number != std::string::npos)
    sample.replace(number, 2, "0");
  if (!net::is_interface_name(sample))
    reader.problem("device", "not a device name", "at most 15 characters, %d for a free number");
  profile.offloads = reader.boolean("offloads").value_or(profile.offloads);
  profile.udp = reader.boolean("udp").value_or(profile.udp);
  profile.udp_gso = reader.boolean("udp_gso").value_or(profile.udp_gso);
  profile.udp_gro = reader.boolean("udp_gro").value_or(profile.udp_gro);
  if (const auto mtu = reader.integer("mtu", 576, 16376)) profile.mtu = static_cast<uint16_t>(*mtu);
}

void read_routing(config::TomlReader& reader, Profile& profile) {
  const std::string mode = reader.choice("routes", {"server", "full", "none"}).value_or("server");
  profile.routes = mode == "full"   ? RouteMode::kFull
                   : mode == "none" ? RouteMode::kNone
                                    : RouteMode::kServer;
  profile.use_dns = reader.choice("dns", {"server", "none"}).value_or("server") == "server";
  read_device(reader, profile);
  read_numbers(reader, profile.routing);
}

Result<Profile> read(const config::TomlFile& file, const std::string& path, std::string tunnel) {
  config::TomlReader reader(file);
  Profile profile;
  profile.file = path;
  profile.tunnel = std::move(tunnel);
  read_server(reader, profile);
  read_tls(reader, profile);
  read_routing(reader, profile);
  if (auto status = reader.finish(); !status) return std::move(status.error());
  return profile;
}

struct UrlParts {
  HostPort server;
  std::string path;
};

Result<UrlParts> split_url(std::string_view url) {
  constexpr std::string_view kScheme = "https://";
  if (url.substr(0, kScheme.size()) != kScheme)
    return fail(ErrorCode::kUsage, "not an https:// address", escape_for_display(url));
  url.remove_prefix(kScheme.size());
  const size_t slash = std::min(url.find_first_of("/?"), url.size());
  auto server = parse_host_port(url.substr(0, slash));
  if (!server) return std::move(server.error());
  std::string path(url.substr(slash));
  if (path.empty() || path.front() != '/') path.insert(0, "/");
  if (!has_no_control_characters(path) || path.find_first_of(" #") != std::string::npos)
    return fail(ErrorCode::kUsage, "the path has characters that do not belong there",
                escape_for_display(path));
  return UrlParts{std::move(*server), std::move(path)};
}

// "[fd00::1]" makes no file name: what a name may not hold becomes "-".
std::string tunnel_for(const std::string& host) {
  std::string name = host.substr(0, 40);
  for (char& c : name)
    if (c == ':') c = '-';
  if (name.front() == '-' || name.front() == '_') name.insert(0, "v6");
  return name;
}

}  // namespace

std::string Profile::authority() const {
  std::string text = IpAddress::parse(server_name) && server_name.find(':') != std::string::npos
                         ? "[" + server_name + "]"
                         : server_name;
  if (port != kDefaultPort) text += ":" + std::to_string(port);
  return text;
}

std::string Profile::url() const {
  return "https://" + authority() + path;
}

tls::TlsOptions Profile::tls_options() const {
  tls::TlsOptions options;
  options.role = tls::Role::kClient;
  options.certificate_chain_pem = certificate_pem;
  options.private_key_pem = key_pem.clone();
  options.trusted_ca_pem = ca_pem;
  options.crl_pem = crl_pem;
  options.crl_required = !crl_pem.empty();
  options.min_version = min_version;
  return options;
}

Result<Profile> parse_profile(std::string_view text, const std::string& file_name,
                              std::string tunnel) {
  auto file = config::TomlFile::parse(text, file_name);
  if (!file) return std::move(file.error());
  return read(*file, file_name, std::move(tunnel));
}

Result<Profile> load_profile(const std::string& path, std::string tunnel) {
  auto file = config::TomlFile::load(path);
  if (!file) return std::move(file.error());
  return read(*file, path, std::move(tunnel));
}

Result<Profile> profile_from_url(std::string_view url, const UrlFiles& files) {
  auto parts = split_url(url);
  if (!parts) return std::move(parts.error());
  if (files.ca.empty() || files.certificate.empty() || files.key.empty())
    return fail(ErrorCode::kUsage, "a URL needs --ca, --cert and --key", escape_for_display(url),
                "or import a profile and connect by its name");
  Profile profile;
  profile.server_name = profile.host = parts->server.host;
  profile.port = parts->server.port;
  profile.path = parts->path;
  profile.tunnel = tunnel_for(profile.host);
  const auto read_into = [](const std::string& path, std::string& into) -> Status {
    auto text = read_file(path);
    if (!text) return std::move(text.error());
    into = std::move(*text);
    return {};
  };
  if (auto s = read_into(files.ca, profile.ca_pem); !s) return std::move(s.error());
  if (auto s = read_into(files.certificate, profile.certificate_pem); !s)
    return std::move(s.error());
  if (!files.crl.empty())
    if (auto s = read_into(files.crl, profile.crl_pem); !s) return std::move(s.error());
  auto key = read_secret_file(files.key);
  if (!key) return std::move(key.error());
  profile.key_pem = std::move(*key);
  return profile;
}

Result<HostPort> parse_host_port(std::string_view text) {
  if (IpAddress::parse(text)) return HostPort{std::string(text), kDefaultPort};
  std::string_view host = text;
  std::string_view port;
  const size_t bracket = text.find(']');
  const size_t colon = text.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (colon != std::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  if (!text.empty() && text.front() == '[') {
    if (host.size() < 2 || host.back() != ']') return bad_address(text);
    host = host.substr(1, host.size() - 2);
    const auto literal = IpAddress::parse(host);
    if (!literal || !literal->is_v6()) return bad_address(text);
  }
  const auto number = colon == std::string_view::npos ? std::optional<uint64_t>(kDefaultPort)
                                                      : parse_decimal(port, 1, 65535);
  if (!number || !is_host(host)) return bad_address(text);
  return HostPort{std::string(host), static_cast<uint16_t>(*number)};
}

}  // namespace culvert::client
