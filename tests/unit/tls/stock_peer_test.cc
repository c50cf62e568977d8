// Our client against OpenSSL's server: certificates, refusals, the exporter, session tickets.

#include <gtest/gtest.h>

#include <algorithm>

#include "common/base/text.h"
#include "tests/unit/tls/pki.h"
#include "tests/unit/tls/stock_server.h"

namespace culvert::tls {
namespace {

constexpr char kName[] = "vpn.example.com";
constexpr char kLabel[] = "EXPORTER-openconnect-psk";
using Io = TlsSession::Io;

struct Flavour {
  const char* name;
  const char* option;
  const char* version;
};

class StockPeer : public testing::TestWithParam<Flavour> {
 protected:
  void SetUp() override {
    if (!OpenSsl::available()) GTEST_SKIP() << "needs the openssl program";
    write("server", make_server(ca_, {kName}));
    openssl_.write("ca.crt", ca_.certificate);
  }
  void write(const std::string& name, const Identity& identity) {
    openssl_.write(name + ".crt", identity.certificate);
    openssl_.write(name + ".key", as_text(identity.key.bytes()));
  }
  std::shared_ptr<const TlsConfig> client_config(const Identity* identity) const {
    TlsOptions options;
    options.role = Role::kClient;
    options.trusted_ca_pem = ca_.certificate;
    if (identity != nullptr) {
      options.certificate_chain_pem = identity->certificate;
      options.private_key_pem = identity->key.clone();
    }
    auto config = TlsConfig::build(options);
    EXPECT_TRUE(config.has_value());
    return *config;
  }
  std::vector<std::string> arguments(const std::vector<std::string>& more) const {
    std::vector<std::string> all = {GetParam().option, "-cert",   "server.crt", "-key",
                                    "server.key",      "-CAfile", "ca.crt"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  // Three lines each way.
  void expect_talk(StockServer& server) const {
    Connected connected(client_config(&alice_), kName, server.port());
    ASSERT_EQ(Io::kOk, connected.handshake()) << connected.session->error().message();
    for (const std::string line : {"one\n", "two\n", "three\n"}) {
      ASSERT_EQ(Io::kOk, connected.session->write(as_bytes("we: " + line)));
      connected.flush();
      server.wait_for("we: " + line);
      server.type("they: " + line);
      const auto got = connected.read();
      ASSERT_EQ(Io::kOk, got.io) << connected.session->error().message();
      EXPECT_EQ("they: " + line, as_text(Bytes(connected.buffer).first(got.size)));
    }
  }
  // The outcome of a handshake and, if it succeeds, of the first read.
  static Error refusal(Connected& connected) {
    if (connected.handshake() == Io::kOk) {
      EXPECT_EQ(Io::kFailed, connected.read().io);
    }
    return connected.session->error();
  }

  Identity ca_ = make_ca("Test CA");
  Identity alice_ = make_client(ca_, "alice");
  OpenSsl openssl_;
};

INSTANTIATE_TEST_SUITE_P(Versions, StockPeer,
                         testing::Values(Flavour{"Tls13", "-tls1_3", "TLSv1.3"},
                                         Flavour{"Tls12", "-tls1_2", "TLSv1.2"}),
                         [](const auto& flavour) { return std::string(flavour.param.name); });

TEST_P(StockPeer, TalksWithUsAndExportsTheSameKey) {
  StockServer server(openssl_, arguments({"-Verify", "1", "-verify_return_error", "-keymatexport",
                                          kLabel, "-keymatexportlen", "32"}));
  Connected connected(client_config(&alice_), kName, server.port());
  ASSERT_EQ(Io::kOk, connected.handshake()) << connected.session->error().message();
  EXPECT_EQ(GetParam().version, connected.session->version());
  EXPECT_TRUE(connected.session->certificate_requested());

  ASSERT_EQ(Io::kOk, connected.session->write(as_bytes("from us\n")));
  connected.flush();
  server.wait_for("from us");
  server.type("from them\n");  // behind the session tickets that this server sends in TLS 1.3
  const auto got = connected.read();
  ASSERT_EQ(Io::kOk, got.io) << connected.session->error().message();
  EXPECT_EQ("from them\n", as_text(Bytes(connected.buffer).first(got.size)));

  std::array<std::byte, 32> key{};
  ASSERT_TRUE(connected.session->export_key(kLabel, key).has_value());
  std::string hex = to_hex(key);
  std::transform(hex.begin(), hex.end(), hex.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  server.wait_for(hex);
}

// The nonce of ChaCha20-Poly1305 is not in the record (RFC 7905), as that of AES-GCM in TLS 1.2 is.
TEST_P(StockPeer, TalksWithUsInChaCha20) {
  const bool tls13 = std::string_view(GetParam().version) == "TLSv1.3";
  StockServer server(openssl_, arguments({tls13 ? "-ciphersuites" : "-cipher",
                                          tls13 ? "TLS_CHACHA20_POLY1305_SHA256"
                                                : "ECDHE-ECDSA-CHACHA20-POLY1305"}));
  expect_talk(server);
}

// RFC 8446 section 5.4: zeros behind the content type, here up to a multiple of 1,024 bytes.
TEST_P(StockPeer, MayPadItsRecords) {
  StockServer server(openssl_, arguments({"-record_padding", "1024"}));
  expect_talk(server);
}

TEST_P(StockPeer, IsKnownNotToHaveAskedForOurCertificate) {
  StockServer server(openssl_, arguments({}));
  Connected connected(client_config(&alice_), kName, server.port());
  ASSERT_EQ(Io::kOk, connected.handshake()) << connected.session->error().message();
  EXPECT_FALSE(connected.session->certificate_requested());
}

TEST_P(StockPeer, RefusingAnUnknownCaIsUnderstood) {
  StockServer server(openssl_, arguments({"-Verify", "1", "-verify_return_error"}));
  const Identity mallory = make_client(make_ca("Other CA"), "mallory");
  Connected connected(client_config(&mallory), kName, server.port());
  const Error error = refusal(connected);
  EXPECT_EQ(ErrorCode::kAuthRefused, error.code) << error.message();
  EXPECT_NE(std::string::npos, error.what.find("refused our certificate")) << error.message();
  EXPECT_NE(std::string::npos, error.what.find("does not trust")) << error.message();
}

TEST_P(StockPeer, RefusingAnExpiredCertificateIsUnderstood) {
  StockServer server(openssl_, arguments({"-Verify", "1", "-verify_return_error"}));
  const Identity late =
      make_client(ca_, "alice", [](IssueRequest& r) { r.not_after = days_from_now(-1); });
  Connected connected(client_config(&late), kName, server.port());
  const Error error = refusal(connected);
  EXPECT_EQ(ErrorCode::kAuthRefused, error.code) << error.message();
  EXPECT_NE(std::string::npos, error.what.find("expired")) << error.message();
}

TEST_P(StockPeer, RefusingNoCertificateIsUnderstood) {
  StockServer server(openssl_, arguments({"-Verify", "1", "-verify_return_error"}));
  Connected connected(client_config(nullptr), kName, server.port());
  const Error error = refusal(connected);
  EXPECT_EQ(ErrorCode::kAuthRefused, error.code) << error.message();
  EXPECT_NE(std::string::npos, error.hint.find("none is configured")) << error.message();
}

TEST_P(StockPeer, WithAClientCertificateIsNotTrusted) {
  write("server", make_client(ca_, "server", [](IssueRequest& r) { r.dns_names = {kName}; }));
  StockServer server(openssl_, arguments({}));
  Connected connected(client_config(&alice_), kName, server.port());
  ASSERT_EQ(Io::kFailed, connected.handshake());
  EXPECT_EQ(ErrorCode::kUntrusted, connected.session->error().code);
  EXPECT_EQ(Reason::kWrongPurpose, connected.session->server_verdict().reason)
      << connected.session->error().message();
}

TEST_P(StockPeer, WithoutACommonSuiteIsExplained) {
  const bool tls13 = std::string_view(GetParam().version) == "TLSv1.3";
  StockServer server(
      openssl_,
      arguments(tls13 ? std::vector<std::string>{"-ciphersuites", "TLS_AES_128_CCM_SHA256"}
                      : std::vector<std::string>{"-cipher", "ECDHE-ECDSA-AES128-SHA"}));
  Connected connected(client_config(&alice_), kName, server.port());
  ASSERT_EQ(Io::kFailed, connected.handshake());
  EXPECT_EQ(ErrorCode::kNetwork, connected.session->error().code);
  EXPECT_NE(std::string::npos, connected.session->error().what.find("no common"))
      << connected.session->error().message();
}

}  // namespace
}  // namespace culvert::tls
