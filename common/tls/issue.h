// Writing keys, certificates and certificate revocation lists: the craft under `culvertd init`,
// `user add` and `pki`. ECDSA P-256 with SHA-256. Works on PEM texts; files are the caller's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/address.h"
#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/base/secret.h"
#include "common/tls/certificate.h"

namespace culvert::tls {

// A new ECDSA P-256 private key as unencrypted PEM ("BEGIN EC PRIVATE KEY").
Result<Secret> generate_key();

// Who signs. Both texts must outlive the call.
struct Issuer {
  std::string_view certificate_pem;
  const Secret* key_pem = nullptr;
};

struct IssueRequest {
  std::string common_name;             // 1..64 bytes of UTF-8 without control characters
  std::string organizational_unit;     // likewise; empty: left out
  std::string organization;            // likewise; empty: left out
  std::vector<std::string> dns_names;  // host names, a leading "*." is allowed
  std::vector<IpAddress> ip_addresses;
  WallTime not_before;
  WallTime not_after;
  bool is_ca = false;               // basic constraints CA, key usage certificate and CRL signing
  std::vector<Purpose> purposes;    // extended key usage; leave empty for a CA
  const Secret* key_pem = nullptr;  // the private key that belongs to the subject
  std::optional<Issuer> issuer;     // nothing: self-signed
};

// The certificate as PEM, with a random 16-byte serial number, and subject and authority key
// identifiers. kUsage for a request that makes no sense (names, dates, an issuer that is no CA,
// whose key is another or that expires before the certificate does).
Result<std::string> issue_certificate(const IssueRequest& request);

struct CrlRequest {
  Issuer issuer;
  std::span<const RevokedEntry> revoked;
  WallTime this_update;
  WallTime next_update;
  uint64_t number = 0;  // must grow from list to list (RFC 5280 section 5.2.3)
};

// The list as PEM.
Result<std::string> write_crl(const CrlRequest& request);

// True if the private key belongs to the (first) certificate.
Result<bool> key_matches(std::string_view certificate_pem, const Secret& key_pem);

}  // namespace culvert::tls
