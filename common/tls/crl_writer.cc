// write_crl() of issue.h: RFC 5280 section 5, by hand, because mbedTLS has no writer for it. ASN.1
// is written backwards, from the last byte of a buffer to the first.

#include "common/tls/issue.h"

#include <mbedtls/asn1write.h>
#include <mbedtls/md.h>
#include <mbedtls/oid.h>
#include <mbedtls/pem.h>

#include <string>
#include <utility>
#include <vector>

#include "common/tls/mbedtls_objects.h"
#include "common/tls/random.h"

namespace culvert::tls {
namespace {

constexpr int kSequence = MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE;
constexpr std::string_view kOidCrlNumber{"\x55\x1D\x14", 3};
constexpr std::string_view kOidReasonCode{"\x55\x1D\x15", 3};
constexpr std::string_view kOidAuthorityKeyIdentifier{"\x55\x1D\x23", 3};

// Writes DER from the end of a buffer towards its start. The first failure sticks.
class DerWriter {
 public:
  explicit DerWriter(size_t capacity) : buffer_(capacity), at_(buffer_.data() + buffer_.size()) {}

  // Everything after the mark becomes the content of `tag`.
  [[nodiscard]] size_t mark() const { return size(); }
  void wrap(size_t mark, int tag) {
    note(mbedtls_asn1_write_len(&at_, buffer_.data(), size() - mark));
    note(mbedtls_asn1_write_tag(&at_, buffer_.data(), static_cast<unsigned char>(tag)));
  }
  void bytes(Bytes value) {
    note(mbedtls_asn1_write_raw_buffer(&at_, buffer_.data(), raw(value), value.size()));
  }
  void oid(std::string_view value) {
    note(mbedtls_asn1_write_oid(&at_, buffer_.data(), value.data(), value.size()));
  }
  // An INTEGER or ENUMERATED that is not negative.
  void unsigned_number(uint64_t value, int tag) {
    const size_t start = mark();
    std::byte last{};
    do {
      last = static_cast<std::byte>(value & 0xff);
      bytes({&last, 1});
      value >>= 8;
    } while (value != 0);
    if ((last & std::byte{0x80}) != std::byte{0}) {
      const std::byte zero{0};
      bytes({&zero, 1});
    }
    wrap(start, tag);
  }
  // UTCTime before 2050, GeneralizedTime from then on (RFC 5280 section 5.1.2.4).
  void time(WallTime value) {
    std::string text;
    for (const char c : to_iso8601(value)) {
      if (c >= '0' && c <= '9') text += c;
    }
    text += 'Z';
    const size_t start = mark();
    const bool two_digit_year = text < "2050";
    bytes(as_bytes(std::string_view(text).substr(two_digit_year ? 2 : 0)));
    wrap(start, two_digit_year ? MBEDTLS_ASN1_UTC_TIME : MBEDTLS_ASN1_GENERALIZED_TIME);
  }
  // RSA wants a NULL parameter, ECDSA none (RFC 3279, RFC 5758).
  void signature_algorithm(std::string_view algorithm, bool null_parameter) {
    note(mbedtls_asn1_write_algorithm_identifier_ext(&at_, buffer_.data(), algorithm.data(),
                                                     algorithm.size(), 0, null_parameter ? 1 : 0));
  }

  [[nodiscard]] int error() const { return error_; }
  [[nodiscard]] Bytes result() const { return {reinterpret_cast<const std::byte*>(at_), size()}; }

 private:
  [[nodiscard]] size_t size() const {
    return static_cast<size_t>(buffer_.data() + buffer_.size() - at_);
  }
  void note(int ret) {
    if (ret < 0 && error_ == 0) error_ = ret;
  }

