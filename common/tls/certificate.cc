#include "common/tls/certificate.h"

#include <mbedtls/asn1.h>
#include <mbedtls/oid.h>
#include <mbedtls/sha256.h>

#include <algorithm>

#include "common/base/text.h"
#include "common/tls/mbedtls_objects.h"

namespace culvert::tls {
namespace {

bool is_oid(const mbedtls_asn1_buf& oid, std::string_view value) {
  return as_text(bytes_of(oid)) == value;
}

// An OID of the library's headers with the zero bytes that it may contain.
template <size_t N>
constexpr std::string_view oid(const char (&text)[N]) {
  return {text, N - 1};
}
constexpr std::string_view kOidCommonName = oid(MBEDTLS_OID_AT_CN);
constexpr std::string_view kOidOrganizationalUnit = oid(MBEDTLS_OID_AT_ORG_UNIT);
constexpr std::string_view kOidServerAuth = oid(MBEDTLS_OID_SERVER_AUTH);
constexpr std::string_view kOidClientAuth = oid(MBEDTLS_OID_CLIENT_AUTH);
constexpr std::string_view kOidAnyPurpose = oid(MBEDTLS_OID_ANY_EXTENDED_KEY_USAGE);
// [MS-WCCE] 2.2.2.7.5.1: 1.3.6.1.4.1.311.20.2.3.
constexpr std::string_view kOidPrincipalName = oid("\x2B\x06\x01\x04\x01\x82\x37\x14\x02\x03");
constexpr std::string_view kOidCrlNumber = oid("\x55\x1D\x14");

// Nothing if it is written in an encoding that is not a superset of ASCII.
std::optional<std::string> text_of(const mbedtls_asn1_buf& value) {
  const int tag = value.tag;
  if (tag != MBEDTLS_ASN1_UTF8_STRING && tag != MBEDTLS_ASN1_PRINTABLE_STRING &&
      tag != MBEDTLS_ASN1_IA5_STRING && tag != MBEDTLS_ASN1_T61_STRING) {
    return std::nullopt;
  }
  return std::string(as_text(bytes_of(value)));
}

// Empty if there is none, or if it is no text.
std::string first_attribute(const mbedtls_x509_name& name, std::string_view attribute) {
  for (const mbedtls_x509_name* part = &name; part != nullptr; part = part->next) {
    if (is_oid(part->oid, attribute)) return text_of(part->val).value_or("");
  }
  return {};
}

void read_attributes(const mbedtls_x509_name& name, CertificateInfo& info) {
  for (const mbedtls_x509_name* part = &name; part != nullptr; part = part->next) {
    const char* label = nullptr;
    if (part->oid.p == nullptr || mbedtls_oid_get_attr_short_name(&part->oid, &label) != 0)
      continue;
    if (auto text = text_of(part->val)) info.attributes.emplace_back(label, std::move(*text));
  }
}

// RFC 5280 section 4.2.1.6: OtherName is an OID and a value with the explicit tag 0, which for this
// name is a UTF8String.
std::optional<std::string> principal_name(const mbedtls_asn1_buf& other_name) {
  unsigned char* at = other_name.p;
  const unsigned char* const end = at + other_name.len;
  size_t size = 0;
  if (mbedtls_asn1_get_tag(&at, end, &size, MBEDTLS_ASN1_OID) != 0) return std::nullopt;
  const std::string_view type(reinterpret_cast<const char*>(at), size);
  at += size;
  constexpr int kValue = MBEDTLS_ASN1_CONTEXT_SPECIFIC | MBEDTLS_ASN1_CONSTRUCTED;
  if (type != kOidPrincipalName || mbedtls_asn1_get_tag(&at, end, &size, kValue) != 0 ||
      mbedtls_asn1_get_tag(&at, end, &size, MBEDTLS_ASN1_UTF8_STRING) != 0) {
    return std::nullopt;
  }
  return std::string(reinterpret_cast<const char*>(at), size);
}

void read_alternative_names(const mbedtls_x509_crt& certificate, CertificateInfo& info) {
  if (!mbedtls_x509_crt_has_ext_type(&certificate, MBEDTLS_X509_EXT_SUBJECT_ALT_NAME)) return;
  for (const mbedtls_x509_sequence* name = &certificate.subject_alt_names; name != nullptr;
       name = name->next) {
    const Bytes value = bytes_of(name->buf);
    const int kind = name->buf.tag & MBEDTLS_ASN1_TAG_VALUE_MASK;
    if (kind == MBEDTLS_X509_SAN_DNS_NAME) {
      info.dns_names.emplace_back(as_text(value));
    } else if (kind == MBEDTLS_X509_SAN_IP_ADDRESS && (value.size() == 4 || value.size() == 16)) {
      info.ip_addresses.push_back(IpAddress::from_bytes(value));
    } else if (kind == MBEDTLS_X509_SAN_RFC822_NAME) {
      info.emails.emplace_back(as_text(value));
    } else if (kind == MBEDTLS_X509_SAN_OTHER_NAME) {
      if (auto principal = principal_name(name->buf)) {
        info.principal_names.push_back(std::move(*principal));
      }
    }
  }
}

void read_purposes(const mbedtls_x509_crt& certificate, CertificateInfo& info) {
  if (!mbedtls_x509_crt_has_ext_type(&certificate, MBEDTLS_X509_EXT_EXTENDED_KEY_USAGE)) return;
  info.any_purpose = false;
  for (const mbedtls_x509_sequence* usage = &certificate.ext_key_usage; usage != nullptr;
       usage = usage->next) {
    if (is_oid(usage->buf, kOidAnyPurpose)) info.any_purpose = true;
    info.purposes.push_back(is_oid(usage->buf, kOidServerAuth)   ? Purpose::kServerAuth
                            : is_oid(usage->buf, kOidClientAuth) ? Purpose::kClientAuth
                                                                 : Purpose::kOther);
  }
}

std::string key_type_of(const mbedtls_pk_context& key) {
  const std::string bits = std::to_string(mbedtls_pk_get_bitlen(&key));
  if (mbedtls_pk_can_do(&key, MBEDTLS_PK_ECDSA)) return "ECDSA P-" + bits;
  if (mbedtls_pk_can_do(&key, MBEDTLS_PK_RSA)) return "RSA " + bits;
  return mbedtls_pk_get_name(&key);
}

// cRLNumber (RFC 5280 section 5.2.3) from the parsed list of extensions. mbedTLS has checked that
// the structure is sound, but not what is inside the octet string.
std::optional<uint64_t> crl_number(const mbedtls_x509_crl& crl) {
  if (crl.crl_ext.p == nullptr) return std::nullopt;
  unsigned char* at = crl.crl_ext.p;
  const unsigned char* const end = at + crl.crl_ext.len;
  size_t size = 0;
  constexpr int kSequence = MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE;
  if (mbedtls_asn1_get_tag(&at, end, &size, kSequence) != 0) return std::nullopt;
  while (at < end) {
    if (mbedtls_asn1_get_tag(&at, end, &size, kSequence) != 0) return std::nullopt;
    const unsigned char* const next = at + size;
    if (mbedtls_asn1_get_tag(&at, next, &size, MBEDTLS_ASN1_OID) != 0) return std::nullopt;
    const std::string_view extension(reinterpret_cast<const char*>(at), size);
    at += size;
    int critical = 0;
    (void)mbedtls_asn1_get_bool(&at, next, &critical);  // optional; moves on only if it is there
    if (mbedtls_asn1_get_tag(&at, next, &size, MBEDTLS_ASN1_OCTET_STRING) != 0) return std::nullopt;
    if (extension == kOidCrlNumber) {
      if (mbedtls_asn1_get_tag(&at, next, &size, MBEDTLS_ASN1_INTEGER) != 0) return std::nullopt;
      if (size > 9 || (size == 9 && *at != 0)) return std::nullopt;
      uint64_t number = 0;
      for (size_t i = 0; i < size; ++i)
        number = number << 8 | at[i];
      return number;
    }
    at = const_cast<unsigned char*>(next);
  }
  return std::nullopt;
}

std::string names_of(const CertificateInfo& info) {
  std::string names;
  const auto add = [&names](const std::string& name) {
    names += (names.empty() ? "" : ", ") + name;
  };
  for (const auto& name : info.dns_names)
    add(escape_for_display(name));
  for (const auto& address : info.ip_addresses)
    add(address.to_string());
  return names;
}

}  // namespace

std::string display_name(const mbedtls_x509_name& name) {
  std::string text;
  for (const mbedtls_x509_name* part = &name; part != nullptr; part = part->next) {
    if (part->oid.p == nullptr) continue;
    if (!text.empty()) text += ", ";
    const char* label = nullptr;
    if (mbedtls_oid_get_attr_short_name(&part->oid, &label) != 0) label = "?";
    text += label;
    text += '=';
    // A comma of the value must not look like the start of another part.
    for (const char c : escape_for_display(as_text(bytes_of(part->val)))) {
      if (c == ',') text += '\\';
      text += c;
    }
  }
  return text.empty() ? "(no name)" : text;
}

std::span<const std::string_view> attribute_names() {
  // mbedTLS's oid.c, without those whose values are no texts (postalAddress, uniqueIdentifier).
  static constexpr std::string_view kNames[] = {"CN",
                                                "C",
                                                "L",
                                                "ST",
                                                "O",
                                                "OU",
                                                "emailAddress",
                                                "serialNumber",
                                                "SN",
                                                "GN",
                                                "initials",
                                                "title",
                                                "uid",
                                                "DC",
                                                "pseudonym",
                                                "postalCode",
                                                "generationQualifier",
                                                "dnQualifier"};
  return kNames;
}

CertificateInfo info_of(const mbedtls_x509_crt& certificate) {
  CertificateInfo info;
  info.subject = display_name(certificate.subject);
  info.issuer = display_name(certificate.issuer);
  info.common_name = first_attribute(certificate.subject, kOidCommonName);
  info.organizational_unit = first_attribute(certificate.subject, kOidOrganizationalUnit);
  read_attributes(certificate.subject, info);
  const Bytes serial = bytes_of(certificate.serial);
  info.serial.assign(serial.begin(), serial.end());
  info.serial_hex = to_hex(serial);
  read_alternative_names(certificate, info);
  info.not_before = to_wall_time(certificate.valid_from);
  info.not_after = to_wall_time(certificate.valid_to);
  info.fingerprint = sha256(bytes_of(certificate.raw));
  info.spki_sha256 = sha256(bytes_of(certificate.pk_raw));
  info.key_type = key_type_of(certificate.pk);
  info.is_ca = mbedtls_x509_crt_get_ca_istrue(&certificate) == 1;
  info.self_signed = same_bytes(certificate.subject_raw, certificate.issuer_raw);
  read_purposes(certificate, info);
  return info;
}

CrlInfo info_of(const mbedtls_x509_crl& crl) {
  CrlInfo info;
  info.issuer = display_name(crl.issuer);
  info.this_update = to_wall_time(crl.this_update);
  if (crl.next_update.year != 0) info.next_update = to_wall_time(crl.next_update);
  info.number = crl_number(crl);
  return info;
}

std::string describe(const CertificateInfo& info) {
  const std::string names = names_of(info);
  return info.subject + " (issuer " + info.issuer + (names.empty() ? "" : "; names " + names) +
         "; valid " + to_iso8601(info.not_before) + " to " + to_iso8601(info.not_after) + ")";
}

Result<std::vector<CertificateInfo>> read_certificates(std::string_view pem) {
  CertificateList list;
  if (const auto parsed = parse_certificates(pem, "certificate", false, list); !parsed) {
    return parsed.error();
  }
  std::vector<CertificateInfo> all;
  for (const mbedtls_x509_crt* one = list.get(); one != nullptr; one = one->next) {
    all.push_back(info_of(*one));
  }
  return all;
}

Result<CertificateInfo> read_certificate(std::string_view pem) {
  auto all = read_certificates(pem);
  if (!all) return all.error();
  return std::move(all->front());
}

Result<CertificateInfo> read_certificate_der(Bytes der) {
  if (const auto ready = init_crypto(); !ready) return ready.error();
  CertificateList list;
  const int ret = mbedtls_x509_crt_parse_der(list.get(), raw(der), der.size());
  if (ret != 0) {
    return fail(ErrorCode::kUsage, "cannot read the certificate: " + error_text(ret),
                "certificate");
  }
  return info_of(*list.get());
}

Result<CrlInfo> read_crl(std::string_view pem) {
  CrlList list;
  if (const auto parsed = parse_crls(pem, "CRL", list); !parsed) return parsed.error();
  CrlInfo info = info_of(*list.get());
  for (const mbedtls_x509_crl_entry* entry = &list->entry; entry != nullptr; entry = entry->next) {
    if (entry->raw.len == 0) break;  // the embedded first entry of an empty list
    const Bytes serial = bytes_of(entry->serial);
    info.revoked.push_back({{serial.begin(), serial.end()}, to_wall_time(entry->revocation_date)});
  }
  return info;
}

Sha256 sha256(Bytes data) {
  Sha256 digest{};
  // Fails only in hardware-backed variants.
  (void)mbedtls_sha256(raw(data), data.size(), raw(MutableBytes(digest)), 0);
  return digest;
}

}  // namespace culvert::tls
