#include "common/tls/tls_config.h"

#include <mbedtls/ssl_ciphersuites.h>

#include <algorithm>
#include <array>
#include <utility>

#include "common/tls/random.h"
#include "common/tls/tls_config_impl.h"

namespace culvert::tls {

const mbedtls_x509_crt_profile kCertificateProfile = {
    MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA256) | MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA384) |
        MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA512),
    MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECKEY) | MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECDSA) |
        MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_RSA) | MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_RSASSA_PSS),
    MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP256R1) |
        MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP384R1) |
        MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP521R1),
    2048,
};

namespace {

// The library's own order puts ChaCha20 first; AES-GCM is six times faster here. A TLS 1.3 server
// follows the client's order all the same.
constexpr std::array kSuites = {
    MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
    MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
    MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    0,
};
constexpr std::array kSuites256 = {
    MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
    MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    0,
};
// P-256 is the fastest that mbedTLS has. In TLS 1.2 this also bounds the curves of certificates.
constexpr std::array<uint16_t, 5> kGroups = {
    MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1, MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
    MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1, MBEDTLS_SSL_IANA_TLS_GROUP_SECP521R1,
    MBEDTLS_SSL_IANA_TLS_GROUP_NONE,
};

// mbedTLS's server passes over a certificate that is not for servers and then fails every
// handshake.
Status check_own_purpose(Role role, const CertificateInfo& own) {
  const bool fits = own.any_purpose || std::find(own.purposes.begin(), own.purposes.end(),
                                                 Purpose::kServerAuth) != own.purposes.end();
  if (role == Role::kClient || fits) return {};
  return fail(ErrorCode::kUsage, own.subject + " is not a certificate for TLS servers",
              "certificate", "its extended key usage must include serverAuth");
}

Status load_own(const TlsOptions& options, TlsConfig::Impl& impl) {
  if (options.certificate_chain_pem.empty() && options.private_key_pem.empty()) {
    if (options.role == Role::kClient) return {};
    return fail(ErrorCode::kUsage, "a server needs a certificate and its private key",
                "certificate");
  }
  if (const auto parsed =
          parse_certificates(options.certificate_chain_pem, "certificate", false, impl.own_chain);
      !parsed) {
    return parsed.error();
  }
  if (const auto parsed = parse_private_key(options.private_key_pem, "private key", impl.own_key);
      !parsed) {
    return parsed.error();
  }
  impl.own.push_back(info_of(*impl.own_chain.get()));
  if (mbedtls_pk_check_pair(&impl.own_chain->pk, impl.own_key.get(), random_callback, nullptr) !=
      0) {
    return fail(ErrorCode::kUsage,
                "the private key does not belong to the certificate of " + impl.own[0].subject,
                "private key", "the own certificate must be the first of its file");
  }
  return check_own_purpose(options.role, impl.own[0]);
}

Status load_trust(const TlsOptions& options, TlsConfig::Impl& impl) {
  // A client may bring the system's whole bundle, in which something odd is always to be found.
  const bool skip_unreadable = options.role == Role::kClient;
  if (const auto parsed =
          parse_certificates(options.trusted_ca_pem, "trusted CA", skip_unreadable, impl.trusted);
      !parsed) {
    return parsed.error();
  }
  for (const mbedtls_x509_crt* ca = impl.trusted.get(); ca != nullptr; ca = ca->next) {
    impl.cas.push_back(info_of(*ca));
  }
  auto lists = RevocationLists::build(options.crl_pem, impl.trusted.get(), kCertificateProfile);
  if (!lists) return lists.error();
  impl.revocation = std::move(*lists);
  impl.crls = impl.revocation.infos();
  return {};
}

mbedtls_ssl_protocol_version to_mbedtls(Version version) {
  return version == Version::k13 ? MBEDTLS_SSL_VERSION_TLS1_3 : MBEDTLS_SSL_VERSION_TLS1_2;
}

Status set_up(const TlsOptions& options, TlsConfig::Impl& impl) {
  mbedtls_ssl_config* const ssl = impl.ssl.get();
  const bool server = options.role == Role::kServer;
  int ret = mbedtls_ssl_config_defaults(ssl, server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
                                        MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
  if (ret == 0 && !impl.own.empty()) {
    ret = mbedtls_ssl_conf_own_cert(ssl, impl.own_chain.get(), impl.own_key.get());
  }
  if (ret != 0) return fail(ErrorCode::kFailure, "TLS cannot be set up: " + error_text(ret));
  mbedtls_ssl_conf_rng(ssl, random_callback, nullptr);
  mbedtls_ssl_conf_min_tls_version(ssl, to_mbedtls(options.min_version));
  mbedtls_ssl_conf_max_tls_version(ssl, to_mbedtls(options.max_version));
  mbedtls_ssl_conf_ciphersuites(ssl, options.strength_256 ? kSuites256.data() : kSuites.data());
  mbedtls_ssl_conf_groups(ssl, kGroups.data());
  mbedtls_ssl_conf_cert_profile(ssl, &kCertificateProfile);
  // The lists are ours to check (revocation.h), hence no CRL here.
  mbedtls_ssl_conf_ca_chain(ssl, impl.trusted.get(), nullptr);
  // A server that refuses in a TLS 1.3 handshake reaches the client only as a decryption error: it
  // lets the handshake end and refuses in judge_client().
  mbedtls_ssl_conf_authmode(ssl,
                            server ? MBEDTLS_SSL_VERIFY_OPTIONAL : MBEDTLS_SSL_VERIFY_REQUIRED);
  // No resumption: a resumed TLS 1.3 session has no peer certificate and nobody judges it.
  mbedtls_ssl_conf_tls13_key_exchange_modes(ssl, MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL);
  if (!server) mbedtls_ssl_conf_session_tickets(ssl, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
  return {};
}

}  // namespace

TlsConfig::TlsConfig(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TlsConfig::~TlsConfig() = default;

Result<std::shared_ptr<const TlsConfig>> TlsConfig::build(const TlsOptions& options) {
  if (const auto ready = init_crypto(); !ready) return ready.error();
  auto impl = std::make_unique<Impl>();
  impl->role = options.role;
  impl->crl_required = options.crl_required;
  impl->accept_expired_crl = options.accept_expired_crl;
  for (const auto step : {load_own, load_trust, set_up}) {
    if (const auto done = step(options, *impl); !done) return done.error();
  }
  return std::shared_ptr<const TlsConfig>(new TlsConfig(std::move(impl)));
}

Role TlsConfig::role() const {
  return impl_->role;
}
bool TlsConfig::crl_required() const {
  return impl_->crl_required;
}
bool TlsConfig::has_own_certificate() const {
  return !impl_->own.empty();
}
const CertificateInfo& TlsConfig::own_certificate() const {
  return impl_->own.at(0);
}
const std::vector<CertificateInfo>& TlsConfig::trusted_cas() const {
  return impl_->cas;
}
const std::vector<CrlInfo>& TlsConfig::crls() const {
  return impl_->crls;
}

}  // namespace culvert::tls
