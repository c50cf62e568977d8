// The judge: every way in which a certificate can be bad, on both sides, in TLS 1.3 and 1.2, with
// its verdict. The certificates are made here; the handshakes are real.

#include "common/tls/peer_policy.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/unit/tls/openssl.h"
#include "tests/unit/tls/pki.h"
#include "tests/unit/tls/tls_pair.h"

namespace culvert::tls {
namespace {

constexpr char kServerName[] = "vpn.example.com";

// What a case may change before the two sides meet.
struct Stage {
  Identity ca = make_ca("Test CA");
  Identity other_ca = make_ca("Other CA");
  Identity server = make_server(ca, {kServerName});
  Identity client = make_client(ca, "alice");
  std::string server_trusts = ca.certificate;
  std::string server_crl;  // empty: one of `ca` without entries
  bool server_needs_crl = true;
  bool server_accepts_expired_crl = false;
  std::string client_trusts = ca.certificate;
  std::string client_crl;
  bool client_needs_crl = false;
  bool client_presents = true;
  std::string name = kServerName;

  [[nodiscard]] TlsOptions server_options() const {
    TlsOptions options;
    options.role = Role::kServer;
    options.certificate_chain_pem = server.certificate;
    options.private_key_pem = server.key.clone();
    options.trusted_ca_pem = server_trusts;
    options.crl_pem = server_crl;
    options.crl_required = server_needs_crl;
    options.accept_expired_crl = server_accepts_expired_crl;
    return options;
  }
  [[nodiscard]] TlsOptions client_options(Version version) const {
    TlsOptions options;
    options.role = Role::kClient;
    if (client_presents) {
      options.certificate_chain_pem = client.certificate;
      options.private_key_pem = client.key.clone();
    }
    options.trusted_ca_pem = client_trusts;
    options.crl_pem = client_crl;
    options.crl_required = client_needs_crl;
    options.max_version = version;
    return options;
  }
};

std::shared_ptr<const TlsConfig> build(const TlsOptions& options) {
  auto config = TlsConfig::build(options);
  EXPECT_TRUE(config.has_value()) << (config ? "" : config.error().message());
  return *config;
}

struct Case {
  const char* name;
  void (*arrange)(Stage&);
  Reason expected;
  const char* text;  // part of the verdict's text
};

class ClientIsJudged : public testing::TestWithParam<std::tuple<Case, Version>> {};
class ServerIsJudged : public testing::TestWithParam<std::tuple<Case, Version>> {};

std::string case_name(const testing::TestParamInfo<std::tuple<Case, Version>>& param) {
  return std::string(std::get<0>(param.param).name) +
         (std::get<1>(param.param) == Version::k13 ? "Tls13" : "Tls12");
}

// A client refused under TLS must find the handshake complete: only then can it be told why.
TEST_P(ClientIsJudged, WithTheRightVerdict) {
  const auto& [c, version] = GetParam();
  Stage stage;
  stage.server_crl = make_crl(stage.ca, {});
  c.arrange(stage);
  Pair pair(build(stage.client_options(version)), build(stage.server_options()), stage.name);
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done()) << pair.client.session->error().message()
                                << pair.server.session->error().message();
  const Verdict verdict = judge_client(*pair.server.session);
  EXPECT_EQ(c.expected, verdict.reason) << name_of(verdict.reason) << ": " << verdict.text;
  EXPECT_NE(std::string::npos, verdict.text.find(c.text)) << verdict.text;
  EXPECT_EQ(c.expected == Reason::kNoCertificate, !verdict.peer.has_value());

