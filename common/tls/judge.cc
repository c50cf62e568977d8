#include "common/tls/judge.h"

#include <mbedtls/oid.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "common/base/text.h"

namespace culvert::tls {
namespace {

constexpr size_t kNamesInText = 5;

constexpr uint32_t kWeakFlags =
    MBEDTLS_X509_BADCERT_BAD_MD | MBEDTLS_X509_BADCERT_BAD_PK | MBEDTLS_X509_BADCERT_BAD_KEY;
// Judged by our own functions, so that there is one rule.
constexpr uint32_t kOwnFlags = MBEDTLS_X509_BADCERT_CN_MISMATCH;

// What tells mbedTLS to refuse, and which alert to send.
uint32_t flag_for(Reason reason) {
  switch (reason) {
    case Reason::kAccepted:
      return 0;
    case Reason::kUnknownCa:
      return MBEDTLS_X509_BADCERT_NOT_TRUSTED;
    case Reason::kExpired:
      return MBEDTLS_X509_BADCERT_EXPIRED;
    case Reason::kNotYetValid:
      return MBEDTLS_X509_BADCERT_FUTURE;
    case Reason::kRevoked:
      return MBEDTLS_X509_BADCERT_REVOKED;
    case Reason::kWrongPurpose:
      return MBEDTLS_X509_BADCERT_EXT_KEY_USAGE;
    case Reason::kWrongName:
      return MBEDTLS_X509_BADCERT_CN_MISMATCH;
    case Reason::kWeakKey:
      return MBEDTLS_X509_BADCERT_BAD_KEY;
    case Reason::kCrlMissing:
    case Reason::kCrlExpired:
      return MBEDTLS_X509_BADCRL_EXPIRED;
    case Reason::kNoCertificate:
    case Reason::kMalformed:
      return MBEDTLS_X509_BADCERT_OTHER;
  }
  return MBEDTLS_X509_BADCERT_OTHER;
}

std::string_view who(Role own_role) {
  return own_role == Role::kServer ? "the client" : "the server";
}

// "its certificate" or "the CA certificate CN=…".
std::string which(size_t depth, const mbedtls_x509_crt& certificate) {
  return depth == 0 ? "its certificate" : "the CA certificate " + display_name(certificate.subject);
}

}  // namespace

Judge::Judge(const TlsConfig::Impl& config, std::optional<std::string> expected_name)
    : config_(config), expected_name_(std::move(expected_name)) {
  verdict_.reason = Reason::kNoCertificate;
  verdict_.text = std::string(who(config.role)) + " presented no certificate";
  if (config.role == Role::kServer) {
    verdict_.text += "; expected: one that leads to " + trusted_names();
  }
}

int Judge::on_certificate(void* judge, mbedtls_x509_crt* certificate, int depth,
                          uint32_t* flags) noexcept {
  auto& self = *static_cast<Judge*>(judge);
  try {
    const auto place = static_cast<size_t>(depth);
    if (self.chain_.size() <= place) self.chain_.resize(place + 1);
    self.chain_[place] = {certificate, *flags};
    if (depth != 0) return 0;
    self.verdict_ = self.decide();
    self.chain_.clear();
    *flags &= ~kOwnFlags;
    *flags |= flag_for(self.verdict_.reason);
    return 0;
  } catch (...) {  // out of memory; anything but 0 ends the handshake, in every mode
    return MBEDTLS_ERR_X509_ALLOC_FAILED;
  }
}

Verdict Judge::decide() const {
  constexpr std::array kChecks = {
      &Judge::check_trust,   &Judge::check_strength, &Judge::check_revoked, &Judge::check_dates,
      &Judge::check_purpose, &Judge::check_name,     &Judge::check_lists,   &Judge::check_rest,
  };
  CertificateInfo peer = info_of(leaf());
  for (const auto check : kChecks) {
    const Finding finding = (this->*check)(peer);
    if (!finding) continue;
    std::string text = finding->text + "; presented: " + describe(peer);
    if (!finding->expected.empty()) text += "; expected: " + finding->expected;
    return {finding->reason, std::move(text), std::move(peer)};
  }
  std::string text = "accepted: " + describe(peer);
  return {Reason::kAccepted, std::move(text), std::move(peer)};
}

std::string Judge::trusted_names() const {
  std::string names;
  for (size_t i = 0; i < config_.cas.size(); ++i) {
    if (i == kNamesInText) {
      return names + " or one of " + std::to_string(config_.cas.size() - i) + " more";
    }
    names += (i == 0 ? "" : " or ") + config_.cas[i].subject;
  }
  return names;
}

Judge::Finding Judge::check_trust(const CertificateInfo& /*peer*/) const {
  for (size_t depth = chain_.size(); depth-- > 0;) {
    if ((chain_[depth].flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) == 0) continue;
    const std::string issuer = display_name(chain_[depth].certificate->issuer);
    const bool same_name =
        std::any_of(config_.cas.begin(), config_.cas.end(),
                    [&issuer](const CertificateInfo& ca) { return ca.subject == issuer; });
    const std::string subject = which(depth, *chain_[depth].certificate);
    return Complaint{Reason::kUnknownCa,
                     same_name ? subject + " names the trusted CA " + issuer +
                                     " but is not signed by it (a CA of the same name with "
                                     "another key?)"
                               : subject + " does not lead to a trusted CA",
                     "issued by " + trusted_names()};
  }
  return std::nullopt;
}

Judge::Finding Judge::check_strength(const CertificateInfo& /*peer*/) const {
  for (size_t depth = 0; depth < chain_.size(); ++depth) {
    const uint32_t flags = chain_[depth].flags & kWeakFlags;
    if (flags == 0) continue;
    const mbedtls_x509_crt& certificate = *chain_[depth].certificate;
    // Too short a key of the issuer is noted at the certificate that it signed.
    const bool signature = (flags & MBEDTLS_X509_BADCERT_BAD_MD) != 0;
    return Complaint{
        Reason::kWeakKey,
        which(depth, certificate) + (signature ? " has a signature that is no longer safe"
                                               : " or its issuer has a key that is too weak (" +
                                                     info_of(certificate).key_type + ")"),
        "ECDSA P-256 or better, or RSA with 2048 bits or more, and SHA-256 or better"};
  }
  return std::nullopt;
}

template <typename Visit>
Judge::Finding Judge::for_each_issued(Visit visit) const {
  for (size_t depth = 0; depth + 1 < chain_.size(); ++depth) {
    if (Finding finding = visit(*chain_[depth].certificate, *chain_[depth + 1].certificate)) {
      return finding;
    }
  }
  // mbedTLS ends the chain at the first trusted certificate. If that is an intermediate CA, the
  // one that issued it may be trusted too, and may have revoked it.
  const mbedtls_x509_crt& anchor = *chain_.back().certificate;
  if (same_bytes(anchor.issuer_raw, anchor.subject_raw)) return std::nullopt;
  for (const mbedtls_x509_crt* ca = config_.trusted.get(); ca != nullptr; ca = ca->next) {
    if (!same_bytes(anchor.issuer_raw, ca->subject_raw)) continue;
    if (Finding finding = visit(anchor, *ca)) return finding;
  }
  return std::nullopt;
}

Judge::Finding Judge::check_revoked(const CertificateInfo& /*peer*/) const {
  const WallTime now = wall_now();
  return for_each_issued(
      [&](const mbedtls_x509_crt& certificate, const mbedtls_x509_crt& issuer) -> Finding {
        if (config_.revocation.ask(certificate, issuer, now) != RevocationLists::Answer::kRevoked) {
          return std::nullopt;
        }
        return Complaint{Reason::kRevoked, which(&certificate == &leaf() ? 0 : 1, certificate) +
                                               " was revoked by " + display_name(issuer.subject) +
                                               " (serial number " +
                                               to_hex(bytes_of(certificate.serial)) + ")"};
      });
}

Judge::Finding Judge::check_dates(const CertificateInfo& /*peer*/) const {
  for (size_t depth = 0; depth < chain_.size(); ++depth) {
    const mbedtls_x509_crt& certificate = *chain_[depth].certificate;
    if (chain_[depth].flags & MBEDTLS_X509_BADCERT_EXPIRED) {
      return Complaint{Reason::kExpired, which(depth, certificate) + " expired on " +
                                             to_iso8601(to_wall_time(certificate.valid_to)) +
                                             " (it is " + to_iso8601(wall_now()) + " now)"};
    }
    if (chain_[depth].flags & MBEDTLS_X509_BADCERT_FUTURE) {
      return Complaint{Reason::kNotYetValid, which(depth, certificate) + " is not valid before " +
                                                 to_iso8601(to_wall_time(certificate.valid_from)) +
                                                 " (it is " + to_iso8601(wall_now()) + " now)"};
    }
  }
  return std::nullopt;
}

Judge::Finding Judge::check_purpose(const CertificateInfo& peer) const {
  const bool server = config_.role == Role::kServer;
  const Purpose needed = server ? Purpose::kClientAuth : Purpose::kServerAuth;
  const std::string expected = server ? "a certificate for TLS clients (clientAuth)"
                                      : "a certificate for TLS servers (serverAuth)";
  // A self-signed server certificate that a client trusts as such is often marked as a CA.
  if (server && peer.is_ca) {
    return Complaint{Reason::kWrongPurpose, "its certificate is that of a CA", expected};
  }
  if (!peer.any_purpose &&
      std::find(peer.purposes.begin(), peer.purposes.end(), needed) == peer.purposes.end()) {
    return Complaint{Reason::kWrongPurpose,
                     "its certificate was issued for another purpose (extended key usage)",
                     expected};
  }
  if (mbedtls_x509_crt_check_key_usage(&leaf(), MBEDTLS_X509_KU_DIGITAL_SIGNATURE) != 0) {
    return Complaint{Reason::kWrongPurpose,
                     "its certificate's key may not sign handshakes (key usage)", expected};
  }
  return std::nullopt;
}

Judge::Finding Judge::check_name(const CertificateInfo& peer) const {
  if (!expected_name_ || matches_name(peer, *expected_name_)) return std::nullopt;
  return Complaint{Reason::kWrongName,
                   peer.dns_names.empty() && peer.ip_addresses.empty()
                       ? "its certificate names no host (no subject alternative name)"
                       : "its certificate is for another name",
                   escape_for_display(*expected_name_)};
}

Judge::Finding Judge::check_lists(const CertificateInfo& /*peer*/) const {
  using Answer = RevocationLists::Answer;
  const WallTime now = wall_now();
  return for_each_issued(
      [&](const mbedtls_x509_crt& certificate, const mbedtls_x509_crt& issuer) -> Finding {
        const Answer answer = config_.revocation.ask(certificate, issuer, now);
        const std::string ca = display_name(issuer.subject);
        if (answer == Answer::kNoList && config_.crl_required) {
          return Complaint{Reason::kCrlMissing,
                           "there is no revocation list of " + ca + " to check it against"};
        }
        if (answer == Answer::kListExpired && !config_.accept_expired_crl) {
          return Complaint{Reason::kCrlExpired, "the revocation list of " + ca + " is out of date"};
        }
        if (answer == Answer::kListNotYetValid) {
          return Complaint{Reason::kCrlExpired,
                           "the revocation list of " + ca + " is dated in the future"};
        }
        return std::nullopt;
      });
}

// Whatever mbedTLS complains about and no check above has taken up.
Judge::Finding Judge::check_rest(const CertificateInfo& /*peer*/) const {
  for (size_t depth = 0; depth < chain_.size(); ++depth) {
    const uint32_t flags = chain_[depth].flags & ~kOwnFlags;
    if (flags == 0) continue;
    return Complaint{Reason::kMalformed, which(depth, *chain_[depth].certificate) +
                                             " cannot be accepted (flags " + std::to_string(flags) +
                                             ")"};
  }
  return std::nullopt;
}

}  // namespace culvert::tls
