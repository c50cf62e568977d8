#include "common/tls/issue.h"

#include <mbedtls/asn1write.h>
#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>

#include <algorithm>
#include <array>
#include <utility>

#include "common/base/text.h"
#include "common/tls/mbedtls_objects.h"
#include "common/tls/random.h"

namespace culvert::tls {
namespace {

using CertificateWriter =
    Object<mbedtls_x509write_cert, mbedtls_x509write_crt_init, mbedtls_x509write_crt_free>;

constexpr size_t kMaxNamePart = 64;  // ub-common-name, RFC 5280 appendix A.1
constexpr size_t kMaxPem = 16384;
constexpr size_t kSerialSize = 16;

Error bad(std::string what, std::string hint = {}) {
  return fail(ErrorCode::kUsage, std::move(what), {}, std::move(hint));
}

Error failed(std::string_view what, int ret) {
  return fail(ErrorCode::kFailure, std::string(what) + ": " + error_text(ret));
}

// "CN=…" with everything that is special in a distinguished name as a pair of hex digits.
std::string name_part(std::string_view label, std::string_view value) {
  std::string part(label);
  part += '=';
  for (size_t i = 0; i < value.size(); ++i) {
    const bool outer_space = value[i] == ' ' && (i == 0 || i + 1 == value.size());
    if (outer_space || std::string_view(",=+<>#;\"\\").find(value[i]) != std::string_view::npos) {
      part += '\\' + to_hex(as_bytes(value.substr(i, 1)));
    } else {
      part += value[i];
    }
  }
  return part;
}

Result<std::string> subject_of(const IssueRequest& request) {
  if (request.common_name.empty()) return bad("a certificate needs a common name");
  std::string name;
  const std::pair<std::string_view, const std::string&> parts[] = {
      {"O", request.organization},
      {"OU", request.organizational_unit},
      {"CN", request.common_name},
  };
  for (const auto& [label, value] : parts) {
    if (value.empty()) continue;
    if (value.size() > kMaxNamePart || !has_no_control_characters(value)) {
      return bad("not usable as " + std::string(label) + " in a certificate: '" +
                     escape_for_display(value) + "'",
                 "1 to 64 bytes without control characters");
    }
    name += (name.empty() ? "" : ",") + name_part(label, value);
  }
  return name;
}

// A name of another certificate so that the very same bytes come out again: each value with its
// type as hexadecimal DER (RFC 4514 section 2.4).
Result<std::string> exact_name(const mbedtls_x509_name& name) {
  std::string text;
  for (const mbedtls_x509_name* part = &name; part != nullptr; part = part->next) {
    std::array<char, 64> oid{};
    const int ret = mbedtls_oid_get_numeric_string(oid.data(), oid.size(), &part->oid);
    if (ret < 0 || part->val.len > 127) return bad("the CA's name cannot be copied");
    const std::array<std::byte, 2> header = {static_cast<std::byte>(part->val.tag),
                                             static_cast<std::byte>(part->val.len)};
    text += (text.empty() ? "" : ",") + std::string(oid.data()) + "=#" + to_hex(header) +
            to_hex(bytes_of(part->val));
  }
  return text;
}

// "20260301120000"
Result<std::string> asn1_time(WallTime time) {
  std::string text;
  for (const char c : to_iso8601(time)) {
    if (c >= '0' && c <= '9') text += c;
  }
  if (text.size() != 14) return bad("not a date for a certificate: " + to_iso8601(time));
  return text;
}

Status set_validity(const IssueRequest& request, mbedtls_x509write_cert* writer) {
  if (request.not_after <= request.not_before) {
    return bad("the certificate would expire before it becomes valid");
  }
  const auto from = asn1_time(request.not_before);
  const auto to = asn1_time(request.not_after);
  if (!from || !to) return from ? to.error() : from.error();
  const int ret = mbedtls_x509write_crt_set_validity(writer, from->c_str(), to->c_str());
  if (ret != 0) return failed("the dates cannot be written", ret);
  return {};
}

Status set_serial(mbedtls_x509write_cert* writer) {
  std::array<std::byte, kSerialSize> serial{};
  random_bytes(serial);
  // Positive, and of full length: neither a sign bit nor a zero byte in front.
  serial[0] = (serial[0] & std::byte{0x3f}) | std::byte{0x40};
  const int ret =
      mbedtls_x509write_crt_set_serial_raw(writer, raw(MutableBytes(serial)), serial.size());
  if (ret != 0) return failed("the serial number cannot be written", ret);
  return {};
}

bool is_usable_dns_name(std::string_view name) {
  if (name.starts_with("*.")) name.remove_prefix(2);
  return !name.empty() && name.size() <= 253 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
  });
}

