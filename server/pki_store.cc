#include "server/pki_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <utility>

#include "common/base/file.h"
#include "common/base/scope_exit.h"
#include "common/tls/issue.h"
#include "server/users.h"

namespace culvert::server {
namespace {

using std::chrono::days;
using std::chrono::hours;

constexpr std::string_view kCertificateSuffix = ".crt";
constexpr std::string_view kKeySuffix = ".key";
constexpr std::string_view kOrganization = "Culvert";
// For clients whose clock is behind.
constexpr hours kBackdate{1};

std::string join(const std::string& dir, std::string_view name) {
  return dir + "/" + std::string(name);
}

Result<std::vector<std::string>> names_in(const std::string& path) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  if (!folder && errno == ENOENT) return names;
  if (!folder) {
    return fail_errno(errno == EACCES ? ErrorCode::kPermission : ErrorCode::kFailure, errno,
                      "cannot read the folder", path);
  }
  while (const dirent* entry = ::readdir(folder.get())) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Status make_private_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return fail_errno(errno == EACCES ? ErrorCode::kPermission : ErrorCode::kFailure, errno,
                    "cannot create the folder", path);
}

CertificateState state_of(const tls::CertificateInfo& info, const tls::CrlInfo& crl, WallTime now) {
  const bool revoked =
      std::any_of(crl.revoked.begin(), crl.revoked.end(),
                  [&](const tls::RevokedEntry& entry) { return entry.serial == info.serial; });
  if (revoked) return CertificateState::kRevoked;
  return info.not_after < now ? CertificateState::kExpired : CertificateState::kValid;
}

Result<std::string> ca_certificate(const Secret& key, const std::string& name, WallTime now) {
  tls::IssueRequest request;
  // A common name has at most 64 bytes; the name of a server may be longer.
  request.common_name = name.substr(0, 64);
  request.organization = kOrganization;
  request.not_before = now - kBackdate;
  request.not_after = now + days(kCaDays);
  request.is_ca = true;
  request.key_pem = &key;
  return tls::issue_certificate(request);
}

Result<std::string> make_server(const Secret& key, const tls::Issuer& issuer,
                                const ServerNames& names, WallTime now) {
  tls::IssueRequest request;
  request.common_name = names.common_name.substr(0, 64);
  request.organization = kOrganization;
  request.dns_names = names.dns_names;
  request.ip_addresses = names.ip_addresses;
  request.not_before = now - kBackdate;
  request.not_after = now + days(kServerDays);
  request.purposes = {tls::Purpose::kServerAuth};
  request.key_pem = &key;
  request.issuer = issuer;
  return tls::issue_certificate(request);
}

Error nothing_valid(std::string_view user, const std::vector<IssuedCertificate>& all) {
  const std::string name(user);
  if (all.empty()) {
    return fail(ErrorCode::kFailure, "no certificate was ever issued to this user", name,
                "culvertd user list shows who there is");
  }
  return fail(ErrorCode::kFailure,
              "the user's certificate is " + std::string(name_of(all.back().state)), name,
              "culvertd user add " + name + " --profile FILE issues a new one");
}

}  // namespace

void ServerNames::add(std::string_view host) {
  if (const auto address = IpAddress::parse(host)) {
    if (std::find(ip_addresses.begin(), ip_addresses.end(), *address) == ip_addresses.end()) {
      ip_addresses.push_back(*address);
    }
    return;
  }
  if (std::find(dns_names.begin(), dns_names.end(), host) == dns_names.end()) {
    dns_names.emplace_back(host);
  }
}

Result<NewPki> make_ca(const std::string& name, WallTime now) {
  NewPki out;
  auto ca_key = tls::generate_key();
  if (!ca_key) return ca_key.error();
  out.ca_key = std::move(*ca_key);
  auto ca = ca_certificate(out.ca_key, name, now);
  if (!ca) return ca.error();
  out.ca_certificate = std::move(*ca);

  tls::CrlRequest empty;
  empty.issuer = {out.ca_certificate, &out.ca_key};
  empty.this_update = now - kBackdate;
  empty.next_update = now + days(kCaDays);
  empty.number = 1;
  auto crl = tls::write_crl(empty);
  if (!crl) return crl.error();
  out.crl = std::move(*crl);
  return out;
}

Result<NewPki> make_pki(const ServerNames& names, WallTime now) {
  auto out = make_ca("Culvert CA " + names.common_name, now);
  if (!out) return out;
  auto server_key = tls::generate_key();
  if (!server_key) return server_key.error();
  out->server_key = std::move(*server_key);
  const tls::Issuer issuer{out->ca_certificate, &out->ca_key};
  auto server = make_server(out->server_key, issuer, names, now);
  if (!server) return server.error();
  out->server_certificate = std::move(*server);
  return out;
}

