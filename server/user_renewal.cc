// culvertd user renew and show: what comes after `user add`.
#include <algorithm>
#include <ostream>

#include "common/base/scope_exit.h"
#include "common/base/text.h"
#include "common/control/protocol.h"
#include "server/new_files.h"
#include "server/paths.h"
#include "server/running_server.h"
#include "server/signal_hold.h"
#include "server/user_support.h"

namespace culvert::server {
namespace {

using control::Json;

// The certificate and the profile, both or none.
Result<UserCredentials> write_renewal(const ServerConfig& config, const PkiStore& store,
                                      const IssueOrder& order, const std::string& profile,
                                      WallTime now) {
  const SignalHold hold;
  auto credentials = store.issue(order, now);
  if (!credentials) return credentials;
  ScopeExit undo([&] { store.discard(credentials->record); });
  NewFiles files;
  const std::string text = to_toml(profile_for(config, store, *credentials));
  if (auto status = files.file(absolute_path(profile), text, {}); !status) return status.error();
  if (hold.pending()) return fail(ErrorCode::kFailure, "interrupted; nothing was left behind");
  undo.dismiss();
  files.keep();
  return credentials;
}

Json to_json(const IssuedCertificate& record) {
  return {{"serial", record.info.serial_hex},
          {"state", name_of(record.state)},
          {"not_before", to_iso8601(record.info.not_before)},
          {"not_after", to_iso8601(record.info.not_after)},
          {"sha256", to_hex(record.info.fingerprint)},
          {"key", record.info.key_type},
          {"file", record.certificate_file}};
}

// Those of the running server; nothing if none runs.
std::optional<Json> sessions_of(const Place& place, const std::string& name) {
  if (!is_running(place)) return std::nullopt;
  const auto answer = ask_server(place.control_socket(), "sessions");
  if (!answer) return std::nullopt;
  Json mine = Json::array();
  for (const Json& session : answer->value("sessions", Json::array())) {
    if (session.value("user", "") == name) mine.push_back(session);
  }
  return mine;
}

Json described(const std::string& name, const std::optional<User>& user,
               const std::vector<IssuedCertificate>& issued, const std::optional<Json>& sessions) {
  Json out = {{"user", name},
              {"group", user ? user->group : ""},
              {"ipv4", nullptr},
              {"ipv6", nullptr},
              {"networks", Json::array()},
              {"certificates", Json::array()},
              {"sessions", sessions ? *sessions : Json(nullptr)}};
  if (user) {
    if (user->ipv4) out["ipv4"] = user->ipv4->to_string();
    if (user->ipv6) out["ipv6"] = user->ipv6->to_string();
    for (const Prefix& network : user->networks)
      out["networks"].push_back(network.to_string());
  }
  for (const IssuedCertificate& record : issued)
    out["certificates"].push_back(to_json(record));
  return out;
}

void print(const std::string& name, const std::optional<User>& user,
           const std::vector<IssuedCertificate>& issued, const std::optional<Json>& sessions,
           std::ostream& out) {
  out << name << "\n";
  if (user && !user->group.empty()) out << "  group:        " << user->group << "\n";
  if (user) {
    for (const auto& address : {user->ipv4, user->ipv6})
      if (address) out << "  address:      " << address->to_string() << "\n";
    for (const Prefix& network : user->networks)
      out << "  network:      " << network.to_string() << "\n";
  }
  for (const IssuedCertificate& record : issued) {
    out << "  certificate:  " << record.info.serial_hex << ", " << name_of(record.state) << ", "
        << date_of(record.info.not_before) << " to " << date_of(record.info.not_after) << ", "
        << record.info.key_type << "\n"
        << "                SHA-256 " << to_hex(record.info.fingerprint) << "\n";
  }
  if (issued.empty()) out << "  certificate:  none of ours\n";
  if (!sessions) {
    out << "  sessions:     unknown, no server runs with this configuration\n";
    return;
  }
  if (sessions->empty()) out << "  sessions:     none\n";
  for (const Json& session : *sessions) {
    out << "  session:      " << session.value("id", uint64_t{0}) << ", "
        << session.value("state", "") << ", from " << session.value("remote", "") << "\n";
  }
}

}  // namespace

Status user_renew_command(const UserRenewOptions& options, std::ostream& out) {
  if (auto status = check_user_name(options.name); !status) return status;
  const auto config = load_config(options.place.config_file());
  if (!config) return config.error();
  auto store = PkiStore::open(config->dir);
  if (!store) return store.error();
  if (auto status = check_store_is_used(*config, *store); !status) return status;
  if (auto status = check_name_is_found(*config, options.name); !status) return status;
  if (options.revoke_old) {
    if (auto status = check_crl_is_used(*config, *store); !status) return status;
  }
  if (auto status = store->lock(); !status) return status;

  const WallTime now = wall_now();
  const auto users = read_users(config->users_dir());
  if (!users) return users.error();
  const auto before = store->client_certificates(options.name, now);
  if (!before) return before.error();
  const auto user = users->find(options.name);
  if (before->empty() && user == users->end()) return no_such_user(options.name, *users);
  if (user == users->end()) {
    return fail(ErrorCode::kUsage, "this user was revoked", options.name,
                "culvertd user add " + options.name + " --profile FILE lets him in again");
  }
  const auto credentials = write_renewal(*config, *store,
                                         {.name = options.name,
                                          .group = user->second.group,
                                          .days = options.days != 0 ? options.days : kUserDays,
                                          .server = {}},
                                         options.profile, now);
  if (!credentials) return credentials.error();
  out << "Renewed " << options.name << "; the new certificate is valid until "
      << date_of(credentials->record.info.not_after) << ".\n  " << options.profile
      << "   the new profile\n";
  if (options.revoke_old) {
    const auto revoked = store->revoke(*before, now);
    if (!revoked) return revoked.error();
    const auto reloaded = reload_after_revocation(options.place, options.name);
    if (!reloaded) return reloaded.error();
    report_revoked(options.name, *revoked, *reloaded, out);
  } else if (std::any_of(before->begin(), before->end(), [](const IssuedCertificate& record) {
               return record.state == CertificateState::kValid;
             })) {
    out << "The old one is good until it expires, so that nobody is shut out meanwhile;\n"
        << "culvertd pki revoke " << before->back().info.serial_hex << " ends it.\n";
  }
  out << "\nNext: bring the profile to " << options.name
      << " by a safe way; on the other machine:\n"
      << "  culvert import " << options.profile << " --name NAME\n";
  return {};
}

Status user_show_command(const UserShowOptions& options, std::ostream& out) {
  if (auto status = check_user_name(options.name); !status) return status;
  const auto config = load_config(options.place.config_file());
  if (!config) return config.error();
  const auto users = read_users(config->users_dir());
  if (!users) return users.error();
  std::vector<IssuedCertificate> issued;
  // A server with certificates from elsewhere has users all the same.
  if (const auto store = PkiStore::open(config->dir)) {
    auto all = store->client_certificates(options.name, wall_now());
    if (!all) return all.error();
    issued = std::move(*all);
  } else if (store.error().code != ErrorCode::kUsage) {
    return store.error();
  }
  const auto found = users->find(options.name);
  const auto sessions = sessions_of(options.place, options.name);
  const bool connected = sessions && !sessions->empty();
  if (found == users->end() && issued.empty() && !connected)
    return no_such_user(options.name, *users);
  const std::optional<User> user =
      found != users->end() ? std::optional(found->second) : std::nullopt;
  if (options.json)
    out << control::pretty(described(options.name, user, issued, sessions)) << "\n";
  else
    print(options.name, user, issued, sessions, out);
  return {};
}

}  // namespace culvert::server
