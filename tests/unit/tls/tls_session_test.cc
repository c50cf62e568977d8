// TlsSession: handshakes in memory, records, the exporter, endings.

#include "common/tls/tls_session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>

#include "tests/unit/tls/pki.h"
#include "tests/unit/tls/tls_pair.h"

namespace culvert::tls {
namespace {

struct Setup {
  Identity ca = make_ca("Test CA");
  Identity server = make_server(ca, {"vpn.example.com"});
  Identity client = make_client(ca, "alice");

  [[nodiscard]] TlsOptions server_options() const {
    TlsOptions options;
    options.role = Role::kServer;
    options.certificate_chain_pem = server.certificate;
    options.private_key_pem = server.key.clone();
    options.trusted_ca_pem = ca.certificate;
    return options;
  }
  [[nodiscard]] TlsOptions client_options() const {
    TlsOptions options;
    options.role = Role::kClient;
    options.certificate_chain_pem = client.certificate;
    options.private_key_pem = client.key.clone();
    options.trusted_ca_pem = ca.certificate;
    return options;
  }
};

const Setup& setup() {
  static const Setup kOnce;
  return kOnce;
}

std::shared_ptr<const TlsConfig> build(const TlsOptions& options) {
  auto config = TlsConfig::build(options);
  EXPECT_TRUE(config.has_value()) << (config ? "" : config.error().message());
  return *config;
}

struct Flavour {
  const char* name;
  const char* version;
  bool strength_256;
};

class TlsSessions : public testing::TestWithParam<Flavour> {
 protected:
  static Pair connected() {
    TlsOptions client = setup().client_options();
    client.max_version =
        std::string_view(GetParam().version) == "TLSv1.2" ? Version::k12 : Version::k13;
    client.strength_256 = GetParam().strength_256;
    Pair pair(build(client), build(setup().server_options()), "vpn.example.com");
    pair.shake_hands();
    EXPECT_TRUE(pair.both_done()) << pair.client.session->error().message()
                                  << pair.server.session->error().message();
    return pair;
  }
};

INSTANTIATE_TEST_SUITE_P(Flavours, TlsSessions,
                         testing::Values(Flavour{"Tls13", "TLSv1.3", false},
                                         Flavour{"Tls13Strength256", "TLSv1.3", true},
                                         Flavour{"Tls12", "TLSv1.2", false},
                                         Flavour{"Tls12Strength256", "TLSv1.2", true}),
                         [](const auto& flavour) { return std::string(flavour.param.name); });

TEST_P(TlsSessions, BothSidesAuthenticateEachOther) {
  Pair pair = connected();
  EXPECT_EQ(GetParam().version, pair.client.session->version());
  EXPECT_EQ(GetParam().version, pair.server.session->version());
  EXPECT_EQ(pair.client.session->cipher(), pair.server.session->cipher());
  EXPECT_NE(std::string::npos, pair.client.session->cipher().find(
                                   GetParam().strength_256 ? "AES-256-GCM" : "AES-128-GCM"));
  EXPECT_TRUE(pair.client.session->certificate_requested());
  EXPECT_TRUE(pair.client.session->server_verdict().accepted());
  const Verdict verdict = judge_client(*pair.server.session);
  EXPECT_TRUE(verdict.accepted()) << verdict.text;
  EXPECT_EQ("alice", verdict.peer->common_name);
  EXPECT_EQ(1u, pair.server.session->peer_chain_der().size());
}

TEST_P(TlsSessions, CarryTextBothWays) {
  Pair pair = connected();
  EXPECT_EQ("hello", Pair::carry(pair.client, pair.server, "hello"));
  EXPECT_EQ("welcome", Pair::carry(pair.server, pair.client, "welcome"));
}

TEST_P(TlsSessions, EveryWriteIsOneRecordAndOneRead) {
  Pair pair = connected();
  const std::vector<size_t> sizes = {1, 8, 1400, 1400, TlsSession::kMaxWrite};
  for (const size_t size : sizes) {
    ASSERT_EQ(Io::kOk, pair.client.session->write(as_bytes(std::string(size, 'x'))));
  }
  EXPECT_EQ(5u, pair.client.session->records_sent());
  // Begun blocks of 16 bytes, and one for the tag of each record.
  const uint64_t blocks = 1 + 1 + 88 + 88 + 1024 + 5;
  EXPECT_EQ(blocks, pair.client.session->blocks_sent());
  ASSERT_TRUE(pair.server.take_from(pair.client));
  std::vector<std::byte> out(TlsSession::kMaxRecord);
  for (const size_t size : sizes) {
    const auto got = pair.server.session->read(out);
    ASSERT_EQ(Io::kOk, got.io);
    EXPECT_EQ(size, got.size);
  }
  EXPECT_EQ(blocks, pair.server.session->blocks_received());
  EXPECT_EQ(Io::kWantRead, pair.server.session->read(out).io);
  EXPECT_TRUE(pair.server.session->unconsumed_input().empty());
  EXPECT_EQ(5u, pair.server.session->records_received());
}

TEST_P(TlsSessions, ASmallBufferGetsTheRestWithTheNextRead) {
  Pair pair = connected();
  ASSERT_EQ(Io::kOk, pair.client.session->write(as_bytes("0123456789")));
  pair.server.take_from(pair.client);
  std::vector<std::byte> out(4);
  std::string text;
  for (const size_t size : {4, 4, 2}) {
    const auto got = pair.server.session->read(out);
    ASSERT_EQ(size, got.size);
    text += as_text(Bytes(out).first(got.size));
  }
  EXPECT_EQ("0123456789", text);
  EXPECT_EQ(1u, pair.server.session->records_received());
}

TEST_P(TlsSessions, ConsumeRecordsThatArriveByteByByte) {
  Pair pair = connected();
  ASSERT_EQ(Io::kOk, pair.client.session->write(as_bytes("slowly")));
  const Bytes pending = pair.client.session->pending_output();
  std::vector<std::byte> out(100);
  for (size_t i = 0; i + 1 < pending.size(); ++i) {
    pair.server.session->feed(pending.subspan(i, 1));
    ASSERT_EQ(Io::kWantRead, pair.server.session->read(out).io);
  }
  pair.server.session->feed(pending.last(1));
  const auto got = pair.server.session->read(out);
  EXPECT_EQ("slowly", as_text(Bytes(out).first(got.size)));
}

// Whole records take a way of their own, past the library's buffer; cut ones, and those that are
// read in parts, do not. Both share one sequence of numbers.
TEST_P(TlsSessions, ReadWhatWasWrittenHoweverTheStreamIsCut) {
  Pair pair = connected();
  std::mt19937 random(1);
  const auto up_to = [&random](size_t most) { return 1 + random() % most; };
  std::string written;
  for (int i = 0; i < 300; ++i) {
    const std::string text(up_to(i % 10 == 0 ? TlsSession::kMaxWrite : 300),
                           static_cast<char>('a' + i % 26));
    ASSERT_EQ(Io::kOk, pair.client.session->write(as_bytes(text)));
    written += text;
  }
  const Bytes stream = pair.client.session->pending_output();
  std::string read;
  std::vector<std::byte> out(TlsSession::kMaxRecord + 1);
  for (size_t at = 0; at < stream.size();) {
    const size_t part = std::min(up_to(at % 3 == 0 ? 40000 : 500), stream.size() - at);
    pair.server.session->feed(stream.subspan(at, part));
    at += part;
    for (;;) {
      const MutableBytes room =
          MutableBytes(out).first(random() % 4 == 0 ? up_to(200) : out.size());
      const auto got = pair.server.session->read(room);
      if (got.io == Io::kWantRead) break;
      ASSERT_EQ(Io::kOk, got.io) << pair.server.session->error().message();
      read += as_text(Bytes(out).first(got.size));
    }
  }
  EXPECT_TRUE(read == written) << read.size() << " of " << written.size();
  EXPECT_EQ(300u, pair.server.session->records_received());
}

TEST_P(TlsSessions, ReadWhatCameBeforeADamagedRecord) {
  Pair pair = connected();
  for (const char* text : {"first", "second", "third"})
    ASSERT_EQ(Io::kOk, pair.client.session->write(as_bytes(text)));
  const Bytes stream = pair.client.session->pending_output();
  std::vector<std::byte> damaged(stream.begin(), stream.end());
  damaged[damaged.size() / 3 + 10] ^= std::byte{1};  // in the second of three
  pair.server.session->feed(damaged);
  std::vector<std::byte> out(TlsSession::kMaxRecord);
  EXPECT_EQ(5u, pair.server.session->read(out).size);
  EXPECT_EQ(Io::kFailed, pair.server.session->read(out).io);
  EXPECT_EQ(Io::kFailed, pair.server.session->read(out).io);
}

TEST_P(TlsSessions, ExportTheSameKeyOnBothSides) {
  Pair pair = connected();
  std::array<std::byte, 32> a{}, b{}, other{};
  ASSERT_TRUE(pair.client.session->export_key("EXPORTER-openconnect-psk", a).has_value());
  ASSERT_TRUE(pair.server.session->export_key("EXPORTER-openconnect-psk", b).has_value());
  ASSERT_TRUE(pair.server.session->export_key("EXPORTER-something-else", other).has_value());
  EXPECT_EQ(a, b);
  EXPECT_NE(a, other);
}

TEST_P(TlsSessions, EndInOrderWithCloseNotify) {
  Pair pair = connected();
  pair.client.session->close_notify();
  pair.server.take_from(pair.client);
  std::vector<std::byte> out(100);
  EXPECT_EQ(Io::kClosed, pair.server.session->read(out).io);
  EXPECT_EQ(Io::kClosed, pair.server.session->read(out).io) << "and stay so";
}

TEST_P(TlsSessions, EndAtTheEndOfTheConnection) {
  Pair pair = connected();
  std::vector<std::byte> out(100);
  EXPECT_EQ(Io::kWantRead, pair.server.session->read(out).io);
  pair.server.session->feed_eof();
  EXPECT_EQ(Io::kClosed, pair.server.session->read(out).io);
}

TEST_P(TlsSessions, FailOnATamperedRecordAndTellThePeer) {
  Pair pair = connected();
  EXPECT_EQ("first", Pair::carry(pair.client, pair.server, "first"));
  ASSERT_EQ(Io::kOk, pair.client.session->write(as_bytes("second")));
  const Bytes pending = pair.client.session->pending_output();
  std::vector<std::byte> tampered(pending.begin(), pending.end());
  tampered.back() ^= std::byte{1};
  pair.server.session->feed(tampered);
  std::vector<std::byte> out(100);
  EXPECT_EQ(Io::kFailed, pair.server.session->read(out).io);
  EXPECT_EQ(Io::kFailed, pair.server.session->write(as_bytes("x")));
  EXPECT_FALSE(pair.server.session->error().what.empty());
  EXPECT_FALSE(pair.server.session->pending_output().empty()) << "the alert";
  pair.client.take_from(pair.server);
  EXPECT_EQ(Io::kFailed, pair.client.session->read(out).io);
  EXPECT_EQ(ErrorCode::kNetwork, pair.client.session->error().code);
}

TEST_P(TlsSessions, GoOnAfterMovingToAnotherThread) {
  Pair pair = connected();
  EXPECT_EQ("here", Pair::carry(pair.client, pair.server, "here"));
  std::thread other([&pair] {
    EXPECT_EQ("there", Pair::carry(pair.client, pair.server, "there"));
    std::array<std::byte, 16> key{};
    EXPECT_TRUE(pair.server.session->export_key("EXPORTER-test", key).has_value());
  });
  other.join();
  EXPECT_EQ("and back", Pair::carry(pair.server, pair.client, "and back"));
}

TEST(TlsSession, KeepsBytesThatArriveWithTheEndOfTheHandshake) {
  Pair pair(build(setup().client_options()), build(setup().server_options()), "vpn.example.com");
  // The client's last flight and its first data go in one piece.
  pair.client.session->handshake();
  pair.server.take_from(pair.client);
  pair.server.session->handshake();
  pair.client.take_from(pair.server);
  ASSERT_EQ(Io::kOk, pair.client.session->handshake());
  ASSERT_EQ(Io::kOk, pair.client.session->write(as_bytes("early bird")));
  pair.server.take_from(pair.client);
  ASSERT_EQ(Io::kOk, pair.server.session->handshake());
  EXPECT_FALSE(pair.server.session->unconsumed_input().empty());
  std::vector<std::byte> out(100);
  const auto got = pair.server.session->read(out);
  EXPECT_EQ("early bird", as_text(Bytes(out).first(got.size)));
}

TEST(TlsSession, ServerOfTls13RefusesTls12) {
  TlsOptions client = setup().client_options();
  client.max_version = Version::k12;
  TlsOptions server = setup().server_options();
  server.min_version = Version::k13;
  Pair pair(build(client), build(server), "vpn.example.com");
  pair.shake_hands();
  EXPECT_EQ(Io::kFailed, pair.server_result);
  EXPECT_EQ(Io::kFailed, pair.client_result);
  EXPECT_EQ(ErrorCode::kNetwork, pair.client.session->error().code);
  EXPECT_NE(std::string::npos, pair.client.session->error().what.find("version"))
      << pair.client.session->error().message();
}

TEST(TlsSession, SaysWhenThePeerDoesNotSpeakTls) {
  auto client = *TlsSession::create(build(setup().client_options()), "vpn.example.com");
  EXPECT_EQ(Io::kWantRead, client->handshake());
  const std::string answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
  client->feed(as_bytes(answer));
  EXPECT_EQ(Io::kFailed, client->handshake());
  EXPECT_NE(std::string::npos, client->error().what.find("does not speak TLS"))
      << client->error().message();
}

TEST(TlsSession, SaysWhenTheConnectionEndsInTheHandshake) {
  auto client = *TlsSession::create(build(setup().client_options()), "vpn.example.com");
  EXPECT_EQ(Io::kWantRead, client->handshake());
  client->feed_eof();
  EXPECT_EQ(Io::kFailed, client->handshake());
  EXPECT_EQ(ErrorCode::kNetwork, client->error().code);
}

TEST(TlsSession, RefusesNamesThatAreNone) {
  const auto config = build(setup().client_options());
  for (const char* name : {"", ".", "a..b", "vpn example", "vpn.example.com:443", "[::1]", "a/b"}) {
    EXPECT_FALSE(TlsSession::create(config, name).has_value()) << name;
  }
  for (const char* name : {"localhost", "vpn.example.com.", "10.0.0.1", "fd00::1"}) {
    EXPECT_TRUE(TlsSession::create(config, name).has_value()) << name;
  }
}

}  // namespace
}  // namespace culvert::tls