PkiStore::PkiStore(std::string dir, std::string ca_pem, tls::CertificateInfo ca)
    : dir_(std::move(dir)), ca_pem_(std::move(ca_pem)), ca_(std::move(ca)) {}

Result<PkiStore> PkiStore::open(const std::string& dir) {
  const std::string file = join(dir, kCaCertificateFile);
  auto pem = read_file(file);
  if (!pem) {
    Error error = pem.error();
    if (error.code == ErrorCode::kUsage) error.hint = "culvertd init makes a CA";
    return error;
  }
  auto info = tls::read_certificate(*pem);
  if (!info) {
    Error error = info.error();
    error.where = file;
    return error;
  }
  return PkiStore(dir, std::move(*pem), std::move(*info));
}

Status PkiStore::lock() {
  UniqueFd folder(::open(dir_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) {
    return fail_errno(ErrorCode::kFailure, errno, "cannot open the folder", dir_);
  }
  while (::flock(folder.get(), LOCK_EX) != 0) {
    if (errno != EINTR) {
      return fail_errno(ErrorCode::kFailure, errno, "cannot lock the folder", dir_);
    }
  }
  lock_ = std::move(folder);
  return {};
}

Result<Secret> PkiStore::ca_key() const {
  auto key = read_secret_file(join(dir_, kCaKeyFile));
  if (key) return key;
  Error error = key.error();
  error.hint = error.code == ErrorCode::kPermission
                   ? "only root may use the CA's key: run this as root"
                   : "without the CA's key nothing can be issued or revoked here";
  return error;
}

Result<tls::CrlInfo> PkiStore::read_crl() const {
  const auto pem = read_file(crl_file());
  if (!pem) return pem.error();
  auto crl = tls::read_crl(*pem);
  if (crl) return crl;
  Error error = crl.error();
  error.where = crl_file();
  return error;
}

std::string PkiStore::issued_dir(std::string_view user) const {
  return join(join(dir_, kIssuedFolder), user);
}

Status PkiStore::read_folder(const std::string& user, const tls::CrlInfo& crl, WallTime now,
                             std::vector<IssuedCertificate>& out) const {
  const std::string folder = issued_dir(user);
  const auto names = names_in(folder);
  if (!names) return names.error();
  std::vector<IssuedCertificate> found;
  for (const std::string& name : *names) {
    if (!name.ends_with(kCertificateSuffix)) continue;
    IssuedCertificate record;
    record.user = user;
    record.certificate_file = join(folder, name);
    record.key_file = record.certificate_file.substr(
                          0, record.certificate_file.size() - kCertificateSuffix.size()) +
                      std::string(kKeySuffix);
    const auto pem = read_file(record.certificate_file);
    if (!pem) return pem.error();
    auto info = tls::read_certificate(*pem);
    if (!info) {
      Error error = info.error();
      error.where = record.certificate_file;
      return error;
    }
    record.info = std::move(*info);
    record.state = state_of(record.info, crl, now);
    found.push_back(std::move(record));
  }
  // Of two that begin in the same second the file tells which one is younger.
  const auto age = [](const IssuedCertificate& record) {
    std::error_code ignored;
    return std::pair(record.info.not_before,
                     std::filesystem::last_write_time(record.certificate_file, ignored));
  };
  std::sort(
      found.begin(), found.end(),
      [&](const IssuedCertificate& a, const IssuedCertificate& b) { return age(a) < age(b); });
  std::move(found.begin(), found.end(), std::back_inserter(out));
  return {};
}

Result<std::vector<IssuedCertificate>> PkiStore::certificates(std::string_view user,
                                                              WallTime now) const {
  const auto crl = read_crl();
  if (!crl) return crl.error();
  std::vector<IssuedCertificate> out;
  if (!user.empty()) {
    if (auto status = check_user_name(user); !status) return status.error();
    if (auto status = read_folder(std::string(user), *crl, now, out); !status) {
      return status.error();
    }
    return out;
  }
  const auto users = names_in(join(dir_, kIssuedFolder));
  if (!users) return users.error();
  for (const std::string& name : *users) {
    if (auto status = read_folder(name, *crl, now, out); !status) return status.error();
  }
  return out;
}

Result<std::vector<IssuedCertificate>> PkiStore::client_certificates(std::string_view user,
                                                                     WallTime now) const {
  auto all = certificates(user, now);
  if (!all) return all;
  std::erase_if(*all, [](const IssuedCertificate& record) {
    const auto& purposes = record.info.purposes;
    return !record.info.any_purpose &&
           std::find(purposes.begin(), purposes.end(), tls::Purpose::kClientAuth) == purposes.end();
  });
  return all;
}

Result<UserCredentials> PkiStore::issue(const IssueOrder& order, WallTime now) const {
  const std::string& user = order.name;
  const WallTime not_after = now + days(order.days);
  if (not_after > ca_.not_after) {
    return fail(ErrorCode::kUsage, "the certificate would outlive its CA",
                std::to_string(order.days) + " days",
                "the CA is valid until " + to_iso8601(ca_.not_after));
  }
  const auto signing_key = ca_key();
  if (!signing_key) return signing_key.error();
  UserCredentials out;
  auto key = tls::generate_key();
  if (!key) return key.error();
  out.key_pem = std::move(*key);

  tls::IssueRequest request;
  request.common_name = user;
  request.organizational_unit = order.group;
  request.organization = kOrganization;
  request.not_before = now - kBackdate;
  request.not_after = not_after;
  request.purposes = {order.server ? tls::Purpose::kServerAuth : tls::Purpose::kClientAuth};
  if (order.server) {
    request.dns_names = order.server->dns_names;
    request.ip_addresses = order.server->ip_addresses;
  }
  request.key_pem = &out.key_pem;
  request.issuer = tls::Issuer{ca_pem_, &*signing_key};
  auto pem = tls::issue_certificate(request);
  if (!pem) return pem.error();
  out.certificate_pem = std::move(*pem);
  auto info = tls::read_certificate(out.certificate_pem);
  if (!info) return info.error();

  out.record.user = user;
  out.record.info = std::move(*info);
  const std::string base = join(issued_dir(user), out.record.info.serial_hex);
  out.record.certificate_file = base + std::string(kCertificateSuffix);
  out.record.key_file = base + std::string(kKeySuffix);
  for (const std::string& folder : {join(dir_, kIssuedFolder), issued_dir(user)}) {
    if (auto status = make_private_folder(folder); !status) return status.error();
  }
  ScopeExit undo([&] { discard(out.record); });
  auto status = create_file(out.record.key_file, as_text(out.key_pem.bytes()));
  if (status) status = create_file(out.record.certificate_file, out.certificate_pem);
  if (!status) return status.error();
  undo.dismiss();
  return out;
}

void PkiStore::discard(const IssuedCertificate& record) const {
  ::unlink(record.certificate_file.c_str());
  ::unlink(record.key_file.c_str());
  ::rmdir(issued_dir(record.user).c_str());  // fails if others are left: as it should
}

Result<std::vector<IssuedCertificate>> PkiStore::revoke(std::string_view user, WallTime now) {
  auto all = client_certificates(user, now);
  if (!all) return all.error();
  return revoke(std::move(*all), now);
}

Result<std::vector<IssuedCertificate>> PkiStore::revoke(std::vector<IssuedCertificate> certificates,
                                                        WallTime now) {
  std::erase_if(certificates, [](const IssuedCertificate& record) {
    return record.state != CertificateState::kValid;
  });
  if (certificates.empty()) return certificates;
  auto crl = read_crl();
  if (!crl) return crl.error();
  for (IssuedCertificate& record : certificates) {
    crl->revoked.push_back({record.info.serial, now, tls::RevocationReason::kUnspecified});
    record.state = CertificateState::kRevoked;
  }
  if (Status written = write_crl(*crl, now); !written) return written.error();
  return certificates;
}

Result<tls::CrlInfo> PkiStore::renew_crl(WallTime now) {
  const auto crl = read_crl();
  if (!crl) return crl.error();
  if (Status written = write_crl(*crl, now); !written) return written.error();
  return read_crl();
}

// What `crl` lists, with its next number.
Status PkiStore::write_crl(const tls::CrlInfo& crl, WallTime now) const {
  const auto key = ca_key();
  if (!key) return key.error();
  tls::CrlRequest request;
  request.issuer = tls::Issuer{ca_pem_, &*key};
  request.revoked = crl.revoked;
  // A list from the future would be no list: the last one may be younger than a clock set back.
  request.this_update = now - kBackdate;
  request.next_update = ca_.not_after;
  request.number = crl.number.value_or(0) + 1;
  const auto pem = tls::write_crl(request);
  if (!pem) return pem.error();
  return replace_file(crl_file(), *pem);
}

Result<UserCredentials> PkiStore::credentials(std::string_view user, WallTime now) const {
  auto all = client_certificates(user, now);
  if (!all) return all.error();
  const auto newest = std::find_if(all->rbegin(), all->rend(), [](const IssuedCertificate& record) {
    return record.state == CertificateState::kValid;
  });
  if (newest == all->rend()) return nothing_valid(user, *all);
  UserCredentials out;
  out.record = *newest;
  auto certificate = read_file(out.record.certificate_file);
  if (!certificate) return certificate.error();
  out.certificate_pem = std::move(*certificate);
  auto key = read_secret_file(out.record.key_file);
  if (!key) return key.error();
  out.key_pem = std::move(*key);
  return out;
}

std::string_view name_of(CertificateState state) {
  switch (state) {
    case CertificateState::kValid:
      return "valid";
    case CertificateState::kExpired:
      return "expired";
    case CertificateState::kRevoked:
      return "revoked";
  }
  return "valid";
}

}  // namespace culvert::server
