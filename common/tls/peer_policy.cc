#include "common/tls/peer_policy.h"

#include <algorithm>
#include <utility>

#include "common/tls/judge.h"

namespace culvert::tls {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// ASCII only: names in certificates are A-labels.
bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view without_trailing_dot(std::string_view name) {
  if (!name.empty() && name.back() == '.') name.remove_suffix(1);
  return name;
}

bool matches_dns(std::string_view pattern, std::string_view name) {
  if (equal_ignoring_case(pattern, name)) return true;
  if (!pattern.starts_with("*.")) return false;
  const std::string_view rest = pattern.substr(1);  // ".example.com"
  if (rest.find('.', 1) == std::string_view::npos) return false;
  const size_t dot = name.find('.');
  return dot != std::string_view::npos && dot != 0 && equal_ignoring_case(rest, name.substr(dot));
}

}  // namespace

std::string_view name_of(Reason reason) {
  switch (reason) {
    case Reason::kAccepted:
      return "accepted";
    case Reason::kNoCertificate:
      return "no_certificate";
    case Reason::kUnknownCa:
      return "unknown_ca";
    case Reason::kExpired:
      return "expired";
    case Reason::kNotYetValid:
      return "not_yet_valid";
    case Reason::kRevoked:
      return "revoked";
    case Reason::kWrongPurpose:
      return "wrong_purpose";
    case Reason::kWrongName:
      return "wrong_name";
    case Reason::kCrlMissing:
      return "crl_missing";
    case Reason::kCrlExpired:
      return "crl_expired";
    case Reason::kWeakKey:
      return "weak_key";
    case Reason::kMalformed:
      return "malformed";
  }
  return "malformed";
}

bool matches_name(const CertificateInfo& info, std::string_view expected) {
  if (const auto address = IpAddress::parse(expected)) {
    return std::find(info.ip_addresses.begin(), info.ip_addresses.end(), *address) !=
           info.ip_addresses.end();
  }
  const std::string_view name = without_trailing_dot(expected);
  if (name.empty()) return false;
  return std::any_of(info.dns_names.begin(), info.dns_names.end(), [name](const std::string& one) {
    return matches_dns(without_trailing_dot(one), name);
  });
}

Verdict recheck(std::span<const std::vector<std::byte>> chain_der, const TlsConfig& current) {
  const TlsConfig::Impl& config = current.impl();
  Judge judge(config, std::nullopt);
  CertificateList chain;
  for (const auto& der : chain_der) {
    const int ret = mbedtls_x509_crt_parse_der(chain.get(), raw(Bytes(der)), der.size());
    if (ret != 0) {
      return {Reason::kMalformed, "its certificate cannot be read: " + error_text(ret),
              std::nullopt};
    }
  }
  if (chain.empty()) return judge.verdict();
  uint32_t flags = 0;
  // The library does not change the trusted list; its signature only lacks the const.
  auto* trusted = const_cast<mbedtls_x509_crt*>(config.trusted.get());
  const int ret =
      mbedtls_x509_crt_verify_with_profile(chain.get(), trusted, nullptr, &kCertificateProfile,
                                           nullptr, &flags, Judge::on_certificate, &judge);
  if (judge.verdict().accepted() && (ret != 0 || flags != 0)) {
    return {Reason::kMalformed, "its certificate cannot be accepted: " + error_text(ret),
            judge.verdict().peer};
  }
  return judge.verdict();
}

}  // namespace culvert::tls
