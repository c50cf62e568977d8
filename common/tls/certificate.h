// Reading certificates and certificate revocation lists into plain values, without mbedTLS in
// sight. Only reads: whether a certificate is to be trusted is peer_policy.h's question, writing is
// issue.h.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/address.h"
#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/result.h"

namespace culvert::tls {

using Sha256 = std::array<std::byte, 32>;

// What an extended key usage extension allows (RFC 5280 section 4.2.1.12).
enum class Purpose : uint8_t { kServerAuth, kClientAuth, kOther };

// The contents of one certificate. The texts come from its author, who may be a stranger:
// `subject` and `issuer` are safe to show, the other strings need escape_for_display().
struct CertificateInfo {
  std::string subject;              // "CN=alice, OU=engineering", escaped for display
  std::string issuer;               // likewise
  std::string common_name;          // the first CN of the subject as it stands; may be empty
  std::string organizational_unit;  // the first OU; may be empty
  // All attributes of the subject that are texts, by their short name ("CN", "UID",
  // "emailAddress").
  std::vector<std::pair<std::string, std::string>> attributes;
  std::vector<std::byte> serial;       // big endian, as in the certificate
  std::string serial_hex;              // lower case, two digits a byte
  std::vector<std::string> dns_names;  // of the subject alternative name extension
  std::vector<IpAddress> ip_addresses;
  std::vector<std::string> emails;           // rfc822Name
  std::vector<std::string> principal_names;  // otherName with Microsoft's userPrincipalName
  WallTime not_before;
  WallTime not_after;
  Sha256 fingerprint{};  // SHA-256 of the DER form
  Sha256
      spki_sha256{};  // SHA-256 of the SubjectPublicKeyInfo: survives a renewal with the same key
  std::string key_type;  // "ECDSA P-256", "RSA 2048"
  bool is_ca = false;
  bool self_signed = false;       // subject and issuer are the same name
  bool any_purpose = true;        // no extended key usage extension: good for everything
  std::vector<Purpose> purposes;  // what the extension lists
};

// The short names that CertificateInfo::attributes can have; the library knows no others.
[[nodiscard]] std::span<const std::string_view> attribute_names();

// One line for a person: subject, issuer, names, dates.
[[nodiscard]] std::string describe(const CertificateInfo& info);

// The first certificate of a PEM text. kUsage if there is none or it does not parse.
Result<CertificateInfo> read_certificate(std::string_view pem);
// All certificates of a PEM text, in order; at least one.
Result<std::vector<CertificateInfo>> read_certificates(std::string_view pem);
// One certificate in DER form.
Result<CertificateInfo> read_certificate_der(Bytes der);

// RFC 5280 section 5.3.1; the ones that make sense for a VPN.
enum class RevocationReason : uint8_t {
  kUnspecified = 0,
  kKeyCompromise = 1,
  kAffiliationChanged = 3,
  kSuperseded = 4,
  kCessationOfOperation = 5,
};

struct RevokedEntry {
  std::vector<std::byte> serial;  // as CertificateInfo::serial
  WallTime when;
  // Written; not read back, because nobody decides by it.
  RevocationReason reason = RevocationReason::kUnspecified;
};

struct CrlInfo {
  std::string issuer;  // escaped for display
  WallTime this_update;
  std::optional<WallTime> next_update;  // nothing: the list does not say
  std::optional<uint64_t> number;       // cRLNumber if present and below 2^64
  std::vector<RevokedEntry> revoked;
};

// The first CRL of a PEM text. Its signature is not checked here.
Result<CrlInfo> read_crl(std::string_view pem);

[[nodiscard]] Sha256 sha256(Bytes data);

}  // namespace culvert::tls
