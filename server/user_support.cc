#include "server/user_support.h"

#include <algorithm>
#include <ostream>
#include <string_view>

#include "common/base/file.h"
#include "common/base/text.h"
#include "server/identity.h"

namespace culvert::server {

std::string date_of(WallTime time) {
  return to_iso8601(time).substr(0, 10);
}

ClientProfile profile_for(const ServerConfig& config, const PkiStore& store,
                          const UserCredentials& credentials) {
  ClientProfile profile;
  profile.name = config.profile.name;
  profile.address = config.profile.address;
  profile.user = credentials.record.user;
  profile.ca_pem = store.ca_certificate_pem();
  profile.certificate_pem = credentials.certificate_pem;
  profile.key_pem = as_text(credentials.key_pem.bytes());
  return profile;
}

// A server that trusts another CA, or looks at another revocation list, is not run by our files.
Status check_store_is_used(const ServerConfig& config, const PkiStore& store) {
  const auto trusted = read_file(config.tls.client_ca);
  if (!trusted) return trusted.error();
  const auto cas = tls::read_certificates(*trusted);
  if (!cas) return cas.error();
  const bool ours = std::any_of(cas->begin(), cas->end(), [&](const tls::CertificateInfo& info) {
    return info.fingerprint == store.ca().fingerprint;
  });
  if (ours) return {};
  return fail(ErrorCode::kUsage, "the server does not trust the CA in " + store.dir(),
              config.tls.client_ca, "tls.client_ca names other certificates");
}

Status check_name_is_found(const ServerConfig& config, const std::string& name) {
  const std::string found = name_in_own(name, config.identity);
  if (found == name) return {};
  if (!found.empty()) {
    return fail(ErrorCode::kUsage, "the server would call this user " + found, name,
                "identity.strip_domain is set in " + config.file + ": use the name " + found);
  }
  return fail(ErrorCode::kUsage,
              "certificates made here have a common name only, and the server does not look at it",
              config.file,
              "identity.user = \"cn\" takes it; or have the certificate issued elsewhere");
}

Error no_such_user(const std::string& name, const std::map<std::string, User, std::less<>>& users) {
  std::vector<std::string_view> names;
  names.reserve(users.size());
  for (const auto& entry : users)
    names.push_back(entry.first);
  const auto near = nearest(name, names);
  return fail(
      ErrorCode::kFailure, "there is no such user", name,
      near ? "did you mean " + std::string(*near) + "?" : "culvertd user list shows who there is");
}

Status check_crl_is_used(const ServerConfig& config, const PkiStore& store) {
  if (config.tls.crl == store.crl_file()) return {};
  return fail(ErrorCode::kUsage,
              "the server does not read " + store.crl_file() + ", so revoking would be in vain",
              "tls.crl", "set crl = \"" + std::string(kCrlFile) + "\" in " + config.file);
}

void report_reload(const Place& place, std::ostream& out) {
  const auto reloaded = reload_running_server(place);
  if (!reloaded) {
    out << "The running server could not be told: " << reloaded.error().message()
        << ". When that is mended: culvertd reload\n";
  } else if (reloaded->told) {
    out << "The running server knows it.\n";
  }
}

Result<Reloaded> reload_after_revocation(const Place& place, const std::string& who) {
  auto reloaded = reload_running_server(place);
  if (reloaded) return reloaded;
  Error error = reloaded.error();
  error.what = "revoked, but the running server could not be told and still serves " + who + ": " +
               error.what;
  error.hint = "culvertd reload, or restart it";
  return error;
}

void report_revoked(const std::string& name, const std::vector<IssuedCertificate>& revoked,
                    const Reloaded& reloaded, std::ostream& out) {
  if (revoked.empty()) {
    out << name << " has no valid certificate left to revoke.\n";
  } else {
    out << "Revoked " << name << ":\n";
  }
  for (const IssuedCertificate& record : revoked) {
    out << "  certificate " << record.info.serial_hex << ", was valid until "
        << date_of(record.info.not_after) << "\n";
  }
  if (!reloaded.told) {
    out << reloaded.note << "\n";
    return;
  }
  out << "The running server knows it; sessions ended: " << reloaded.sessions_ended << ".\n";
}

}  // namespace culvert::server
