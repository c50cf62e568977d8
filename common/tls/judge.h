// The collecting side of peer_policy.h: mbedTLS hands over the chain that it built, certificate by
// certificate, and at the last one the judge decides. For the .cc files of this folder only.
#pragma once

#include <mbedtls/x509_crt.h>

#include <optional>
#include <string>
#include <vector>

#include "common/tls/peer_policy.h"
#include "common/tls/tls_config_impl.h"

namespace culvert::tls {

class Judge {
 public:
  // `config` must outlive the judge. Without a name the name is not looked at.
  Judge(const TlsConfig::Impl& config, std::optional<std::string> expected_name);

  // For mbedtls_ssl_set_verify() and mbedtls_x509_crt_verify(), with the judge as its context. Is
  // called from the trust anchor (highest depth) down to the peer's own certificate (depth 0). Adds
  // to the flags, so that a refusal ends a handshake that requires verification.
  static int on_certificate(void* judge, mbedtls_x509_crt* certificate, int depth,
                            uint32_t* flags) noexcept;

  // kNoCertificate until depth 0 was seen.
  [[nodiscard]] const Verdict& verdict() const { return verdict_; }

 private:
  struct Link {
    const mbedtls_x509_crt* certificate = nullptr;  // valid while mbedTLS verifies
    uint32_t flags = 0;                             // MBEDTLS_X509_BADCERT_… found by mbedTLS
  };
  struct Complaint {
    Reason reason;
    std::string text;
    std::string expected = {};
  };
  using Finding = std::optional<Complaint>;

  [[nodiscard]] const mbedtls_x509_crt& leaf() const { return *chain_.front().certificate; }
  [[nodiscard]] Verdict decide() const;
  // In this order; the first complaint is the verdict.
  [[nodiscard]] Finding check_trust(const CertificateInfo& peer) const;
  [[nodiscard]] Finding check_strength(const CertificateInfo& peer) const;
  [[nodiscard]] Finding check_revoked(const CertificateInfo& peer) const;
  [[nodiscard]] Finding check_dates(const CertificateInfo& peer) const;
  [[nodiscard]] Finding check_purpose(const CertificateInfo& peer) const;
  [[nodiscard]] Finding check_name(const CertificateInfo& peer) const;
  [[nodiscard]] Finding check_lists(const CertificateInfo& peer) const;
  [[nodiscard]] Finding check_rest(const CertificateInfo& peer) const;
  // Calls visit(certificate, its issuer) for each certificate that a CA of ours or of the chain
  // issued, the anchor included if its issuer is trusted as well.
  template <typename Visit>
  Finding for_each_issued(Visit visit) const;
  [[nodiscard]] std::string trusted_names() const;

  const TlsConfig::Impl& config_;
  const std::optional<std::string> expected_name_;
  std::vector<Link> chain_;  // by depth
  Verdict verdict_;
};

}  // namespace culvert::tls
