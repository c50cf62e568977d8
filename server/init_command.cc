// culvertd init: from nothing to a server that can be started. Everything is prepared and checked
// in memory first; then the files are written, all of them or none.
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <iostream>
#include <utility>

#include "common/base/clock.h"
#include "common/config/toml_text.h"
#include "server/commands.h"
#include "server/config.h"
#include "server/new_files.h"
#include "server/paths.h"
#include "server/pki_store.h"
#include "server/service_user.h"
#include "server/signal_hold.h"

namespace culvert::server {
namespace {

using config::toml_list;
using config::toml_quote;

constexpr std::string_view kNone = "none";

// The options, read and completed.
struct Plan {
  std::string dir;
  std::string name;
  std::string address;
  std::string config_text;
  ServerConfig config;
  ServerNames names;
};

Error bad_option(const char* option, const Error& error) {
  return fail(ErrorCode::kUsage, error.what,
              std::string(option) + (error.where.empty() ? "" : " " + error.where), error.hint);
}

Status check_network(const char* option, const std::string& text, Family family) {
  if (text == kNone) return {};
  const auto pool = Prefix::parse(text);
  if (!pool) return bad_option(option, pool.error());
  if (auto status = check_pool(*pool, family); !status) return bad_option(option, status.error());
  return {};
}

Result<std::string> address_for_clients(const InitOptions& options, const Endpoint& listen) {
  if (!options.address.empty()) {
    const auto address = HostPort::parse(options.address);
    if (!address) return bad_option("--address", address.error());
    return address->to_string();
  }
  HostPort address{options.name, listen.port};
  if (!listen.address.is_unspecified()) address.host = listen.address.to_string();
  return address.to_string();
}

std::string network_lines(const InitOptions& options, std::vector<std::string>& routes) {
  std::string out;
  if (options.ipv4 != kNone) {
    out += "ipv4 = " + toml_quote(options.ipv4) + "\n";
    routes.push_back(options.ipv4);
  }
  if (options.ipv6 != kNone) {
    out += "ipv6 = " + toml_quote(options.ipv6) + "\n";
    routes.push_back(options.ipv6);
  }
  return out;
}

std::string config_text(const InitOptions& options, const std::string& address) {
  std::vector<std::string> routes;
  const std::string networks = network_lines(options, routes);
  std::string out =
      "# Culvert server. Every key is explained in culvertd.toml(5); `culvertd check` says "
      "whether\n"
      "# all is well, `culvertd reload` makes a running server take up changes.\n\n"
      "user = \"" +
      std::string(kServiceUser) +
      "\"                     # who the server runs as\n"
      "unknown_users = \"allow\"              # a valid certificate without a file in users/\n\n"
      "[listen]\n";
  out += "address = " + toml_quote(options.listen) + "\n\n";
  out +=
      "[tls]                                # paths are relative to this file\n"
      "certificate = \"server.crt\"\n"
      "key = \"server.key\"\n"
      "client_ca = \"ca.crt\"\n"
      "crl = \"ca.crl\"\n"
      "min_version = \"1.2\"\n\n"
      "[network]                            # inside the tunnel; the first address is the "
      "server's\n";
  out += networks;
  out +=
      "# What clients send into the tunnel: here the tunnel's own networks. Add what lies behind\n"
      "# this server (\"10.20.0.0/16\"), or remove the key to send everything through the "
      "tunnel.\n";
  out += "routes = " + toml_list(routes) + "\n";
  out +=
      "# dns = [\"10.20.0.53\"]\n\n"
      "[session]\n"
      "dpd = \"15s\"                          # ask a silent client for a sign of life\n"
      "idle_timeout = \"1h\"                  # end a session that carries nothing; \"0s\": never\n"
      "cookie_timeout = \"5m\"                # how long a lost client may take to come back\n"
      "max_per_user = 2\n\n"
      "[profile]                            # what `user add` writes into client profiles\n";
  out += "name = " + toml_quote(options.name) + "\n";
  out += "address = " + toml_quote(address) + "\n";
  return out;
}

Status check_options(const InitOptions& options) {
  if (!is_host_name(options.name) && !IpAddress::parse(options.name)) {
    return fail(ErrorCode::kUsage, "neither a host name nor an IP address",
                "--name " + options.name);
  }
  if (options.ipv4 == kNone && options.ipv6 == kNone) {
    return fail(ErrorCode::kUsage, "at least one network is needed inside the tunnel",
                "--ipv4, --ipv6");
  }
  if (auto status = check_network("--ipv4", options.ipv4, Family::kV4); !status) return status;
  return check_network("--ipv6", options.ipv6, Family::kV6);
}

Result<Plan> make_plan(const InitOptions& options) {
  if (auto status = check_options(options); !status) return status.error();
  const auto listen = Endpoint::parse(options.listen);
  if (!listen) return bad_option("--listen", listen.error());
  const auto address = address_for_clients(options, *listen);
  if (!address) return address.error();

  Plan plan;
  plan.dir = config_dir(options.dir);
  plan.name = options.name;
  plan.address = *address;
  plan.config_text = config_text(options, *address);
  // Whatever the checks above let through is caught here, before it is written.
  auto config = parse_config(plan.config_text, plan.dir + "/" + std::string(kConfigFileName));
  if (!config) return config.error();
  plan.config = std::move(*config);
  plan.names.common_name = options.name;
  plan.names.add(options.name);
  if (const auto host = HostPort::parse(plan.address)) plan.names.add(host->host);
  if (!listen->address.is_unspecified()) plan.names.add(listen->address.to_string());
  return plan;
}

// Says no before any key is made. create_file() stands guard against what comes in between.
Status check_nothing_is_there(const std::string& dir) {
  for (const std::string_view name :
       {kConfigFileName, kCaCertificateFile, kCaKeyFile, kCrlFile, kServerCertificateFile,
        kServerKeyFile, kIssuedFolder, std::string_view("users")}) {
    const std::string path = dir + "/" + std::string(name);
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) continue;
    const std::string config = dir + "/" + std::string(kConfigFileName);
    const bool set_up = ::lstat(config.c_str(), &info) == 0;
    return fail(ErrorCode::kUsage, "exists already, and init never overwrites anything", path,
                set_up ? "this server is set up: culvertd check -c " + config +
                             " looks it over; --dir makes another one"
                       : "move it away, or choose another folder with --dir");
  }
  return {};
}

FileAttributes owned(mode_t mode, uid_t uid, gid_t gid) {
  return {.mode = mode, .owner = FileOwner{uid, gid}};
}

// Who gets what. Without root everything is the caller's.
struct Owners {
  FileAttributes folder;   // the configuration folder and users/
  FileAttributes service;  // what the server reads
  FileAttributes own;      // what only root may read
  FileAttributes own_folder;
};

Owners owners_for(const std::optional<Account>& account) {
  Owners owners;
  owners.own_folder.mode = 0700;
  owners.folder.mode = 0750;
  if (!account) return owners;
  owners.folder = owned(0750, 0, account->gid);
  owners.service = owned(0600, account->uid, account->gid);
  owners.own = owned(0600, 0, 0);
  owners.own_folder = owned(0700, 0, 0);
  return owners;
}

bool is_empty(const std::string& dir) {
  std::error_code error;
  return std::filesystem::is_empty(dir, error) && !error;
}

// A folder that was there before is made ours if it is empty and the caller's. Others stay as they
// are: somebody else may need their mode.
Status adopt(const std::string& dir, const FileAttributes& attributes) {
  struct stat info {};
  if (::stat(dir.c_str(), &info) != 0 || info.st_uid != ::geteuid() || !is_empty(dir)) return {};
  const auto& owner = attributes.owner;
  if ((owner && ::chown(dir.c_str(), owner->uid, owner->gid) != 0) ||
      ::chmod(dir.c_str(), attributes.mode) != 0) {
    return fail_errno(ErrorCode::kPermission, errno, "cannot set owner and mode", dir);
  }
  return {};
}

Status write_files(const Plan& plan, const NewPki& pki, const Owners& owners, NewFiles& files) {
  const auto path = [&](std::string_view name) { return plan.dir + "/" + std::string(name); };
  if (auto status = files.parents_of(plan.dir); !status) return status;
  if (auto made = files.folder(plan.dir, owners.folder); !made) return made.error();
  if (auto made = files.folder(path("users"), owners.folder); !made) return made.error();
  if (auto made = files.folder(path(kIssuedFolder), owners.own_folder); !made) {
    return made.error();
  }
  const struct {
    std::string_view name;
    std::string_view content;
    const FileAttributes& attributes;
  } all[] = {
      {kCaKeyFile, as_text(pki.ca_key.bytes()), owners.own},
      {kCaCertificateFile, pki.ca_certificate, owners.service},
      {kCrlFile, pki.crl, owners.service},
      {kServerKeyFile, as_text(pki.server_key.bytes()), owners.service},
      {kServerCertificateFile, pki.server_certificate, owners.service},
      {kConfigFileName, plan.config_text, owners.service},
  };
  for (const auto& file : all) {
    if (auto status = files.file(path(file.name), file.content, file.attributes); !status) {
      return status;
    }
  }
  return {};
}

std::string names_of(const ServerNames& names) {
  std::string out;
  for (const std::string& name : names.dns_names)
    out += (out.empty() ? "" : ", ") + name;
  for (const IpAddress& address : names.ip_addresses) {
    out += (out.empty() ? "" : ", ") + address.to_string();
  }
  return out;
}

void report(const Plan& plan, const std::optional<EnsuredAccount>& account, std::ostream& out) {
  const bool default_dir = plan.dir == kDefaultDir;
  const std::string where = default_dir ? "" : " --dir " + plan.dir;
  if (account && account->created) {
    out << "Created the system user '" << account->account.name << "' that the server runs as.\n";
  }
  out << "Made in " << plan.dir << ":\n"
      << "  ca.crt, ca.key           the CA, " << kCaDays / 365
      << " years; keep a copy of ca.key in a safe place\n"
      << "  ca.crl                   its revocation list, empty\n"
      << "  server.crt, server.key   the server's certificate for " << names_of(plan.names) << ", "
      << kServerDays / 365 << " years\n"
      << "  culvertd.toml            the configuration; listens on "
      << plan.config.listen.to_string() << "\n"
      << "  users/, issued/          users, and what was issued to them\n";
  if (!account) {
    out << "Not run as root, so everything belongs to you. The server needs root to start, and\n"
           "the user '"
        << kServiceUser << "' must then be able to read these files.\n";
  }
  out << "Clients connect to " << plan.address << " and expect the name " << plan.name << ".\n"
      << "\nNext:\n"
      << "  culvertd check" << where << "\n"
      << "  culvertd user add alice" << where << " --profile alice.toml\n"
      << "  " << (default_dir ? "systemctl enable --now culvertd" : "culvertd run" + where) << "\n";
}

void warn_if_unreadable(const Plan& plan, const std::optional<EnsuredAccount>& account,
                        std::ostream& out) {
  if (!account) return;
  const auto status = check_readable(account->account, plan.config.tls.key);
  if (!status) out << "\nWarning: " << status.error().message() << "\n";
}

}  // namespace

Status init_command(const InitOptions& options, std::ostream& out) {
  const auto plan = make_plan(options);
  if (!plan) return plan.error();
  if (auto status = check_nothing_is_there(plan->dir); !status) return status;

  const SignalHold hold;
  std::optional<EnsuredAccount> account;
  if (::geteuid() == 0) {
    auto ensured = ensure_account(plan->config.user);
    if (!ensured) return ensured.error();
    account = std::move(*ensured);
  }
  const auto pki = make_pki(plan->names, wall_now());
  if (!pki) return pki.error();
  const Owners owners =
      owners_for(account ? std::optional<Account>(account->account) : std::nullopt);
  if (auto status = adopt(plan->dir, owners.folder); !status) return status;
  NewFiles files;
  if (auto status = write_files(*plan, *pki, owners, files); !status) return status;
  if (hold.pending()) {
    return fail(ErrorCode::kFailure, "interrupted; nothing was left behind", plan->dir);
  }
  files.keep();
  report(*plan, account, out);
  warn_if_unreadable(*plan, account, out);
  return {};
}

}  // namespace culvert::server