Status set_alternative_names(const IssueRequest& request, mbedtls_x509write_cert* writer) {
  std::vector<mbedtls_x509_san_list> list;
  for (const auto& name : request.dns_names) {
    if (!is_usable_dns_name(name)) {
      return bad("not a host name: '" + escape_for_display(name) + "'");
    }
    mbedtls_x509_san_list entry{};
    entry.node.type = MBEDTLS_X509_SAN_DNS_NAME;
    entry.node.san.unstructured_name.p = const_cast<unsigned char*>(raw(as_bytes(name)));
    entry.node.san.unstructured_name.len = name.size();
    list.push_back(entry);
  }
  for (const auto& address : request.ip_addresses) {
    mbedtls_x509_san_list entry{};
    entry.node.type = MBEDTLS_X509_SAN_IP_ADDRESS;
    entry.node.san.unstructured_name.p = const_cast<unsigned char*>(raw(address.bytes()));
    entry.node.san.unstructured_name.len = address.bytes().size();
    list.push_back(entry);
  }
  if (list.empty()) return {};
  std::reverse(list.begin(), list.end());  // the library writes them from the last to the first
  for (size_t i = 0; i + 1 < list.size(); ++i)
    list[i].next = &list[i + 1];
  const int ret = mbedtls_x509write_crt_set_subject_alternative_name(writer, list.data());
  if (ret != 0) return failed("the alternative names cannot be written", ret);
  return {};
}

