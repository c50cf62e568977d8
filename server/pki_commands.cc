// culvertd pki init, issue, revoke and crl: the certificate authority by itself, also where no
// server runs.
#include <algorithm>
#include <filesystem>
#include <ostream>

#include "common/base/scope_exit.h"
#include "common/base/text.h"
#include "common/control/protocol.h"
#include "server/new_files.h"
#include "server/paths.h"
#include "server/signal_hold.h"
#include "server/user_support.h"

namespace culvert::server {
namespace {

// Where the CA is: beside the configuration, which need not be there.
std::string ca_dir(const Place& place) {
  if (place.config.empty()) return config_dir(place.dir);
  return std::filesystem::path(place.config_file()).parent_path().string();
}

std::string days_hint(const PkiStore& store) {
  return "the CA is valid until " + date_of(store.ca().not_after);
}

Result<ServerNames> server_names(const PkiIssueOptions& options) {
  ServerNames names;
  names.common_name = options.name;
  std::vector<std::string> hosts = options.hosts;
  hosts.insert(hosts.begin(), options.name);
  for (const std::string& host : hosts) {
    if (!is_host_name(host) && !IpAddress::parse(host)) {
      return fail(ErrorCode::kUsage, "neither a host name nor an IP address", host);
    }
    names.add(host);
  }
  return names;
}

// All certificates that the word means: a serial number or a name.
Result<std::vector<IssuedCertificate>> find_certificates(const PkiStore& store,
                                                         const std::string& what, WallTime now) {
  auto all = store.certificates({}, now);
  if (!all) return all;
  std::string serial = what;
  std::transform(serial.begin(), serial.end(), serial.begin(), [](unsigned char c) {
    return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : static_cast<char>(c);
  });
  std::erase_if(*all, [&](const IssuedCertificate& record) {
    return record.user != what && record.info.serial_hex != serial;
  });
  if (!all->empty()) return all;
  return fail(ErrorCode::kFailure, "no certificate with this name or serial number was issued here",
              what, "culvertd user list, or the names of the files in " + store.dir() + "/issued");
}

// The configuration is read to find out whether a server has to be told; a CA may be without one.
bool has_configuration(const Place& place) {
  std::error_code ignored;
  return std::filesystem::exists(place.config_file(), ignored);
}

}  // namespace

Status pki_init_command(const PkiInitOptions& options, std::ostream& out) {
  const std::string dir = ca_dir(options.place);
  auto pki = make_ca(options.name, wall_now());
  if (!pki) return pki.error();
  const SignalHold hold;
  NewFiles files;
  if (auto status = files.parents_of(dir); !status) return status;
  if (auto made = files.folder(dir, {.mode = 0700, .owner = std::nullopt}); !made) {
    return made.error();
  }
  auto status = files.file(dir + "/" + std::string(kCaKeyFile), as_text(pki->ca_key.bytes()), {});
  if (status)
    status = files.file(dir + "/" + std::string(kCaCertificateFile), pki->ca_certificate, {});
  if (status) status = files.file(dir + "/" + std::string(kCrlFile), pki->crl, {});
  if (!status) return status;
  if (hold.pending()) return fail(ErrorCode::kFailure, "interrupted; nothing was left behind");
  files.keep();
  out << "Made in " << dir << ":\n  ca.crt, ca.key   the CA, " << kCaDays / 365
      << " years; keep a copy of ca.key in a safe place\n"
      << "  ca.crl           its revocation list, empty\n"
      << "\nNext:\n  culvertd pki issue NAME --server --out DIR --dir " << dir
      << "\n  culvertd pki issue NAME --out DIR --dir " << dir << "\n";
  return {};
}

Status pki_issue_command(const PkiIssueOptions& options, std::ostream& out) {
  // Also a folder's name; a server may have an address for its name.
  const bool address = options.server && IpAddress::parse(options.name);
  if (!address) {
    if (auto status = check_user_name(options.name, "name"); !status) return status;
  }
  if (!options.group.empty()) {
    if (auto status = check_user_name(options.group, "group"); !status) return status;
  }
  if (!options.server && !options.hosts.empty()) {
    return fail(ErrorCode::kUsage, "names of hosts are for a server's certificate", "--host",
                "add --server");
  }
  auto store = PkiStore::open(ca_dir(options.place));
  if (!store) return store.error();
  IssueOrder order{.name = options.name,
                   .group = options.group,
                   .days = options.server ? kServerDays : kUserDays,
                   .server = {}};
  if (options.days != 0) order.days = options.days;
  if (options.server) {
    auto names = server_names(options);
    if (!names) return names.error();
    order.server = std::move(*names);
  }
  if (auto status = store->lock(); !status) return status;

  const SignalHold hold;
  auto credentials = store->issue(order, wall_now());
  if (!credentials) {
    Error error = credentials.error();
    if (error.hint.empty()) error.hint = days_hint(*store);
    return error;
  }
  ScopeExit undo([&] { store->discard(credentials->record); });
  const std::string dir = absolute_path(options.out);
  const std::string base = dir + "/" + options.name;
  NewFiles files;
  if (auto made = files.folder(dir, {.mode = 0700, .owner = std::nullopt}); !made) {
    return made.error();
  }
  auto status = files.file(base + ".crt", credentials->certificate_pem, {});
  if (status) status = files.file(base + ".key", as_text(credentials->key_pem.bytes()), {});
  if (!status) return status;
  if (hold.pending()) return fail(ErrorCode::kFailure, "interrupted; nothing was left behind");
  undo.dismiss();
  files.keep();
  out << "Issued to " << options.name << (options.server ? ", a server" : "") << ", serial number "
      << credentials->record.info.serial_hex << ", valid until "
      << date_of(credentials->record.info.not_after) << ":\n  " << base << ".crt\n  " << base
      << ".key   whoever has it is " << options.name << "\n";
  return {};
}

Status pki_revoke_command(const PkiRevokeOptions& options, std::ostream& out) {
  auto store = PkiStore::open(ca_dir(options.place));
  if (!store) return store.error();
  const bool served = has_configuration(options.place);
  if (served) {
    const auto config = load_config(options.place.config_file());
    if (!config) return config.error();
    if (auto status = check_crl_is_used(*config, *store); !status) return status;
  }
  if (auto status = store->lock(); !status) return status;
  const WallTime now = wall_now();
  auto found = find_certificates(*store, options.what, now);
  if (!found) return found.error();
  const auto revoked = store->revoke(std::move(*found), now);
  if (!revoked) return revoked.error();
  Reloaded reloaded{.told = false,
                    .note = "Take " + store->crl_file() + " to whoever checks it.",
                    .sessions_ended = 0};
  if (served) {
    auto told = reload_after_revocation(options.place, options.what);
    if (!told) return told.error();
    reloaded = std::move(*told);
  }
  report_revoked(options.what, *revoked, reloaded, out);
  return {};
}

Status pki_crl_command(const PkiCrlOptions& options, std::ostream& out) {
  auto store = PkiStore::open(ca_dir(options.place));
  if (!store) return store.error();
  if (auto status = store->lock(); !status) return status;
  const auto crl = store->renew_crl(wall_now());
  if (!crl) return crl.error();
  if (options.json) {
    control::Json list = control::Json::array();
    for (const tls::RevokedEntry& entry : crl->revoked)
      list.push_back({{"serial", to_hex(entry.serial)}, {"when", to_iso8601(entry.when)}});
    out << control::pretty(
               {{"file", store->crl_file()},
                {"number", crl->number.value_or(0)},
                {"this_update", to_iso8601(crl->this_update)},
                {"next_update", crl->next_update ? control::Json(to_iso8601(*crl->next_update))
                                                 : control::Json(nullptr)},
                {"revoked", list}})
        << "\n";
    return {};
  }
  out << store->crl_file() << " is new: number " << crl->number.value_or(0) << ", from "
      << date_of(crl->this_update);
  if (crl->next_update) out << " to " << date_of(*crl->next_update);
  out << ", " << crl->revoked.size() << " revoked.\n";
  for (const tls::RevokedEntry& entry : crl->revoked)
    out << "  " << to_hex(entry.serial) << "  " << date_of(entry.when) << "\n";
  if (has_configuration(options.place)) report_reload(options.place, out);
  return {};
}

}  // namespace culvert::server