  std::vector<unsigned char> buffer_;
  unsigned char* at_;
  int error_ = 0;
};

Error bad(std::string what) {
  return fail(ErrorCode::kUsage, std::move(what), "CRL");
}
Error failed(std::string_view what, int ret) {
  return fail(ErrorCode::kFailure, std::string(what) + ": " + error_text(ret), "CRL");
}

void write_extensions(DerWriter& der, const mbedtls_x509_crt& ca, uint64_t number) {
  const size_t all = der.mark();
  size_t one = der.mark();
  der.unsigned_number(number, MBEDTLS_ASN1_INTEGER);
  der.wrap(one, MBEDTLS_ASN1_OCTET_STRING);
  der.oid(kOidCrlNumber);
  der.wrap(one, kSequence);
  if (ca.subject_key_id.len != 0) {
    one = der.mark();
    der.bytes(bytes_of(ca.subject_key_id));
    der.wrap(one, MBEDTLS_ASN1_CONTEXT_SPECIFIC | 0);
    der.wrap(one, kSequence);
    der.wrap(one, MBEDTLS_ASN1_OCTET_STRING);
    der.oid(kOidAuthorityKeyIdentifier);
    der.wrap(one, kSequence);
  }
  der.wrap(all, kSequence);
  der.wrap(all, MBEDTLS_ASN1_CONTEXT_SPECIFIC | MBEDTLS_ASN1_CONSTRUCTED | 0);
}

void write_entry(DerWriter& der, const RevokedEntry& entry) {
  const size_t all = der.mark();
  if (entry.reason != RevocationReason::kUnspecified) {  // absent means unspecified
    const size_t extension = der.mark();
    der.unsigned_number(static_cast<uint8_t>(entry.reason), MBEDTLS_ASN1_ENUMERATED);
    der.wrap(extension, MBEDTLS_ASN1_OCTET_STRING);
    der.oid(kOidReasonCode);
    der.wrap(extension, kSequence);
    der.wrap(extension, kSequence);
  }
  der.time(entry.when);
  const size_t serial = der.mark();
  der.bytes(entry.serial);
  der.wrap(serial, MBEDTLS_ASN1_INTEGER);
  der.wrap(all, kSequence);
}

struct Algorithm {
  std::string_view oid;
  bool null_parameter;
};

Result<Algorithm> algorithm_of(const mbedtls_pk_context& key) {
  const bool rsa = mbedtls_pk_can_do(&key, MBEDTLS_PK_RSA) != 0;
  const char* oid = nullptr;
  size_t size = 0;
  const int ret = mbedtls_oid_get_oid_by_sig_alg(rsa ? MBEDTLS_PK_RSA : MBEDTLS_PK_ECDSA,
                                                 MBEDTLS_MD_SHA256, &oid, &size);
  if (ret != 0) return failed("no signature algorithm for the CA's key", ret);
  return Algorithm{{oid, size}, rsa};
}

// TBSCertList
void write_body(DerWriter& der, const CrlRequest& request, const mbedtls_x509_crt& ca,
                const Algorithm& algorithm) {
  const size_t body = der.mark();
  write_extensions(der, ca, request.number);
  if (!request.revoked.empty()) {  // an empty sequence is not allowed
    const size_t entries = der.mark();
    for (size_t i = request.revoked.size(); i-- > 0;)
      write_entry(der, request.revoked[i]);
    der.wrap(entries, kSequence);
  }
  der.time(request.next_update);
  der.time(request.this_update);
  der.bytes(bytes_of(ca.subject_raw));
  der.signature_algorithm(algorithm.oid, algorithm.null_parameter);
  der.unsigned_number(1, MBEDTLS_ASN1_INTEGER);  // version 2
  der.wrap(body, kSequence);
}

Result<std::vector<std::byte>> sign(Bytes body, PrivateKey& key) {
  const Sha256 hash = sha256(body);
  std::vector<std::byte> signature(MBEDTLS_PK_SIGNATURE_MAX_SIZE);
  size_t size = 0;
  const int ret = mbedtls_pk_sign(key.get(), MBEDTLS_MD_SHA256, raw(Bytes(hash)), hash.size(),
                                  raw(MutableBytes(signature)), signature.size(), &size,
                                  random_callback, nullptr);
  if (ret != 0) return failed("the revocation list cannot be signed", ret);
  signature.resize(size);
  return signature;
}

Result<std::string> to_pem(Bytes der) {
  size_t needed = 0;
  constexpr char kBegin[] = "-----BEGIN X509 CRL-----\n";
  constexpr char kEnd[] = "-----END X509 CRL-----\n";
  (void)mbedtls_pem_write_buffer(kBegin, kEnd, raw(der), der.size(), nullptr, 0, &needed);
  std::string pem(needed, '\0');
  const int ret =
      mbedtls_pem_write_buffer(kBegin, kEnd, raw(der), der.size(),
                               reinterpret_cast<unsigned char*>(pem.data()), pem.size(), &needed);
  if (ret != 0) return failed("the revocation list cannot be written", ret);
  pem.resize(pem.find('\0'));
  return pem;
}

Status check(const CrlRequest& request, const mbedtls_x509_crt& ca) {
  if (request.next_update <= request.this_update) {
    return bad("the revocation list would be out of date at once");
  }
  if (mbedtls_x509_crt_get_ca_istrue(&ca) != 1 ||
      mbedtls_x509_crt_check_key_usage(&ca, MBEDTLS_X509_KU_CRL_SIGN) != 0) {
    return bad(display_name(ca.subject) + " may not sign revocation lists");
  }
  for (const RevokedEntry& entry : request.revoked) {
    if (entry.serial.empty() || entry.serial.size() > 20) {
      return bad("a revoked certificate without a proper serial number");
    }
  }
  return {};
}

}  // namespace

Result<std::string> write_crl(const CrlRequest& request) {
  CertificateList ca;
  PrivateKey key;
  if (const auto parsed =
          parse_certificates(request.issuer.certificate_pem, "CA certificate", false, ca);
      !parsed) {
    return parsed.error();
  }
  if (request.issuer.key_pem == nullptr) return bad("the CA's private key is missing");
  if (const auto parsed = parse_private_key(*request.issuer.key_pem, "CA key", key); !parsed) {
    return parsed.error();
  }
  if (mbedtls_pk_check_pair(&ca->pk, key.get(), random_callback, nullptr) != 0) {
    return bad("the CA's private key does not belong to its certificate");
  }
  if (const auto sound = check(request, *ca.get()); !sound) return sound.error();
  const auto algorithm = algorithm_of(*key.get());
  if (!algorithm) return algorithm.error();

  const size_t body_capacity = 2048 + ca->subject_raw.len + request.revoked.size() * 80;
  DerWriter body(body_capacity);
  write_body(body, request, *ca.get(), *algorithm);
  if (body.error() != 0) return failed("the revocation list cannot be written", body.error());
  const auto signature = sign(body.result(), key);
  if (!signature) return signature.error();

  DerWriter list(body_capacity + 2 * MBEDTLS_PK_SIGNATURE_MAX_SIZE);
  list.bytes(*signature);
  const std::byte unused_bits{0};
  list.bytes({&unused_bits, 1});
  list.wrap(0, MBEDTLS_ASN1_BIT_STRING);
  list.signature_algorithm(algorithm->oid, algorithm->null_parameter);
  list.bytes(body.result());
  list.wrap(0, kSequence);
  if (list.error() != 0) return failed("the revocation list cannot be written", list.error());
  return to_pem(list.result());
}

}  // namespace culvert::tls
