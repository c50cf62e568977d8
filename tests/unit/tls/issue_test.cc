// Certificates and revocation lists that we write, as the openssl program sees them.

#include "common/tls/issue.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/base/text.h"
#include "tests/unit/tls/openssl.h"
#include "tests/unit/tls/pki.h"

namespace culvert::tls {
namespace {

class Issue : public testing::Test {
 protected:
  void SetUp() override {
    if (!OpenSsl::available()) GTEST_SKIP() << "needs the openssl program";
  }
  // What `openssl x509 -text` and its like print.
  std::string text_of(const std::string& kind, const std::string& pem) {
    openssl.write("shown.pem", pem);
    EXPECT_EQ(0, openssl.run(kind + " -in shown.pem -noout -text -nameopt utf8,sep_comma_plus"))
        << openssl.output();
    return openssl.output();
  }
  OpenSsl openssl;
};

#define EXPECT_CONTAINS(text, part) \
  EXPECT_NE(std::string::npos, (text).find(part)) << "missing: " << (part) << "\nin: " << (text)

TEST_F(Issue, ChainIsAcceptedByOpenssl) {
  const Identity root = make_ca("Culvert CA");
  const Identity middle = make_ca("Middle CA", &root);
  openssl.write("root.pem", root.certificate);
  openssl.write("middle.pem", middle.certificate);
  openssl.write("server.pem", make_server(middle, {"vpn.example.com"}).certificate);
  openssl.write("client.pem", make_client(middle, "alice").certificate);
  EXPECT_EQ(0, openssl.run("verify -x509_strict -CAfile root.pem -untrusted middle.pem -purpose "
                           "sslserver -verify_hostname vpn.example.com server.pem"))
      << openssl.output();
  EXPECT_EQ(0, openssl.run("verify -x509_strict -CAfile root.pem -untrusted middle.pem -purpose "
                           "sslclient client.pem"))
      << openssl.output();
  EXPECT_NE(0, openssl.run("verify -x509_strict -CAfile root.pem -untrusted middle.pem -purpose "
                           "sslserver client.pem"));
}

TEST_F(Issue, ServerCertificateSaysWhatWasAskedFor) {
  const Identity ca = make_ca("Culvert CA");
  const auto text = text_of(
      "x509", make_server(ca, {"vpn.example.com", "*.example.org"}, [](IssueRequest& r) {
                r.ip_addresses = {*IpAddress::parse("192.0.2.1"), *IpAddress::parse("2001:db8::1")};
              }).certificate);
  EXPECT_CONTAINS(text,
                  "DNS:vpn.example.com, DNS:*.example.org, IP Address:192.0.2.1, "
                  "IP Address:2001:DB8:0:0:0:0:0:1");
  EXPECT_CONTAINS(text, "TLS Web Server Authentication");
  EXPECT_CONTAINS(text, "X509v3 Key Usage: critical\n                Digital Signature\n");
  EXPECT_CONTAINS(text, "CA:FALSE");
  EXPECT_CONTAINS(text, "ecdsa-with-SHA256");
  EXPECT_CONTAINS(text, "prime256v1");
  EXPECT_CONTAINS(text, "X509v3 Subject Key Identifier");
  EXPECT_CONTAINS(text, "X509v3 Authority Key Identifier");
}

TEST_F(Issue, CaCertificateMaySignCertificatesAndLists) {
  const auto text = text_of("x509", make_ca("Culvert CA").certificate);
  EXPECT_CONTAINS(text, "X509v3 Basic Constraints: critical\n                CA:TRUE");
  EXPECT_CONTAINS(text, "Certificate Sign, CRL Sign");
}

TEST_F(Issue, SpecialCharactersInNamesSurvive) {
  const std::string name = "Ann \"A\" O'Neil, \\ + <x>; #1=ü ";
  const auto client = make_client(make_ca("CA, the second"), name, [](IssueRequest& r) {
    r.organizational_unit = "R&D, Köln";
    r.organization = "Example, Inc.";
  });
  const auto info = read_certificate(client.certificate);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(name, info->common_name);
  EXPECT_EQ("R&D, Köln", info->organizational_unit);
  EXPECT_EQ(R"(O=Example\, Inc., OU=R&D\, Köln, CN=Ann \"A\" O'Neil\, \\ + <x>; #1=ü )",
            info->subject);
  EXPECT_CONTAINS(text_of("x509", client.certificate), "O=Example, Inc.,OU=R&D, Köln,CN=Ann \"A\"");
}

TEST_F(Issue, ReadingGivesBackWhatWasWritten) {
  const Identity ca = make_ca("Culvert CA");
  const auto info =
      read_certificate(make_client(ca, "alice", [](IssueRequest& r) {
                         r.not_before = WallTime(std::chrono::seconds(1767225600));  // 2026-01-01
                         r.not_after = r.not_before + std::chrono::hours(24);
                         r.dns_names = {"laptop.example.com"};
                       }).certificate);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ("alice", info->common_name);
  EXPECT_EQ("CN=Culvert CA", info->issuer);
  EXPECT_EQ("2026-01-01T00:00:00Z", to_iso8601(info->not_before));
  EXPECT_EQ("2026-01-02T00:00:00Z", to_iso8601(info->not_after));
  EXPECT_EQ(std::vector<std::string>{"laptop.example.com"}, info->dns_names);
  EXPECT_EQ(std::vector<Purpose>{Purpose::kClientAuth}, info->purposes);
  EXPECT_EQ("ECDSA P-256", info->key_type);
  EXPECT_EQ(16u, info->serial.size());
  EXPECT_FALSE(info->is_ca);
  EXPECT_FALSE(info->self_signed);
  EXPECT_FALSE(info->any_purpose);
}

TEST_F(Issue, FingerprintsAreThoseOfOpenssl) {
  const Identity ca = make_ca("Culvert CA");
  openssl.write("ca.pem", ca.certificate);
  const auto info = read_certificate(ca.certificate);
  ASSERT_EQ(0, openssl.run("x509 -in ca.pem -outform DER -out ca.der"));
  ASSERT_EQ(0, openssl.run("dgst -sha256 ca.der"));
  EXPECT_CONTAINS(openssl.output(), to_hex(info->fingerprint));
  ASSERT_EQ(0, openssl.run("x509 -in ca.pem -noout -pubkey -out key.pem"));
  ASSERT_EQ(0, openssl.run("pkey -pubin -in key.pem -outform DER -out key.der"));
  ASSERT_EQ(0, openssl.run("dgst -sha256 key.der"));
  EXPECT_CONTAINS(openssl.output(), to_hex(info->spki_sha256));
}

TEST_F(Issue, RenewalWithTheSameKeyKeepsTheKeyHash) {
  const Identity ca = make_ca("Culvert CA");
  const Identity first = make_client(ca, "alice");
  IssueRequest request;
  request.common_name = "alice";
  request.purposes = {Purpose::kClientAuth};
  request.not_before = days_from_now(-1);
  request.not_after = days_from_now(20);
  request.key_pem = &first.key;
  request.issuer = ca.as_issuer();
  const auto renewed = issue_certificate(request);
  ASSERT_TRUE(renewed.has_value());
  EXPECT_EQ(read_certificate(first.certificate)->spki_sha256,
            read_certificate(*renewed)->spki_sha256);
  EXPECT_NE(read_certificate(first.certificate)->serial, read_certificate(*renewed)->serial);
  EXPECT_TRUE(*key_matches(*renewed, first.key));
  EXPECT_FALSE(*key_matches(*renewed, ca.key));
}

TEST_F(Issue, CertificatesOfACaMadeByOpensslVerify) {
  ASSERT_EQ(0, openssl.run("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 400 "
                           "-subj '/C=DE/O=Example, Inc./CN=Foreign CA' -addext "
                           "keyUsage=critical,keyCertSign,cRLSign"))
      << openssl.output();
  const Identity ca{openssl.read("ca.pem"), Secret(as_bytes(openssl.read("ca.key")))};
  const Identity client = make_client(ca, "alice");
  openssl.write("client.pem", client.certificate);
  openssl.write("crl.pem", make_crl(ca, {}));
  EXPECT_EQ(
      0, openssl.run("verify -x509_strict -CAfile ca.pem -CRLfile crl.pem -crl_check client.pem"))
      << openssl.output();
  openssl.write("crl.pem", make_crl(ca, {client.certificate}));
  EXPECT_NE(0, openssl.run("verify -CAfile ca.pem -CRLfile crl.pem -crl_check client.pem"));
  EXPECT_CONTAINS(openssl.output(), "certificate revoked");
}

TEST_F(Issue, SenselessRequestsAreRefused) {
  const Identity ca = make_ca("Culvert CA");
  const Identity client = make_client(ca, "alice");
  const auto key = generate_key();
  const auto attempt = [&](const std::function<void(IssueRequest&)>& change) {
    IssueRequest request;
    request.common_name = "bob";
    request.not_before = days_from_now(-1);
    request.not_after = days_from_now(1);
    request.key_pem = &*key;
    request.issuer = ca.as_issuer();
    change(request);
    const auto result = issue_certificate(request);
    return result ? ErrorCode{} : result.error().code;
  };
  EXPECT_EQ(ErrorCode{}, attempt([](IssueRequest&) {}));
  const std::function<void(IssueRequest&)> changes[] = {
      [](IssueRequest& r) { r.common_name.clear(); },
      [](IssueRequest& r) { r.common_name = "a\nb"; },
      [](IssueRequest& r) { r.common_name = std::string(65, 'x'); },
      [](IssueRequest& r) { r.not_after = r.not_before; },
      [](IssueRequest& r) { r.not_after = days_from_now(5000); },
      [](IssueRequest& r) { r.key_pem = nullptr; },
      [](IssueRequest& r) { r.dns_names = {"vpn example"}; },
      [](IssueRequest& r) { r.dns_names = {""}; },
      [](IssueRequest& r) { r.purposes = {Purpose::kOther}; },
      [&](IssueRequest& r) { r.issuer = client.as_issuer(); },
      [&](IssueRequest& r) {
        r.issuer = Issuer{ca.certificate, &client.key};
      },
      [&](IssueRequest& r) {
        r.issuer = Issuer{ca.certificate, nullptr};
      },
      [&](IssueRequest& r) {
        r.issuer = Issuer{"no PEM", &ca.key};
      },
  };
  for (const auto& change : changes)
    EXPECT_EQ(ErrorCode::kUsage, attempt(change));
}

TEST_F(Issue, RevocationListIsAcceptedAndObeyedByOpenssl) {
  const Identity ca = make_ca("Culvert CA");
  const Identity alice = make_client(ca, "alice"), bob = make_client(ca, "bob");
  openssl.write("ca.pem", ca.certificate);
  openssl.write("alice.pem", alice.certificate);
  openssl.write("bob.pem", bob.certificate);
  openssl.write("crl.pem", make_crl(ca, {bob.certificate}));
  EXPECT_EQ(0, openssl.run("crl -in crl.pem -CAfile ca.pem -noout")) << openssl.output();
  EXPECT_CONTAINS(openssl.output(), "verify OK");
  const std::string verify = "verify -x509_strict -CAfile ca.pem -CRLfile crl.pem -crl_check ";
  EXPECT_EQ(0, openssl.run(verify + "alice.pem")) << openssl.output();
  EXPECT_NE(0, openssl.run(verify + "bob.pem"));
  EXPECT_CONTAINS(openssl.output(), "error 23");
  const auto text = text_of("crl", make_crl(ca, {bob.certificate}, -1, 100, 255));
  EXPECT_CONTAINS(text, "Key Compromise");
  EXPECT_CONTAINS(text, "X509v3 CRL Number: \n                255");
  EXPECT_CONTAINS(text, "Version 2");
}

TEST_F(Issue, RevocationListsComeBackAsWritten) {
  const Identity ca = make_ca("Culvert CA");
  std::vector<std::string> revoked;
  for (const char* name : {"a", "b", "c"})
    revoked.push_back(make_client(ca, name).certificate);
  const auto crl = read_crl(make_crl(ca, revoked, -3, 12000, 0x80FF));
  ASSERT_TRUE(crl.has_value());
  EXPECT_EQ("CN=Culvert CA", crl->issuer);
  EXPECT_EQ(0x80FFu, crl->number);
  ASSERT_EQ(3u, crl->revoked.size());
  for (size_t i = 0; i < 3; ++i)
    EXPECT_EQ(serial_of(revoked[i]), crl->revoked[i].serial);
  EXPECT_GT(to_iso8601(*crl->next_update), "2050") << "a date in the long form";
  const auto empty = read_crl(make_crl(ca, {}));
  ASSERT_TRUE(empty.has_value());
  EXPECT_TRUE(empty->revoked.empty());
}

TEST_F(Issue, LongRevocationListIsWritten) {
  const Identity ca = make_ca("Culvert CA");
  std::vector<RevokedEntry> entries(5000);
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i].serial.assign(20, std::byte{0x41});
    entries[i].serial[1] = static_cast<std::byte>(i >> 8);
    entries[i].serial[2] = static_cast<std::byte>(i);
    entries[i].when = days_from_now(-1);
    entries[i].reason = RevocationReason::kSuperseded;
  }
  const auto crl = write_crl(
      {ca.as_issuer(), entries, days_from_now(-1), days_from_now(100), 18446744073709551615u});
  ASSERT_TRUE(crl.has_value()) << crl.error().message();
  openssl.write("ca.pem", ca.certificate);
  openssl.write("crl.pem", *crl);
  EXPECT_EQ(0, openssl.run("crl -in crl.pem -CAfile ca.pem -noout")) << openssl.output();
  EXPECT_EQ(5000u, read_crl(*crl)->revoked.size());
  EXPECT_EQ(18446744073709551615u, read_crl(*crl)->number);
}

TEST(Read, RefusesWhatIsNoCertificate) {
  for (const char* text :
       {"", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n"}) {
    const auto info = read_certificate(text);
    ASSERT_FALSE(info.has_value()) << text;
    EXPECT_EQ(ErrorCode::kUsage, info.error().code);
    EXPECT_FALSE(read_crl(text).has_value());
  }
  EXPECT_FALSE(read_certificate_der(as_bytes("0\x82\xff\xff")).has_value());
}

}  // namespace
}  // namespace culvert::tls
