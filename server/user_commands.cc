// culvertd user add, list, revoke and pki export: people, their files and their certificates.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <map>
#include <utility>

#include "common/base/clock.h"
#include "common/base/scope_exit.h"
#include "common/base/text.h"
#include "common/control/protocol.h"
#include "server/commands.h"
#include "server/config.h"
#include "server/new_files.h"
#include "server/paths.h"
#include "server/pki_store.h"
#include "server/running_server.h"
#include "server/service_user.h"
#include "server/signal_hold.h"
#include "server/user_support.h"
#include "server/users.h"

namespace culvert::server {
namespace {

using UserMap = std::map<std::string, User, std::less<>>;

// The account that must be able to read what we write; nothing unless we are root and it exists.
Result<std::optional<Account>> service_account(const ServerConfig& config) {
  if (::geteuid() != 0) return std::optional<Account>();
  return find_account(config.user);
}

Result<User> user_from(const UserAddOptions& options) {
  if (auto status = check_user_name(options.name); !status) return status.error();
  User user;
  user.name = options.name;
  user.group = options.group;
  if (!user.group.empty()) {
    if (auto status = check_user_name(user.group, "group"); !status) return status.error();
  }
  for (const std::string& text : options.networks) {
    const auto network = Prefix::parse(text);
    if (!network) return network.error();
    if (*network != network->network()) {
      return fail(ErrorCode::kUsage, "has bits set behind its length", "--network " + text,
                  "the network is " + network->network().to_string());
    }
    user.networks.push_back(*network);
  }
  for (const std::string& text : options.addresses) {
    const auto address = IpAddress::parse(text);
    if (!address) return address.error();
    auto& slot = address->is_v4() ? user.ipv4 : user.ipv6;
    if (slot) return fail(ErrorCode::kUsage, "one address of each family", "--address " + text);
    slot = *address;
  }
  return user;
}

// Somebody whose certificate still opens the door needs no second one.
Status check_has_no_certificate(const PkiStore& store, const std::string& name, WallTime now) {
  const auto issued = store.client_certificates(name, now);
  if (!issued) return issued.error();
  const bool valid = std::any_of(
      issued->begin(), issued->end(),
      [](const IssuedCertificate& record) { return record.state == CertificateState::kValid; });
  if (!valid) return {};
  return fail(ErrorCode::kUsage, "this user exists and has a valid certificate", name,
              "culvertd pki export " + name + " --out DIR writes it again; culvertd user revoke " +
                  name + " ends it");
}

// A user whose certificate has expired, or who was written down by hand, keeps what the options
// don't change.
User merged(User user, const UserMap& users) {
  const auto before = users.find(user.name);
  if (before == users.end()) return user;
  const User& old = before->second;
  if (user.group.empty()) user.group = old.group;
  if (!user.ipv4) user.ipv4 = old.ipv4;
  if (!user.ipv6) user.ipv6 = old.ipv6;
  if (user.networks.empty()) user.networks = old.networks;
  return user;
}

// The files of a new user, all or none. The old user file comes back if there was one.
Result<UserCredentials> write_new_user(const ServerConfig& config, const PkiStore& store,
                                       const User& user, const UserMap& users,
                                       const UserAddOptions& options, WallTime now) {
  const auto account = service_account(config);
  if (!account) return account.error();
  const SignalHold hold;
  auto credentials = store.issue({.name = user.name,
                                  .group = user.group,
                                  .days = options.days != 0 ? options.days : kUserDays,
                                  .server = {}},
                                 now);
  if (!credentials) return credentials;
  ScopeExit undo_issue([&] { store.discard(credentials->record); });

  NewFiles files;
  const auto profile = absolute_path(options.profile);
  const std::string text = to_toml(profile_for(config, store, *credentials));
  if (auto status = files.file(profile, text, {}); !status) return status.error();
  const auto before = users.find(user.name);
  ScopeExit undo_user([&] {
    static_cast<void>(before != users.end()
                          ? write_user(config.users_dir(), before->second, *account)
                          : remove_user(config.users_dir(), user.name));
  });
  if (auto status = write_user(config.users_dir(), user, *account); !status) {
    return status.error();
  }
  if (hold.pending()) return fail(ErrorCode::kFailure, "interrupted; nothing was left behind");
  undo_user.dismiss();
  undo_issue.dismiss();
  files.keep();
  return credentials;
}

void report_added(const UserAddOptions& options, const ServerConfig& config, const User& user,
                  const UserCredentials& credentials, std::ostream& out) {
  out << "Added " << user.name;
  if (!user.group.empty()) out << ", group " << user.group;
  out << "; the certificate is valid until " << date_of(credentials.record.info.not_after) << ".\n"
      << "  " << options.profile << "   the profile: certificate, key, and where to connect ("
      << config.profile.address << ")\n";
  for (const auto& address : {user.ipv4, user.ipv6}) {
    if (address) out << "  fixed address inside the tunnel: " << address->to_string() << "\n";
  }
  for (const Prefix& network : user.networks) {
    out << "  network behind this client: " << network.to_string() << "\n";
  }
}

void report_added_next(const UserAddOptions& options, std::ostream& out) {
  const std::string file = std::filesystem::path(options.profile).filename().string();
  out << "\nNext: bring the profile to " << options.name << " by a safe way (whoever has it is "
      << options.name << ") and delete it here. On the other machine:\n"
      << "  culvert import " << file << "\n"
      << "  culvert connect\n";
}

// What `user list` shows about one name.
struct Listed {
  std::optional<User> user;
  std::optional<IssuedCertificate> newest;
};

Result<std::map<std::string, Listed>> collect(const ServerConfig& config, WallTime now) {
  std::map<std::string, Listed> all;
  auto users = read_users(config.users_dir());
  if (!users) return users.error();
  for (auto& entry : *users)
    all[entry.first].user = std::move(entry.second);
  const auto store = PkiStore::open(config.dir);
  if (!store) {
    // A server with certificates from elsewhere has users all the same.
    return store.error().code == ErrorCode::kUsage ? Result<std::map<std::string, Listed>>(all)
                                                   : store.error();
  }
  auto issued = store->client_certificates({}, now);
  if (!issued) return issued.error();
  for (IssuedCertificate& record : *issued) {
    auto& newest = all[record.user].newest;
    const bool better = !newest || record.state == CertificateState::kValid ||
                        newest->state != CertificateState::kValid;
    if (better) newest = std::move(record);
  }
  return all;
}

std::string addresses_of(const Listed& listed) {
  std::string out;
  if (!listed.user) return out;
  for (const auto& address : {listed.user->ipv4, listed.user->ipv6}) {
    if (address) out += (out.empty() ? "" : ",") + address->to_string();
  }
  for (const Prefix& network : listed.user->networks) {
    out += (out.empty() ? "" : ",") + network.to_string();
  }
  return out;
}

std::string state_of(const Listed& listed) {
  return listed.newest ? std::string(name_of(listed.newest->state)) : "no certificate of ours";
}

control::Json to_json(const std::string& name, const Listed& listed) {
  control::Json out = {{"user", name},
                       {"group", listed.user ? listed.user->group : ""},
                       {"ipv4", nullptr},
                       {"ipv6", nullptr},
                       {"networks", control::Json::array()},
                       {"certificate", nullptr}};
  if (listed.user) {
    if (listed.user->ipv4) out["ipv4"] = listed.user->ipv4->to_string();
    if (listed.user->ipv6) out["ipv6"] = listed.user->ipv6->to_string();
    for (const Prefix& network : listed.user->networks) {
      out["networks"].push_back(network.to_string());
    }
  }
  if (listed.newest) {
    out["certificate"] = {{"state", name_of(listed.newest->state)},
                          {"serial", listed.newest->info.serial_hex},
                          {"not_before", to_iso8601(listed.newest->info.not_before)},
                          {"not_after", to_iso8601(listed.newest->info.not_after)}};
  }
  return out;
}

void print_list(const std::map<std::string, Listed>& all, std::ostream& out) {
  size_t width = 4;
  size_t group_width = 5;
  for (const auto& entry : all) {
    width = std::max(width, entry.first.size());
    if (entry.second.user) group_width = std::max(group_width, entry.second.user->group.size());
  }
  const auto column = [&](const std::string& text, size_t size) {
    out << std::left << std::setw(static_cast<int>(size + 2)) << text;
  };
  column("USER", width);
  column("GROUP", group_width);
  column("CERTIFICATE", 11);
  column("UNTIL", 10);
  out << "FIXED ADDRESSES AND NETWORKS\n";
  for (const auto& entry : all) {
    const Listed& listed = entry.second;
    column(entry.first, width);
    column(listed.user && !listed.user->group.empty() ? listed.user->group : "-", group_width);
    column(listed.newest ? state_of(listed) : "none", 11);
    column(listed.newest ? date_of(listed.newest->info.not_after) : "-", 10);
    const std::string addresses = addresses_of(listed);
    out << (addresses.empty() ? "-" : addresses) << "\n";
  }
}

}  // namespace

Status user_add_command(const UserAddOptions& options, std::ostream& out) {
  const auto wanted = user_from(options);
  if (!wanted) return wanted.error();
  const auto config = load_config(options.place.config_file());
  if (!config) return config.error();
  auto store = PkiStore::open(config->dir);
  if (!store) return store.error();
  if (auto status = check_store_is_used(*config, *store); !status) return status;
  if (auto status = check_name_is_found(*config, wanted->name); !status) return status;
  if (auto status = store->lock(); !status) return status;

  const WallTime now = wall_now();
  const auto users = read_users(config->users_dir());
  if (!users) return users.error();
  if (auto status = check_has_no_certificate(*store, wanted->name, now); !status) return status;
  const User user = merged(*wanted, *users);
  const Pools pools{config->network.ipv4, config->network.ipv6};
  if (auto status = check_user_networks(user, *users, pools); !status) return status;
  const auto credentials = write_new_user(*config, *store, user, *users, options, now);
  if (!credentials) return credentials.error();

  report_added(options, *config, user, *credentials, out);
  report_reload(options.place, out);
  report_added_next(options, out);
  return {};
}

Status user_list_command(const UserListOptions& options, std::ostream& out) {
  const auto config = load_config(options.place.config_file());
  if (!config) return config.error();
  const auto all = collect(*config, wall_now());
  if (!all) return all.error();
  if (options.json) {
    control::Json list = control::Json::array();
    for (const auto& entry : *all)
      list.push_back(to_json(entry.first, entry.second));
    out << control::pretty({{"users", list}}) << "\n";
  } else if (all->empty()) {
    out << "No users yet: culvertd user add NAME --profile FILE\n";
  } else {
    print_list(*all, out);
  }
  return {};
}

Status user_revoke_command(const UserRevokeOptions& options, std::ostream& out) {
  if (auto status = check_user_name(options.name); !status) return status;
  const auto config = load_config(options.place.config_file());
  if (!config) return config.error();
  auto store = PkiStore::open(config->dir);
  if (!store) return store.error();
  if (auto status = check_crl_is_used(*config, *store); !status) return status;
  if (auto status = store->lock(); !status) return status;

  const WallTime now = wall_now();
  const auto users = read_users(config->users_dir());
  if (!users) return users.error();
  const auto issued = store->client_certificates(options.name, now);
  if (!issued) return issued.error();
  if (issued->empty()) return no_such_user(options.name, *users);

  // The list first: should the rest fail, the door is shut.
  const auto revoked = store->revoke(options.name, now);
  if (!revoked) return revoked.error();
  if (auto status = remove_user(config->users_dir(), options.name); !status) return status;
  const auto reloaded = reload_after_revocation(options.place, options.name);
  if (!reloaded) return reloaded.error();
  report_revoked(options.name, *revoked, *reloaded, out);
  return {};
}

Status export_command(const ExportOptions& options, std::ostream& out) {
  if (auto status = check_user_name(options.name); !status) return status;
  const auto config = load_config(options.place.config_file());
  if (!config) return config.error();
  const auto store = PkiStore::open(config->dir);
  if (!store) return store.error();
  const auto credentials = store->credentials(options.name, wall_now());
  if (!credentials) return credentials.error();

  const std::string dir = absolute_path(options.out);
  const std::string base = dir + "/" + options.name;
  const SignalHold hold;
  NewFiles files;
  if (auto made = files.folder(dir, {.mode = 0700, .owner = std::nullopt}); !made) {
    return made.error();
  }
  auto status = files.file(base + ".crt", credentials->certificate_pem, {});
  if (status) status = files.file(base + ".key", as_text(credentials->key_pem.bytes()), {});
  // The CA is the same for everybody: a second export into the folder finds it there.
  const std::string ca_file = dir + "/ca.crt";
  if (status && read_file(ca_file).value_or("") != store->ca_certificate_pem()) {
    status = files.file(ca_file, store->ca_certificate_pem(), {});
  }
  if (!status) return status;
  if (hold.pending()) return fail(ErrorCode::kFailure, "interrupted; nothing was left behind");
  files.keep();

  const std::string name = options.name;
  out << "Wrote in " << options.out << ":\n  " << name << ".crt, " << name
      << ".key   certificate (until " << date_of(credentials->record.info.not_after)
      << ") and private key\n  ca.crt   the CA that signed the server's certificate\n"
      << "\nFor example with a stock client:\n  openconnect --protocol=anyconnect --certificate "
      << name << ".crt --sslkey " << name << ".key --cafile ca.crt https://"
      << config->profile.address << "/\n";
  return {};
}

}  // namespace culvert::server
