// DTLS with OpenSSL at the other end of a loopback UDP socket, in both roles.

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/tls/dtls_pair.h"
#include "tests/unit/tls/stock_server.h"

namespace culvert::tls {
namespace {

const char kPskHex[] = "0101010101010101010101010101010101010101010101010101010101010101";

TimePoint real_time() {
  return BootClock::now();
}

// A session behind a UDP socket of 127.0.0.1.
class OverUdp {
 public:
  OverUdp() {
    socket_.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(0, ::bind(socket_.get(), reinterpret_cast<sockaddr*>(&any), sizeof(any)));
  }
  [[nodiscard]] uint16_t port() const {
    sockaddr_in own{};
    socklen_t size = sizeof(own);
    EXPECT_EQ(0, ::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&own), &size));
    return ntohs(own.sin_port);
  }
  void connect(uint16_t port) {
    peer_.sin_family = AF_INET;
    peer_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    peer_.sin_port = htons(port);
  }
  // Empty when nothing came in time.
  Datagram receive(std::chrono::milliseconds limit) {
    pollfd poll{socket_.get(), POLLIN, 0};
    if (::poll(&poll, 1, static_cast<int>(limit.count())) <= 0) return {};
    Datagram datagram(kMostOfADatagram);
    socklen_t size = sizeof(peer_);
    const ssize_t got = ::recvfrom(socket_.get(), datagram.data(), datagram.size(), 0,
                                   reinterpret_cast<sockaddr*>(&peer_), &size);
    datagram.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return datagram;
  }
  void send(Bytes datagram) {
    (void)::sendto(socket_.get(), datagram.data(), datagram.size(), 0,
                   reinterpret_cast<const sockaddr*>(&peer_), sizeof(peer_));
  }
  [[nodiscard]] std::vector<std::byte> peer_id() const {
    const Bytes port = std::as_bytes(std::span(&peer_.sin_port, 1));
    return {port.begin(), port.end()};
  }

  Handshake shake_hands(DtlsSession& session, Bytes first = {}) {
    Handshake state = session.handshake(real_time(), first);
    const TimePoint end = real_time() + std::chrono::seconds(10);
    for (;;) {
      for (; !session.output().empty(); session.pop_output())
        send(session.output());
      if (state != Handshake::kWaiting || real_time() > end) return state;
      const Datagram datagram = receive(std::chrono::milliseconds(50));
      state = datagram.empty() ? session.on_timeout(real_time())
                               : session.handshake(real_time(), datagram);
    }
  }
  void send_text(DtlsSession& session, const std::string& text) {
    send(DtlsPair::seal(session, text));
  }
  std::string receive_text(DtlsSession& session) {
    for (;;) {
      const Datagram datagram = receive(std::chrono::seconds(10));
      if (datagram.empty()) return "(nothing came)";
      const auto opened = DtlsPair::open(session, datagram);
      if (opened.what == Opened::kOk) return opened.text;
    }
  }

 private:
  UniqueFd socket_;
  sockaddr_in peer_{};
};

std::unique_ptr<DtlsSession> make_session(DtlsOptions options, const AppId& app_id,
                                          std::vector<std::byte> transport_id = {}) {
  auto config = DtlsConfig::build(options);
  EXPECT_TRUE(config.has_value());
  DtlsSessionOptions session;
  session.psk = make_psk(1);
  session.app_id = app_id;
  session.transport_id = std::move(transport_id);
  session.own_cid.resize(options.cid_size.value_or(0));
  auto made = DtlsSession::create(*config, std::move(session));
  EXPECT_TRUE(made.has_value());
  return std::move(*made);
}