Status set_usage(const IssueRequest& request, mbedtls_x509write_cert* writer) {
  int ret = mbedtls_x509write_crt_set_basic_constraints(writer, request.is_ca ? 1 : 0, -1);
  if (ret == 0) {
    ret = mbedtls_x509write_crt_set_key_usage(
        writer, request.is_ca ? MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN
                              : MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
  }
  std::vector<mbedtls_asn1_sequence> purposes;
  for (const Purpose purpose : request.purposes) {
    if (purpose == Purpose::kOther) return bad("no such purpose");
    const bool server = purpose == Purpose::kServerAuth;
    static constexpr char kServer[] = MBEDTLS_OID_SERVER_AUTH;
    static constexpr char kClient[] = MBEDTLS_OID_CLIENT_AUTH;
    const std::string_view oid(server ? kServer : kClient,
                               (server ? sizeof(kServer) : sizeof(kClient)) - 1);
    mbedtls_asn1_sequence entry{};
    entry.buf.tag = MBEDTLS_ASN1_OID;
    entry.buf.p = const_cast<unsigned char*>(raw(as_bytes(oid)));
    entry.buf.len = oid.size();
    purposes.push_back(entry);
  }
  for (size_t i = 0; i + 1 < purposes.size(); ++i)
    purposes[i].next = &purposes[i + 1];
  if (ret == 0 && !purposes.empty()) {
    ret = mbedtls_x509write_crt_set_ext_key_usage(writer, purposes.data());
  }
  if (ret != 0) return failed("the permitted uses cannot be written", ret);
  return {};
}

// The issuer's own identifier, whatever it was computed from, so that chains can be built by it.
int set_authority_key_identifier(mbedtls_x509write_cert* writer, Bytes key_identifier) {
  std::array<unsigned char, 80> buffer{};
  if (key_identifier.empty() || key_identifier.size() > 64) return 0;
  unsigned char* at = buffer.data() + buffer.size();
  int size =
      mbedtls_asn1_write_raw_buffer(&at, buffer.data(), raw(key_identifier), key_identifier.size());
  for (const int tag :
       {MBEDTLS_ASN1_CONTEXT_SPECIFIC, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE}) {
    if (size < 0) return size;
    const int length = mbedtls_asn1_write_len(&at, buffer.data(), static_cast<size_t>(size));
    if (length < 0) return length;
    const int type = mbedtls_asn1_write_tag(&at, buffer.data(), static_cast<unsigned char>(tag));
    if (type < 0) return type;
    size += length + type;
  }
  static constexpr char kOid[] = MBEDTLS_OID_AUTHORITY_KEY_IDENTIFIER;
  return mbedtls_x509write_crt_set_extension(writer, kOid, sizeof(kOid) - 1, 0, at,
                                             static_cast<size_t>(size));
}

// The issuer's certificate and key, checked to be a CA's and to belong together.
struct LoadedIssuer {
  CertificateList certificate;
  PrivateKey key;
};

Status load_issuer(const Issuer& issuer, LoadedIssuer& loaded) {
  if (const auto parsed =
          parse_certificates(issuer.certificate_pem, "CA certificate", false, loaded.certificate);
      !parsed) {
    return parsed.error();
  }
  if (issuer.key_pem == nullptr) return bad("the CA's private key is missing");
  if (const auto parsed = parse_private_key(*issuer.key_pem, "CA key", loaded.key); !parsed) {
    return parsed.error();
  }
  if (mbedtls_x509_crt_get_ca_istrue(loaded.certificate.get()) != 1) {
    return bad(display_name(loaded.certificate->subject) + " is not a CA");
  }
  if (mbedtls_pk_check_pair(&loaded.certificate->pk, loaded.key.get(), random_callback, nullptr) !=
      0) {
    return bad("the CA's private key does not belong to its certificate");
  }
  return {};
}

Status set_issuer(const IssueRequest& request, LoadedIssuer& issuer,
                  mbedtls_x509write_cert* writer) {
  if (request.not_after > to_wall_time(issuer.certificate->valid_to)) {
    return bad("the certificate would be valid longer than its CA (" +
                   to_iso8601(to_wall_time(issuer.certificate->valid_to)) + ")",
               "shorten its validity or renew the CA");
  }
  const auto name = exact_name(issuer.certificate->subject);
  if (!name) return name.error();
  int ret = mbedtls_x509write_crt_set_issuer_name(writer, name->c_str());
  if (ret == 0) {
    ret = set_authority_key_identifier(writer, bytes_of(issuer.certificate->subject_key_id));
  }
  if (ret != 0) return failed("the issuer cannot be written", ret);
  mbedtls_x509write_crt_set_issuer_key(writer, issuer.key.get());
  return {};
}

Status set_self_as_issuer(const std::string& subject, PrivateKey& key,
                          mbedtls_x509write_cert* writer) {
  mbedtls_x509write_crt_set_issuer_key(writer, key.get());
  int ret = mbedtls_x509write_crt_set_issuer_name(writer, subject.c_str());
  if (ret == 0) ret = mbedtls_x509write_crt_set_authority_key_identifier(writer);
  if (ret != 0) return failed("the issuer cannot be written", ret);
  return {};
}

Status set_subject(const std::string& subject, PrivateKey& key, mbedtls_x509write_cert* writer) {
  mbedtls_x509write_crt_set_version(writer, MBEDTLS_X509_CRT_VERSION_3);
  mbedtls_x509write_crt_set_md_alg(writer, MBEDTLS_MD_SHA256);
  mbedtls_x509write_crt_set_subject_key(writer, key.get());
  int ret = mbedtls_x509write_crt_set_subject_name(writer, subject.c_str());
  if (ret == 0) ret = mbedtls_x509write_crt_set_subject_key_identifier(writer);
  if (ret != 0) return failed("the subject cannot be written", ret);
  return {};
}

Result<std::string> sign(mbedtls_x509write_cert* writer) {
  std::string pem(kMaxPem, '\0');
  const int ret = mbedtls_x509write_crt_pem(writer, reinterpret_cast<unsigned char*>(pem.data()),
                                            pem.size(), random_callback, nullptr);
  if (ret != 0) return failed("the certificate cannot be signed", ret);
  pem.resize(pem.find('\0'));
  return pem;
}

// mbedTLS's writer merges attributes that a name has twice, and nobody would accept the result.
Status check_issuer_name(const std::string& pem, const LoadedIssuer& issuer) {
  CertificateList written;
  if (const auto parsed = parse_certificates(pem, "certificate", false, written); !parsed) {
    return parsed.error();
  }
  if (same_bytes(written->issuer_raw, issuer.certificate->subject_raw)) return {};
  return bad("the CA's name " + display_name(issuer.certificate->subject) +
                 " cannot be written as an issuer",
             "a CA whose name has an attribute twice cannot be used to issue certificates");
}

}  // namespace

