// common/tls is the only place that includes mbedTLS: TLS over memory buffers (tls_session.h), its
// immutable configuration (here), the judge of certificates (peer_policy.h), reading and writing of
// certificates (certificate.h, issue.h) and the accelerated AES-GCM (mbedtls_port/).
//
// TlsConfig: versions, suites, own certificate and key, trusted CAs and revocation lists. Checked
// and frozen by build(); a reload builds a new one and swaps the pointer, sessions keep theirs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/secret.h"
#include "common/tls/certificate.h"

namespace culvert::tls {

enum class Role : uint8_t { kClient, kServer };
enum class Version : uint8_t { k12, k13 };

struct TlsOptions {
  Role role = Role::kClient;
  // Own certificate first, then the intermediate CAs that lead to the root, if any.
  std::string certificate_chain_pem;
  Secret private_key_pem;
  // CAs (or single self-signed certificates) that the peer's certificate must lead to. An
  // intermediate CA whose revocation list is to be checked belongs here too.
  std::string trusted_ca_pem;
  // Revocation lists, one after the other, each signed by one of the trusted CAs. For one CA the
  // most recent counts.
  std::string crl_pem;
  // Refuse a peer if any CA of its chain (the root's own certificate aside) has no list here.
  bool crl_required = false;
  // A list past its nextUpdate: refuse the peer, or go on with what the list says.
  bool accept_expired_crl = false;
  Version min_version = Version::k12;
  Version max_version = Version::k13;
  // Leave out the suites with 128-bit keys.
  bool strength_256 = false;
};

class TlsConfig {
 public:
  // kUsage if a piece is unusable; `where` names the piece ("certificate", "private key",
  // "trusted CA", "CRL"), the text says why. Own dates are not checked: see own_certificate().
  static Result<std::shared_ptr<const TlsConfig>> build(const TlsOptions& options);

  TlsConfig(const TlsConfig&) = delete;
  TlsConfig& operator=(const TlsConfig&) = delete;
  ~TlsConfig();

  [[nodiscard]] Role role() const;
  [[nodiscard]] bool crl_required() const;
  [[nodiscard]] bool has_own_certificate() const;
  // REQUIRES: has_own_certificate(). For warnings about its dates.
  [[nodiscard]] const CertificateInfo& own_certificate() const;
  [[nodiscard]] const std::vector<CertificateInfo>& trusted_cas() const;
  // Of each CA the list that counts; the revoked entries are left out.
  [[nodiscard]] const std::vector<CrlInfo>& crls() const;

  // What the other files of this folder see.
  struct Impl;
  [[nodiscard]] const Impl& impl() const { return *impl_; }

 private:
  explicit TlsConfig(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culvert::tls
