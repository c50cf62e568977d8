// Owners for mbedTLS's init/free structures, and what every caller of the library needs: one-time
// set-up, error texts, PEM input. For the .cc files of this folder only.
#pragma once

#include <mbedtls/pk.h>
#include <mbedtls/x509_crl.h>
#include <mbedtls/x509_crt.h>

#include <string>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/base/secret.h"
#include "common/tls/certificate.h"

namespace culvert::tls {

template <typename T, void (*Init)(T*), void (*Free)(T*)>
class Object {
 public:
  Object() { Init(&object_); }
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  ~Object() { Free(&object_); }
  T* get() { return &object_; }
  const T* get() const { return &object_; }
  T* operator->() { return &object_; }
  const T* operator->() const { return &object_; }

 private:
  T object_;
};

// A list of certificates: the object itself is the first, unless empty().
class CertificateList
    : public Object<mbedtls_x509_crt, mbedtls_x509_crt_init, mbedtls_x509_crt_free> {
 public:
  [[nodiscard]] bool empty() const { return get()->raw.p == nullptr; }
};
using CrlList = Object<mbedtls_x509_crl, mbedtls_x509_crl_init, mbedtls_x509_crl_free>;
using PrivateKey = Object<mbedtls_pk_context, mbedtls_pk_init, mbedtls_pk_free>;

// Before anything else of mbedTLS; cheap after the first time. Thread-safe.
Status init_crypto();

// "X509 - Certificate verification failed (-0x2700)"
std::string error_text(int mbedtls_error);

// Parses PEM into `list`. kUsage, with `where` as given, if there is nothing or something broken;
// with `skip_unreadable`, only if nothing could be read.
Status parse_certificates(std::string_view pem, std::string_view where, bool skip_unreadable,
                          CertificateList& list);
Status parse_private_key(const Secret& pem, std::string_view where, PrivateKey& key);
Status parse_crls(std::string_view pem, std::string_view where, CrlList& list);

// The plain value of a parsed certificate.
CertificateInfo info_of(const mbedtls_x509_crt& certificate);
// Without the revoked entries.
CrlInfo info_of(const mbedtls_x509_crl& crl);

// "CN=alice, OU=engineering", escaped for display.
std::string display_name(const mbedtls_x509_name& name);

WallTime to_wall_time(const mbedtls_x509_time& time);

inline Bytes bytes_of(const mbedtls_asn1_buf& buffer) {
  return {reinterpret_cast<const std::byte*>(buffer.p), buffer.len};
}
inline const unsigned char* raw(Bytes bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
inline unsigned char* raw(MutableBytes bytes) {
  return reinterpret_cast<unsigned char*>(bytes.data());
}
[[nodiscard]] inline bool same_bytes(const mbedtls_asn1_buf& a, const mbedtls_asn1_buf& b) {
  return as_text(bytes_of(a)) == as_text(bytes_of(b));
}

}  // namespace culvert::tls