class StockDtls : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!OpenSsl::available()) GTEST_SKIP() << "needs the openssl program";
  }
  // A session for s_client to offer, so that its ClientHello has an ID of 32 bytes, as
  // openconnect's has. What is in it does not matter: our server resumes nothing.
  AppId make_session_file() {
    StockServer server(
        openssl_, {"-dtls1_2", "-psk", kPskHex, "-nocert", "-no_ticket", "-cipher", GetParam()});
    const std::string port = std::to_string(server.port());
    StockProgram client(openssl_, {"s_client", "-dtls1_2", "-connect", "127.0.0.1:" + port, "-psk",
                                   kPskHex, "-cipher", GetParam(), "-sess_out", "session.pem"});
    const std::string& text = client.wait_for("Verify return code");
    const std::string label = "Session-ID: ";
    const size_t at = text.find(label);
    AppId id{};
    if (at == std::string::npos || text.size() < at + label.size() + 2 * id.size()) {
      ADD_FAILURE() << text;
      return id;
    }
    for (size_t i = 0; i < id.size(); ++i) {
      id[i] = static_cast<std::byte>(
          std::stoul(text.substr(at + label.size() + 2 * i, 2), nullptr, 16));
    }
    client.type("Q\n");
    client.wait_for("DONE");
    return id;
  }

  OpenSsl openssl_;
};

TEST_P(StockDtls, OurClientAndItsServer) {
  for (const bool cookies : {false, true}) {
    std::vector<std::string> arguments = {"-dtls1_2", "-psk",    kPskHex,
                                          "-nocert",  "-cipher", GetParam()};
    if (cookies) arguments.push_back("-listen");
    StockServer server(openssl_, arguments);
    OverUdp udp;
    udp.connect(server.port());
    DtlsOptions options;
    options.role = Role::kClient;
    options.cid_size = 0;  // offered; OpenSSL has no connection IDs
    const auto session = make_session(options, make_app_id(7));
    ASSERT_EQ(Handshake::kDone, udp.shake_hands(*session)) << session->error().message();
    EXPECT_TRUE(session->peer_cid().empty());
    // The first record takes another way through our session than those behind it.
    for (const std::string line : {"first\n", "second\n", "third\n"}) {
      udp.send_text(*session, "we: " + line);
      server.wait_for("we: " + line);
      server.type("they: " + line);
      EXPECT_EQ("they: " + line, udp.receive_text(*session));
    }
  }
}

TEST_P(StockDtls, OurServerAndItsClient) {
  const AppId app_id = make_session_file();
  for (const bool cookies : {false, true}) {
    OverUdp udp;
    StockProgram client(
        openssl_, {"s_client", "-dtls1_2", "-connect", "127.0.0.1:" + std::to_string(udp.port()),
                   "-psk", kPskHex, "-cipher", GetParam(), "-sess_in", "session.pem"});
    DtlsOptions options;
    options.role = Role::kServer;
    options.cid_size = kServerCidSize;
    if (cookies) options.cookie_key = DtlsCookieKey::generate();
    Datagram first = udp.receive(std::chrono::seconds(10));
    if (cookies) {
      const auto responder = std::move(*DtlsCookieResponder::create(options.cookie_key));
      const auto hello = parse_client_hello(first);
      ASSERT_TRUE(hello.has_value());
      Datagram room(kHelloVerifyRequestSize);
      udp.send(responder->answer(*hello, udp.peer_id(), real_time(), room));
      first = udp.receive(std::chrono::seconds(10));
    }
    const auto hello = parse_client_hello(first);
    ASSERT_TRUE(hello.has_value());
    EXPECT_EQ(app_id, hello->app_id());
    const auto session = make_session(options, app_id, udp.peer_id());
    ASSERT_EQ(Handshake::kDone, udp.shake_hands(*session, first)) << session->error().message();
    EXPECT_TRUE(session->own_cid().empty());
    client.type("from them\n");
    EXPECT_EQ("from them\n", udp.receive_text(*session));
    udp.send_text(*session, "from us\n");
    client.wait_for("from us");
  }
}

INSTANTIATE_TEST_SUITE_P(Suites, StockDtls,
                         testing::Values("PSK-AES128-GCM-SHA256", "PSK-AES256-GCM-SHA384",
                                         "PSK-CHACHA20-POLY1305"),
                         [](const auto& test) {
                           std::string name = test.param;
                           name.erase(std::remove(name.begin(), name.end(), '-'), name.end());
                           return name;
                         });

}  // namespace
}  // namespace culvert::tls
