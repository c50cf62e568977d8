// What is behind TlsConfig. For the .cc files of this folder only.
#pragma once

#include <mbedtls/ssl.h>

#include <array>
#include <string>
#include <vector>

#include "common/tls/mbedtls_objects.h"
#include "common/tls/revocation.h"
#include "common/tls/tls_config.h"

namespace culvert::tls {

// What a peer's certificates must live up to: SHA-2 signatures, ECDSA on the NIST curves, or RSA
// with at least 2048 bits.
extern const mbedtls_x509_crt_profile kCertificateProfile;

struct TlsConfig::Impl {
  Role role = Role::kClient;
  bool crl_required = false;
  bool accept_expired_crl = false;
  CertificateList own_chain;
  PrivateKey own_key;
  CertificateList trusted;
  RevocationLists revocation;
  std::vector<CertificateInfo> own;  // none or one
  std::vector<CertificateInfo> cas;
  std::vector<CrlInfo> crls;
  // After everything that it points to, so that it goes first.
  Object<mbedtls_ssl_config, mbedtls_ssl_config_init, mbedtls_ssl_config_free> ssl;
};

}  // namespace culvert::tls