  const Verdict again =
      recheck(pair.server.session->peer_chain_der(), pair.server.session->config());
  EXPECT_EQ(verdict.reason, again.reason) << "a second look at the same says " << again.text;
  EXPECT_EQ("answered all the same",
            Pair::carry(pair.server, pair.client, "answered all the same"));
}

const Case kClientCases[] = {
    {"Good", [](Stage&) {}, Reason::kAccepted, "CN=alice"},
    {"None", [](Stage& s) { s.client_presents = false; }, Reason::kNoCertificate,
     "presented no certificate; expected: one that leads to CN=Test CA"},
    {"UnknownCa", [](Stage& s) { s.client = make_client(s.other_ca, "mallory"); },
     Reason::kUnknownCa, "issuer CN=Other CA"},
    {"ImpostorCa",
     [](Stage& s) {
       const Identity impostor = make_ca("Test CA");
       s.client = make_client(impostor, "mallory");
     },
     Reason::kUnknownCa, "names the trusted CA CN=Test CA but is not signed by it"},
    {"SelfSigned",
     [](Stage& s) {
       s.client = make_identity(nullptr, "alice",
                                [](IssueRequest& r) { r.purposes = {Purpose::kClientAuth}; });
     },
     Reason::kUnknownCa, "does not lead to a trusted CA"},
    {"Expired",
     [](Stage& s) {
       s.client =
           make_client(s.ca, "alice", [](IssueRequest& r) { r.not_after = days_from_now(-1); });
     },
     Reason::kExpired, "its certificate expired on"},
    {"NotYetValid",
     [](Stage& s) {
       s.client =
           make_client(s.ca, "alice", [](IssueRequest& r) { r.not_before = days_from_now(2); });
     },
     Reason::kNotYetValid, "is not valid before"},
    {"Revoked", [](Stage& s) { s.server_crl = make_crl(s.ca, {s.client.certificate}); },
     Reason::kRevoked, "was revoked by CN=Test CA"},
    {"RevokedAndExpired",
     [](Stage& s) {
       s.client =
           make_client(s.ca, "alice", [](IssueRequest& r) { r.not_after = days_from_now(-1); });
       s.server_crl = make_crl(s.ca, {s.client.certificate});
     },
     Reason::kRevoked, "revoked"},
    {"RevokedOnAnExpiredList",
     [](Stage& s) { s.server_crl = make_crl(s.ca, {s.client.certificate}, -20, -10); },
     Reason::kRevoked, "revoked"},
    {"AnotherOneRevoked",
     [](Stage& s) { s.server_crl = make_crl(s.ca, {make_client(s.ca, "bob").certificate}); },
     Reason::kAccepted, "CN=alice"},
    {"NewestListCounts",
     [](Stage& s) {
       s.server_crl = make_crl(s.ca, {s.client.certificate}, -1) + make_crl(s.ca, {}, -5);
     },
     Reason::kRevoked, "revoked"},
    {"ServerCertificate", [](Stage& s) { s.client = make_server(s.ca, {"alice"}); },
     Reason::kWrongPurpose, "expected: a certificate for TLS clients"},
    {"CaCertificate",
     [](Stage& s) {
       s.client = {s.ca.certificate, s.ca.key.clone()};
     },
     Reason::kWrongPurpose, "that of a CA"},
    {"NoPurposeGiven",
     [](Stage& s) {
       s.client = make_client(s.ca, "alice", [](IssueRequest& r) { r.purposes.clear(); });
     },
     Reason::kAccepted, "CN=alice"},
    {"CrlMissing", [](Stage& s) { s.server_crl.clear(); }, Reason::kCrlMissing,
     "no revocation list of CN=Test CA"},
    {"CrlNotNeeded",
     [](Stage& s) {
       s.server_crl.clear();
       s.server_needs_crl = false;
     },
     Reason::kAccepted, "CN=alice"},
    {"CrlOfAnotherCaOnly",
     [](Stage& s) {
       s.server_trusts += s.other_ca.certificate;
       s.server_crl = make_crl(s.other_ca, {});
     },
     Reason::kCrlMissing, "no revocation list of CN=Test CA"},
    {"CrlExpired", [](Stage& s) { s.server_crl = make_crl(s.ca, {}, -20, -10); },
     Reason::kCrlExpired, "out of date"},
    {"CrlExpiredButAccepted",
     [](Stage& s) {
       s.server_crl = make_crl(s.ca, {}, -20, -10);
       s.server_accepts_expired_crl = true;
     },
     Reason::kAccepted, "CN=alice"},
    {"CrlOfTomorrow", [](Stage& s) { s.server_crl = make_crl(s.ca, {}, 2, 10); },
     Reason::kCrlExpired, "dated in the future"},
    {"ThroughAnIntermediate",
     [](Stage& s) {
       const Identity middle = make_ca("Middle CA", &s.ca);
       s.client = make_client(middle, "alice");
       s.client.certificate += middle.certificate;
       s.server_trusts += middle.certificate;
       s.server_crl += make_crl(middle, {});
     },
     Reason::kAccepted, "CN=alice"},
    {"ThroughAnIntermediateWithoutItsCrl",
     [](Stage& s) {
       const Identity middle = make_ca("Middle CA", &s.ca);
       s.client = make_client(middle, "alice");
       s.client.certificate += middle.certificate;
     },
     Reason::kCrlMissing, "no revocation list of CN=Middle CA"},
    {"IntermediateNotPresented",
     [](Stage& s) { s.client = make_client(make_ca("Middle CA", &s.ca), "alice"); },
     Reason::kUnknownCa, "issuer CN=Middle CA"},
    {"IntermediateRevoked",
     [](Stage& s) {
       const Identity middle = make_ca("Middle CA", &s.ca);
       s.client = make_client(middle, "alice");
       s.client.certificate += middle.certificate;
       s.server_crl = make_crl(s.ca, {middle.certificate});
     },
     Reason::kRevoked, "the CA certificate CN=Middle CA was revoked"},
    {"TrustedIntermediateRevoked",
     [](Stage& s) {
       const Identity middle = make_ca("Middle CA", &s.ca);
       s.client = make_client(middle, "alice");
       s.server_trusts += middle.certificate;
       s.server_crl = make_crl(s.ca, {middle.certificate}) + make_crl(middle, {});
     },
     Reason::kRevoked, "the CA certificate CN=Middle CA was revoked"},
    {"IntermediateExpired",
     [](Stage& s) {
       const Identity middle =
           make_ca("Middle CA", &s.ca, [](IssueRequest& r) { r.not_after = days_from_now(-1); });
       s.client =
           make_client(middle, "alice", [](IssueRequest& r) { r.not_after = days_from_now(-2); });
       s.client.certificate += middle.certificate;
       s.server_needs_crl = false;
     },
     Reason::kExpired, "expired on"},
    {"IssuedByAnOrdinaryCertificate",
     [](Stage& s) {
       // What alice signs with her own key is nobody's certificate.
       Identity fake = make_ca("alice");
       s.client_presents = true;
       const Identity mallory = make_client(fake, "mallory");
       s.client = {mallory.certificate + s.client.certificate, mallory.key.clone()};
     },
     Reason::kUnknownCa, "CN=mallory"},
};

INSTANTIATE_TEST_SUITE_P(Cases, ClientIsJudged,
                         testing::Combine(testing::ValuesIn(kClientCases),
                                          testing::Values(Version::k13, Version::k12)),
                         case_name);

TEST_P(ServerIsJudged, WithTheRightVerdict) {
  const auto& [c, version] = GetParam();
  Stage stage;
  stage.server_needs_crl = false;
  c.arrange(stage);
  Pair pair(build(stage.client_options(version)), build(stage.server_options()), stage.name);
  pair.shake_hands();
  const Verdict& verdict = pair.client.session->server_verdict();
  EXPECT_EQ(c.expected, verdict.reason) << name_of(verdict.reason) << ": " << verdict.text;
  EXPECT_NE(std::string::npos, verdict.text.find(c.text)) << verdict.text;
  ASSERT_TRUE(verdict.peer.has_value());
  if (c.expected == Reason::kAccepted) {
    EXPECT_TRUE(pair.both_done()) << pair.client.session->error().message();
    return;
  }
  EXPECT_EQ(Io::kFailed, pair.client_result);
  const Error& error = pair.client.session->error();
  EXPECT_EQ(ErrorCode::kUntrusted, error.code) << error.message();
  EXPECT_NE(std::string::npos, error.what.find(verdict.text)) << error.message();
  EXPECT_FALSE(error.hint.empty());
  EXPECT_EQ(Io::kFailed, pair.server_result) << "the server was told";
}

const Case kServerCases[] = {
    {"Good", [](Stage&) {}, Reason::kAccepted, "accepted"},
    {"UnknownCa", [](Stage& s) { s.server = make_server(s.other_ca, {kServerName}); },
     Reason::kUnknownCa, "issuer CN=Other CA"},
    {"ImpostorCa",
     [](Stage& s) {
       const Identity impostor = make_ca("Test CA");
       s.server = make_server(impostor, {kServerName});
     },
     Reason::kUnknownCa, "another key"},
    {"Expired",
     [](Stage& s) {
       s.server = make_server(s.ca, {kServerName},
                              [](IssueRequest& r) { r.not_after = days_from_now(-1); });
     },
     Reason::kExpired, "expired on"},
    {"NotYetValid",
     [](Stage& s) {
       s.server = make_server(s.ca, {kServerName},
                              [](IssueRequest& r) { r.not_before = days_from_now(1); });
     },
     Reason::kNotYetValid, "is not valid before"},
    {"Revoked", [](Stage& s) { s.client_crl = make_crl(s.ca, {s.server.certificate}); },
     Reason::kRevoked, "revoked by CN=Test CA"},
    {"CrlMissing", [](Stage& s) { s.client_needs_crl = true; }, Reason::kCrlMissing,
     "no revocation list of CN=Test CA"},
    {"CrlExpired", [](Stage& s) { s.client_crl = make_crl(s.ca, {}, -20, -10); },
     Reason::kCrlExpired, "out of date"},
    {"AnotherName", [](Stage& s) { s.server = make_server(s.ca, {"mail.example.com"}); },
     Reason::kWrongName, "names mail.example.com;"},
    {"ExpectedNameIsTold", [](Stage& s) { s.server = make_server(s.ca, {"mail.example.com"}); },
     Reason::kWrongName, "expected: vpn.example.com"},
    {"NameInTheCommonNameOnly",
     [](Stage& s) {
       s.server = make_identity(&s.ca, kServerName,
                                [](IssueRequest& r) { r.purposes = {Purpose::kServerAuth}; });
     },
     Reason::kWrongName, "no subject alternative name"},
    {"Wildcard", [](Stage& s) { s.server = make_server(s.ca, {"*.example.com"}); },
     Reason::kAccepted, "accepted"},
    {"WildcardForAnotherDomain", [](Stage& s) { s.server = make_server(s.ca, {"*.example.org"}); },
     Reason::kWrongName, "*.example.org"},
    {"WildcardOneLevelOff",
     [](Stage& s) {
       s.server = make_server(s.ca, {"*.example.com"});
       s.name = "a.vpn.example.com";
     },
     Reason::kWrongName, "*.example.com"},
    {"Address",
     [](Stage& s) {
       s.server = make_server(s.ca, {}, [](IssueRequest& r) {
         r.ip_addresses = {*IpAddress::parse("192.0.2.1"), *IpAddress::parse("2001:db8::1")};
       });
       s.name = "2001:db8::1";
     },
     Reason::kAccepted, "192.0.2.1"},
    {"AnotherAddress",
     [](Stage& s) {
       s.server = make_server(s.ca, {kServerName}, [](IssueRequest& r) {
         r.ip_addresses = {*IpAddress::parse("192.0.2.1")};
       });
       s.name = "192.0.2.2";
     },
     Reason::kWrongName, "expected: 192.0.2.2"},
    {"AddressWrittenAsName",
     [](Stage& s) {
       s.server = make_server(s.ca, {"192.0.2.1"});
       s.name = "192.0.2.1";
     },
     Reason::kWrongName, "expected: 192.0.2.1"},
    {"ThroughAnIntermediate",
     [](Stage& s) {
       const Identity middle = make_ca("Middle CA", &s.ca);
       s.server = make_server(middle, {kServerName});
       s.server.certificate += middle.certificate;
     },
     Reason::kAccepted, "issuer CN=Middle CA"},
    {"IntermediateNotPresented",
     [](Stage& s) { s.server = make_server(make_ca("Middle CA", &s.ca), {kServerName}); },
     Reason::kUnknownCa, "issuer CN=Middle CA"},
    {"PinnedSelfSigned",
     [](Stage& s) {
       s.server = make_identity(nullptr, "server", [](IssueRequest& r) {
         r.purposes = {Purpose::kServerAuth};
         r.dns_names = {kServerName};
       });
       s.client_trusts = s.server.certificate;
     },
     Reason::kAccepted, "accepted"},
};

INSTANTIATE_TEST_SUITE_P(Cases, ServerIsJudged,
                         testing::Combine(testing::ValuesIn(kServerCases),
                                          testing::Values(Version::k13, Version::k12)),
                         case_name);

TEST(Judge, RefusesRsaKeysBelow2048Bits) {
  if (!OpenSsl::available()) GTEST_SKIP() << "needs the openssl program";
  OpenSsl openssl;
  for (const char* bits : {"1024", "2048"}) {
    Stage stage;
    stage.server_crl = make_crl(stage.ca, {});
    ASSERT_EQ(0, openssl.run(std::string("genrsa -out weak.key ") + bits));
    const std::string key = openssl.read("weak.key");
    stage.client.key = Secret(as_bytes(key));
    IssueRequest request;
    request.common_name = "alice";
    request.purposes = {Purpose::kClientAuth};
    request.not_before = days_from_now(-1);
    request.not_after = days_from_now(1);
    request.key_pem = &stage.client.key;
    request.issuer = stage.ca.as_issuer();
    stage.client.certificate = *issue_certificate(request);
    Pair pair(build(stage.client_options(Version::k12)), build(stage.server_options()),
              kServerName);
    pair.shake_hands();
    ASSERT_TRUE(pair.both_done()) << pair.client.session->error().message()
                                  << pair.server.session->error().message();
    const Verdict verdict = judge_client(*pair.server.session);
    EXPECT_EQ(std::string_view(bits) == "1024" ? Reason::kWeakKey : Reason::kAccepted,
              verdict.reason)
        << verdict.text;
  }
}

TEST(Judge, RefusesBeforeTheHandshakeIsOver) {
  Stage stage;
  auto session = TlsSession::create(build(stage.server_options()));
  ASSERT_TRUE(session.has_value());
  EXPECT_FALSE(judge_client(**session).accepted());
}

TEST(Judge, TakesBackItsVerdictWhenTheCertificateIsRevokedLater) {
  Stage stage;
  stage.server_crl = make_crl(stage.ca, {});
  Pair pair(build(stage.client_options(Version::k13)), build(stage.server_options()), kServerName);
  pair.shake_hands();
  ASSERT_TRUE(judge_client(*pair.server.session).accepted());
  const auto chain = pair.server.session->peer_chain_der();
  stage.server_crl = make_crl(stage.ca, {stage.client.certificate});
  EXPECT_EQ(Reason::kRevoked, recheck(chain, *build(stage.server_options())).reason);
  stage.server_trusts = stage.other_ca.certificate;
  stage.server_crl = make_crl(stage.other_ca, {});
  EXPECT_EQ(Reason::kUnknownCa, recheck(chain, *build(stage.server_options())).reason);
  EXPECT_EQ(Reason::kNoCertificate, recheck({}, *build(stage.server_options())).reason);
}

TEST(MatchesName, FollowsRfc6125) {
  CertificateInfo info;
  info.common_name = "common.example.com";
  info.dns_names = {"vpn.example.com", "*.wild.example.com", "*.com", "w*.example.com", "*"};
  info.ip_addresses = {*IpAddress::parse("10.0.0.1")};
  const std::pair<const char*, bool> table[] = {
      {"vpn.example.com", true},
      {"VPN.Example.COM", true},
      {"vpn.example.com.", true},
      {"xvpn.example.com", false},
      {"vpn.example.com.evil", false},
      {"common.example.com", false},
      {"a.wild.example.com", true},
      {"wild.example.com", false},
      {"a.b.wild.example.com", false},
      {".wild.example.com", false},
      {"example.com", false},
      {"www.example.com", false},
      {"localhost", false},
      {"10.0.0.1", true},
      {"10.0.0.2", false},
      {"", false},
  };
  for (const auto& [name, matches] : table)
    EXPECT_EQ(matches, matches_name(info, name)) << name;
}

}  // namespace
}  // namespace culvert::tls
