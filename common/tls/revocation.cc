#include "common/tls/revocation.h"

#include <utility>

#include "common/tls/mbedtls_objects.h"
#include "common/tls/mbedtls_peek.h"

namespace culvert::tls {
namespace {

Sha256 key_of(const mbedtls_x509_crt& ca) {
  std::string identity(as_text(bytes_of(ca.subject_raw)));
  identity += as_text(bytes_of(ca.pk_raw));
  return sha256(as_bytes(identity));
}

Error bad(const CrlInfo& crl, std::string what, std::string hint = {}) {
  return fail(ErrorCode::kUsage, "the revocation list of " + crl.issuer + " " + std::move(what),
              "CRL", std::move(hint));
}

// The trusted CA that signed the list.
Result<const mbedtls_x509_crt*> find_signer(const mbedtls_x509_crl& crl, const CrlInfo& info,
                                            const mbedtls_x509_crt* trusted,
                                            const mbedtls_x509_crt_profile& profile) {
  bool name_found = false;
  for (const mbedtls_x509_crt* ca = trusted; ca != nullptr; ca = ca->next) {
    if (!same_bytes(ca->subject_raw, crl.issuer_raw)) continue;
    name_found = true;
    if (culvert_verify_crl_signature(&crl, ca, &profile) != 0) continue;
    if (mbedtls_x509_crt_check_key_usage(ca, MBEDTLS_X509_KU_CRL_SIGN) != 0) {
      return bad(info, "is signed by a CA whose certificate does not allow that (key usage)");
    }
    return ca;
  }
  if (name_found) return bad(info, "is not signed by the trusted CA of that name (another key?)");
  return bad(info, "belongs to no trusted CA", "add that CA's certificate to the trusted ones");
}

std::unordered_set<std::string> serials_of(const mbedtls_x509_crl& crl) {
  std::unordered_set<std::string> serials;
  for (const mbedtls_x509_crl_entry* entry = &crl.entry; entry != nullptr; entry = entry->next) {
    if (entry->raw.len == 0) break;  // the embedded first entry of an empty list
    serials.emplace(as_text(bytes_of(entry->serial)));
  }
  return serials;
}

}  // namespace

Result<RevocationLists> RevocationLists::build(std::string_view pem,
                                               const mbedtls_x509_crt* trusted,
                                               const mbedtls_x509_crt_profile& profile) {
  RevocationLists lists;
  if (pem.empty()) return lists;
  CrlList parsed;
  if (const auto status = parse_crls(pem, "CRL", parsed); !status) return status.error();
  for (const mbedtls_x509_crl* crl = parsed.get(); crl != nullptr; crl = crl->next) {
    CrlInfo info = info_of(*crl);
    const auto signer = find_signer(*crl, info, trusted, profile);
    if (!signer) return signer.error();
    List& slot = lists.by_ca_[key_of(**signer)];
    if (!slot.info.issuer.empty() && slot.info.this_update >= info.this_update) continue;
    slot = {std::move(info), serials_of(*crl)};
  }
  return lists;
}

RevocationLists::Answer RevocationLists::ask(const mbedtls_x509_crt& certificate,
                                             const mbedtls_x509_crt& issuer, WallTime now) const {
  const auto found = by_ca_.find(key_of(issuer));
  if (found == by_ca_.end()) return Answer::kNoList;
  const List& list = found->second;
  // What a stale list revokes stays revoked.
  if (list.serials.contains(std::string(as_text(bytes_of(certificate.serial))))) {
    return Answer::kRevoked;
  }
  if (list.info.next_update && *list.info.next_update < now) return Answer::kListExpired;
  if (list.info.this_update > now) return Answer::kListNotYetValid;
  return Answer::kGood;
}

std::vector<CrlInfo> RevocationLists::infos() const {
  std::vector<CrlInfo> all;
  for (const auto& [ca, list] : by_ca_)
    all.push_back(list.info);
  return all;
}

}  // namespace culvert::tls
