// A small PKI for tests, made with common/tls/issue.h: every call makes a fresh key.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/tls/issue.h"

namespace culvert::tls {

struct Identity {
  std::string certificate;
  Secret key;
  [[nodiscard]] Issuer as_issuer() const { return {certificate, &key}; }
};

inline WallTime days_from_now(int days) {
  return wall_now() + std::chrono::hours(24) * days;
}

// Self-signed without `issuer`. `change` edits the request before it is signed.
inline Identity make_identity(const Identity* issuer, std::string common_name,
                              const std::function<void(IssueRequest&)>& change) {
  Identity made;
  auto key = generate_key();
  EXPECT_TRUE(key.has_value());
  made.key = std::move(*key);
  IssueRequest request;
  request.common_name = std::move(common_name);
  request.not_before = days_from_now(-30);
  request.not_after = days_from_now(300);
  request.key_pem = &made.key;
  if (issuer != nullptr) request.issuer = issuer->as_issuer();
  if (change) change(request);
  auto certificate = issue_certificate(request);
  EXPECT_TRUE(certificate.has_value()) << (certificate ? "" : certificate.error().message());
  made.certificate = certificate ? *certificate : "";
  return made;
}

inline Identity make_ca(std::string name, const Identity* issuer = nullptr,
                        const std::function<void(IssueRequest&)>& change = {}) {
  return make_identity(issuer, std::move(name), [issuer, &change](IssueRequest& request) {
    request.is_ca = true;
    request.not_before = days_from_now(-100);
    request.not_after = days_from_now(issuer == nullptr ? 1000 : 900);
    if (change) change(request);
  });
}

inline Identity make_server(const Identity& ca, std::vector<std::string> names,
                            const std::function<void(IssueRequest&)>& change = {}) {
  return make_identity(&ca, "server", [&](IssueRequest& request) {
    request.purposes = {Purpose::kServerAuth};
    request.dns_names = names;
    if (change) change(request);
  });
}

inline Identity make_client(const Identity& ca, std::string name,
                            const std::function<void(IssueRequest&)>& change = {}) {
  return make_identity(&ca, std::move(name), [&change](IssueRequest& request) {
    request.purposes = {Purpose::kClientAuth};
    if (change) change(request);
  });
}

inline std::vector<std::byte> serial_of(const std::string& certificate) {
  const auto info = read_certificate(certificate);
  EXPECT_TRUE(info.has_value());
  return info ? info->serial : std::vector<std::byte>{};
}

inline std::string make_crl(const Identity& ca, const std::vector<std::string>& revoked,
                            int from_days = -1, int to_days = 100, uint64_t number = 1) {
  std::vector<RevokedEntry> entries;
  for (const auto& certificate : revoked) {
    entries.push_back(
        {serial_of(certificate), days_from_now(from_days), RevocationReason::kKeyCompromise});
  }
  const auto crl = write_crl(
      {ca.as_issuer(), entries, days_from_now(from_days), days_from_now(to_days), number});
  EXPECT_TRUE(crl.has_value()) << (crl ? "" : crl.error().message());
  return crl ? *crl : "";
}

}  // namespace culvert::tls