Result<Secret> generate_key() {
  if (const auto ready = init_crypto(); !ready) return ready.error();
  PrivateKey key;
  int ret = mbedtls_pk_setup(key.get(), mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
  if (ret == 0) {
    ret = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*key.get()), random_callback,
                              nullptr);
  }
  if (ret != 0) return failed("no key can be generated", ret);
  Secret buffer(1024);
  ret = mbedtls_pk_write_key_pem(key.get(), raw(buffer.bytes()), buffer.bytes().size());
  if (ret != 0) return failed("the key cannot be written", ret);
  const std::string_view text = as_text(Bytes(buffer.bytes()));
  return Secret(Bytes(buffer.bytes()).first(text.find('\0')));
}

Result<std::string> issue_certificate(const IssueRequest& request) {
  if (request.key_pem == nullptr) return bad("the subject's private key is missing");
  const auto subject = subject_of(request);
  if (!subject) return subject.error();
  PrivateKey key;
  if (const auto parsed = parse_private_key(*request.key_pem, "private key", key); !parsed) {
    return parsed.error();
  }
  LoadedIssuer issuer;
  if (request.issuer) {
    if (const auto loaded = load_issuer(*request.issuer, issuer); !loaded) return loaded.error();
  }
  CertificateWriter writer;
  for (const Status& step : {
           set_subject(*subject, key, writer.get()),
           request.issuer ? set_issuer(request, issuer, writer.get())
                          : set_self_as_issuer(*subject, key, writer.get()),
           set_serial(writer.get()),
           set_validity(request, writer.get()),
           set_usage(request, writer.get()),
           set_alternative_names(request, writer.get()),
       }) {
    if (!step) return step.error();
  }
  auto pem = sign(writer.get());
  if (pem && request.issuer) {
    if (const auto same = check_issuer_name(*pem, issuer); !same) return same.error();
  }
  return pem;
}

Result<bool> key_matches(std::string_view certificate_pem, const Secret& key_pem) {
  CertificateList certificate;
  PrivateKey key;
  if (const auto parsed = parse_certificates(certificate_pem, "certificate", false, certificate);
      !parsed) {
    return parsed.error();
  }
  if (const auto parsed = parse_private_key(key_pem, "private key", key); !parsed) {
    return parsed.error();
  }
  return mbedtls_pk_check_pair(&certificate->pk, key.get(), random_callback, nullptr) == 0;
}

}  // namespace culvert::tls
