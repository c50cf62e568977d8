#include "common/tls/mbedtls_objects.h"

#include <mbedtls/error.h>
#include <psa/crypto.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "common/tls/random.h"

namespace culvert::tls {
namespace {

Error bad(std::string_view where, std::string what, std::string hint = {}) {
  return fail(ErrorCode::kUsage, std::move(what), std::string(where), std::move(hint));
}

std::string not_pem_hint(std::string_view label) {
  return "expected PEM text with -----BEGIN " + std::string(label) + "-----";
}

// mbedTLS takes PEM with its terminating NUL counted.
const unsigned char* with_nul(const std::string& text) {
  return reinterpret_cast<const unsigned char*>(text.c_str());
}

}  // namespace

Status init_crypto() {
  // TLS 1.3 keeps keys in PSA's store. The call is guarded by the library's own lock.
  static const psa_status_t status = psa_crypto_init();
  if (status == PSA_SUCCESS) return {};
  return fail(ErrorCode::kFailure, "cryptography cannot be set up", "psa_crypto_init");
}

std::string error_text(int mbedtls_error) {
  std::array<char, 160> text{};
  std::array<char, 24> number{};
  mbedtls_strerror(mbedtls_error, text.data(), text.size());
  std::snprintf(number.data(), number.size(), " (-0x%04X)", static_cast<unsigned>(-mbedtls_error));
  return std::string(text.data()) + number.data();
}

Status parse_certificates(std::string_view pem, std::string_view where, bool skip_unreadable,
                          CertificateList& list) {
  if (const auto ready = init_crypto(); !ready) return ready.error();
  if (pem.find("-----BEGIN CERTIFICATE-----") == std::string_view::npos) {
    return bad(where, "no certificate in it", not_pem_hint("CERTIFICATE"));
  }
  const std::string text(pem);
  const int ret = mbedtls_x509_crt_parse(list.get(), with_nul(text), text.size() + 1);
  if (ret < 0) return bad(where, "cannot read the certificate: " + error_text(ret));
  if (ret > 0 && !skip_unreadable) {
    return bad(where, std::to_string(ret) + " of its certificates cannot be read");
  }
  if (list.empty()) return bad(where, "no certificate in it that can be read");
  return {};
}

Status parse_private_key(const Secret& pem, std::string_view where, PrivateKey& key) {
  if (const auto ready = init_crypto(); !ready) return ready.error();
  const std::string_view text = as_text(pem.bytes());
  if (text.find("-----BEGIN ENCRYPTED") != std::string_view::npos ||
      text.find("Proc-Type: 4,ENCRYPTED") != std::string_view::npos) {
    return bad(where, "the private key is encrypted",
               "decrypt it, for example with: openssl pkey -in KEY -out PLAIN_KEY");
  }
  if (text.find("PRIVATE KEY-----") == std::string_view::npos) {
    return bad(where, "no private key in it", not_pem_hint("PRIVATE KEY"));
  }
  Secret terminated(text.size() + 1);
  std::copy(pem.bytes().begin(), pem.bytes().end(), terminated.bytes().begin());
  const int ret = mbedtls_pk_parse_key(key.get(), raw(Bytes(terminated.bytes())), text.size() + 1,
                                       nullptr, 0, random_callback, nullptr);
  if (ret != 0) return bad(where, "cannot read the private key: " + error_text(ret));
  return {};
}

Status parse_crls(std::string_view pem, std::string_view where, CrlList& list) {
  if (const auto ready = init_crypto(); !ready) return ready.error();
  if (pem.find("-----BEGIN X509 CRL-----") == std::string_view::npos) {
    return bad(where, "no certificate revocation list in it", not_pem_hint("X509 CRL"));
  }
  const std::string text(pem);
  const int ret = mbedtls_x509_crl_parse(list.get(), with_nul(text), text.size() + 1);
  if (ret != 0) return bad(where, "cannot read the revocation list: " + error_text(ret));
  return {};
}

WallTime to_wall_time(const mbedtls_x509_time& time) {
  const std::chrono::year_month_day date{std::chrono::year{time.year},
                                         std::chrono::month{static_cast<unsigned>(time.mon)},
                                         std::chrono::day{static_cast<unsigned>(time.day)}};
  return std::chrono::sys_days{date} + std::chrono::hours{time.hour} +
         std::chrono::minutes{time.min} + std::chrono::seconds{time.sec};
}

}  // namespace culvert::tls
