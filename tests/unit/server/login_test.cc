// The login thread against real clients on the loopback device: TLS, certificates, HTTP. Behind it
// stands a gate that says yes and remembers.
#include "server/login.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "common/wire/auth_xml.h"
#include "common/wire/cstp.h"
#include "tests/unit/tls/pki.h"

namespace culvert::server {
namespace {

using namespace std::chrono_literals;
using Io = tls::TlsSession::Io;

Endpoint any_port(const char* address) {
  return {IpAddress::parse(address).value(), 0};
}

class RecordingGate final : public Gate {
 public:
  void login(ProvenPeer peer, std::string, UniqueFunction<void(Answer<LoginGrant>)> done) override {
    note([&] { logins.push_back(peer.certificate.common_name); });
    auto answer = peer.certificate.common_name == "banned"
                      ? Answer<LoginGrant>::no({.reason = "banned", .text = "banned here"})
                      : Answer<LoginGrant>::yes({.id = SessionId(1), .cookie = "c0ffee"});
    thread->post([d = std::move(done), a = std::move(answer)]() mutable { d(std::move(a)); });
  }
  void connect(ConnectRequest request, UniqueFunction<void(Answer<ConnectGrant>)> done) override {
    note([&] { connects.push_back(request.offer.cookie); });
    if (hold_connects) {
      note([&] { held.push_back(std::move(done)); });
      return;
    }
    thread->post([d = std::move(done), g = grant(request)]() mutable { d(std::move(g)); });
  }
  void attach(Connected connected) override {
    note([&] { attached.push_back(std::move(connected)); });
  }
  void abandon(Attachment) override {
    note([&] { ++abandoned; });
  }
  void count_refusal(std::string_view reason) override {
    note([&] { refusals.emplace_back(reason); });
  }

  // Waits until `condition` holds; false after ten seconds.
  template <typename F>
  bool wait(F condition) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, 10s, condition);
  }
  static Answer<ConnectGrant> grant(const ConnectRequest& request) {
    if (request.offer.cookie != "c0ffee") {
      return Answer<ConnectGrant>::no({.reason = "unknown_cookie", .text = "log in again"});
    }
    ConnectGrant made;
    made.attachment = {SessionId(1), 1};
    made.params.ipv4 = Prefix::parse("10.99.0.2/24").value();
    made.params.mtu = Mtu(1400);
    return Answer<ConnectGrant>::yes(std::move(made));
  }

  LoginThread* thread = nullptr;
  bool hold_connects = false;
  std::vector<std::string> logins, connects, refusals;
  std::vector<Connected> attached;
  std::vector<UniqueFunction<void(Answer<ConnectGrant>)>> held;
  int abandoned = 0;

 private:
  template <typename F>
  void note(F f) {
    const std::lock_guard lock(mutex);
    f();
    changed.notify_all();
  }
  std::mutex mutex;
  std::condition_variable changed;
};

// A blocking client.
class Client {
 public:
  Client(const Endpoint& server, std::shared_ptr<const tls::TlsConfig> config)
      : tls_(tls::TlsSession::create(std::move(config), "vpn.example.com").value()) {
    sockaddr_storage storage{};
    const socklen_t size = server.to_sockaddr(storage);
    socket_.reset(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    connected_ = ::connect(socket_.get(), reinterpret_cast<sockaddr*>(&storage), size) == 0;
  }

  bool shake_hands() {
    while (connected_) {
      const Io io = tls_->handshake();
      flush();
      if (io == Io::kOk) return true;
      if (io != Io::kWantRead || !receive()) return false;
    }
    return false;
  }
  void send(std::string_view text) {
    EXPECT_EQ(tls_->write(as_bytes(text)), Io::kOk);
    flush();
  }
  // What comes until the other side closes, or `enough` is in it.
  std::string read(std::string_view enough = {}) {
    std::string text;
    std::vector<std::byte> plain(tls::TlsSession::kMaxRecord);
    while (enough.empty() || text.find(enough) == std::string::npos) {
      const auto [io, size] = tls_->read(plain);
      if (io == Io::kOk) {
        text += as_text(Bytes(plain).first(size));
      } else if (io != Io::kWantRead || !receive()) {
        break;
      }
    }
    return text;
  }
  bool closed_by_server() {
    read();
    return end_ == 0;
  }
  void flush() {
    while (!tls_->pending_output().empty()) {
      const Bytes out = tls_->pending_output();
      const ssize_t sent = ::send(socket_.get(), out.data(), out.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      tls_->consume_output(static_cast<size_t>(sent));
    }
  }
  int fd() const { return socket_.get(); }
  tls::TlsSession& tls() { return *tls_; }
  void hang_up() { socket_.reset(); }

 private:
  bool receive() {
    pollfd watched{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&watched, 1, 10'000) != 1) return false;
    buffer_.resize(16384);
    end_ = ::recv(socket_.get(), buffer_.data(), buffer_.size(), 0);
    if (end_ <= 0) return false;
    tls_->feed(Bytes(buffer_).first(static_cast<size_t>(end_)));
    return true;
  }

  UniqueFd socket_;
  bool connected_ = false;
  ssize_t end_ = 1;
  std::vector<std::byte> buffer_;
  std::unique_ptr<tls::TlsSession> tls_;
};

// Keys are slow to make: once for all tests.
struct Pki {
  tls::Identity ca = tls::make_ca("CA");
  tls::Identity other_ca = tls::make_ca("Other CA");
  tls::Identity server = tls::make_server(ca, {"vpn.example.com"});
  tls::Identity alice = tls::make_client(ca, "alice");
  tls::Identity banned = tls::make_client(ca, "banned");
  tls::Identity revoked = tls::make_client(ca, "revoked");
  tls::Identity stranger = tls::make_client(other_ca, "alice");

  std::shared_ptr<const tls::TlsConfig> server_config(
      const std::vector<std::string>& also_revoked = {}) const {
    tls::TlsOptions options;
    options.role = tls::Role::kServer;
    options.certificate_chain_pem = server.certificate;
    options.private_key_pem = server.key.clone();
    options.trusted_ca_pem = ca.certificate;
    std::vector<std::string> list = also_revoked;
    list.push_back(revoked.certificate);
    options.crl_pem = tls::make_crl(ca, list);
    options.crl_required = true;
    return tls::TlsConfig::build(options).value();
  }
  std::shared_ptr<const tls::TlsConfig> client_config(const tls::Identity* who) const {
    tls::TlsOptions options;
    if (who != nullptr) {
      options.certificate_chain_pem = who->certificate;
      options.private_key_pem = who->key.clone();
    }
    options.trusted_ca_pem = ca.certificate;
    return tls::TlsConfig::build(options).value();
  }
  static const Pki& get() {
    static const Pki pki;
    return pki;
  }
};

constexpr std::string_view kPost = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
constexpr std::string_view kConnect =
    "CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: x\r\nCookie: webvpn=c0ffee\r\n"
    "X-CSTP-Version: 1\r\nX-CSTP-Address-Type: IPv4\r\n\r\n";

class LoginTest : public ::testing::Test {
 protected:
  void SetUp() override { start({}); }
  void TearDown() override {
    if (thread_) thread_->stop_and_join();
  }

  void start(const LoginOptions& options) {
    if (thread_) thread_->stop_and_join();
    auto listener = open_listener(any_port("127.0.0.1"));
    ASSERT_TRUE(listener) << listener.error().message();
    server_ = local_endpoint(listener->get()).value();
    thread_ =
        std::make_unique<LoginThread>(std::move(*listener), pki_.server_config(), gate_, options);
    gate_.thread = thread_.get();
    ASSERT_TRUE(thread_->start());
  }
  Client client(const tls::Identity* who) { return Client(server_, pki_.client_config(who)); }
  std::string refusal_text(const std::string& answer) {
    const auto body = answer.find("\r\n\r\n");
    if (body == std::string::npos) return "no answer: " + answer;
    const auto parsed = wire::parse_login_response(answer.substr(body + 4));
    return parsed ? parsed->error : parsed.error().message();
  }

  const Pki& pki_ = Pki::get();
  RecordingGate gate_;
  Endpoint server_;
  std::unique_ptr<LoginThread> thread_;
};

TEST_F(LoginTest, LogsInConnectsAndHandsTheConnectionOver) {
  Client c = client(&pki_.alice);
  ASSERT_TRUE(c.shake_hands());
  c.send(kPost);
  EXPECT_NE(c.read("</config-auth>").find("Set-Cookie: webvpn=c0ffee"), std::string::npos);
  c.send(kConnect);
  const std::string answer = c.read("\r\n\r\n");
  EXPECT_EQ(answer.rfind("HTTP/1.1 200 ", 0), 0U) << answer;
  EXPECT_NE(answer.find("\r\nX-CSTP-Address: 10.99.0.2\r\n"), std::string::npos) << answer;
  ASSERT_TRUE(gate_.wait([&] { return gate_.attached.size() == 1; }));
  EXPECT_EQ(gate_.attached[0].attachment.id, SessionId(1));
  EXPECT_TRUE(gate_.attached[0].leftover.empty());
  EXPECT_EQ(gate_.abandoned, 0);
}

TEST_F(LoginTest, BytesAfterTheConnectGoAlongInTheClear) {
  Client c = client(&pki_.alice);
  ASSERT_TRUE(c.shake_hands());
  std::string frames(wire::kCstpHeaderSize, '\0');
  wire::write_cstp_header(std::as_writable_bytes(std::span(frames.data(), frames.size())),
                          wire::CstpType::kKeepalive, 0);
  // In the same record, in one of its own, and one while the answer is on its way.
  gate_.hold_connects = true;
  c.send(std::string(kConnect) + frames);
  c.send(frames);
  ASSERT_TRUE(gate_.wait([&] { return gate_.held.size() == 1; }));
  thread_->post([this] {
    ConnectRequest request;
    request.offer.cookie = "c0ffee";
    gate_.held[0](RecordingGate::grant(request));
  });
  ASSERT_TRUE(gate_.wait([&] { return gate_.attached.size() == 1; }));
  const auto& leftover = gate_.attached[0].leftover;
  EXPECT_GE(leftover.size(), frames.size());
  EXPECT_EQ(as_text(Bytes(leftover).first(frames.size())), frames);
}

TEST_F(LoginTest, RefusedCertificateGetsOneAnswerWhateverWasSent) {
  const struct {
    const tls::Identity* who;
    const char* reason;
    const char* text;
  } clients[] = {{nullptr, "no_certificate", "no certificate"},
                 {&pki_.stranger, "unknown_ca", "trusted CA"},
                 {&pki_.revoked, "revoked", "revoked"}};
  size_t refusals = 0;
  for (const auto& c : clients) {
    for (const std::string_view sent :
         {kPost, std::string_view("GET /\r\n\r\n"), std::string_view("\0\xff\x16garbage", 10)}) {
      Client bad = client(c.who);
      ASSERT_TRUE(bad.shake_hands()) << c.reason;
      bad.send(sent);
      const std::string answer = bad.read();
      EXPECT_EQ(answer.rfind("HTTP/1.1 200 ", 0), 0U) << answer;
      EXPECT_NE(refusal_text(answer).find(c.text), std::string::npos) << refusal_text(answer);
      ASSERT_TRUE(gate_.wait([&] { return gate_.refusals.size() == refusals + 1; }));
      EXPECT_EQ(gate_.refusals[refusals++], c.reason);
    }
    Client bad = client(c.who);
    ASSERT_TRUE(bad.shake_hands());
    bad.send(kConnect);
    EXPECT_EQ(bad.read().rfind("HTTP/1.1 401 ", 0), 0U);
    ++refusals;
  }
  EXPECT_TRUE(gate_.logins.empty());
  EXPECT_TRUE(gate_.connects.empty());
}

TEST_F(LoginTest, RefusalArrivesAlthoughTheClientGoesOnSending) {
  Client c = client(nullptr);
  ASSERT_TRUE(c.shake_hands());
  c.send("POST / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n");
  for (int i = 0; i < 3; ++i)
    c.send(std::string(10000, 'x'));
  EXPECT_NE(refusal_text(c.read()).find("no certificate"), std::string::npos);
}

TEST_F(LoginTest, RefusedClientIsNotWaitedForForEver) {
  LoginOptions options;
  options.connection.farewell = 200ms;
  start(options);
  Client c = client(nullptr);
  ASSERT_TRUE(c.shake_hands());
  c.send(kPost);
  // The server has closed when writing fails; this client never closes itself.
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  bool reset = false;
  while (!reset && std::chrono::steady_clock::now() < deadline) {
    reset = ::send(c.fd(), "x", 1, MSG_NOSIGNAL) < 0;
    ::poll(nullptr, 0, 10);
  }
  EXPECT_TRUE(reset);
}

TEST_F(LoginTest, PolicyRefusalIsShownToTheUser) {
  Client c = client(&pki_.banned);
  ASSERT_TRUE(c.shake_hands());
  c.send(kPost);
  EXPECT_EQ(refusal_text(c.read()), "banned here");
}

TEST_F(LoginTest, BadCookieEndsTheClient) {
  Client c = client(&pki_.alice);
  ASSERT_TRUE(c.shake_hands());
  c.send("CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: x\r\nCookie: webvpn=bad\r\n\r\n");
  EXPECT_EQ(c.read().rfind("HTTP/1.1 401 ", 0), 0U);
  Client without = client(&pki_.alice);
  ASSERT_TRUE(without.shake_hands());
  without.send("CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(without.read().rfind("HTTP/1.1 401 ", 0), 0U);
}

TEST_F(LoginTest, UnknownPathsAndBrokenRequestsAreAnsweredAndClosed) {
  const struct {
    std::string sent;
    const char* answer;
  } cases[] = {{"GET /favicon.ico HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "},
               {"CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "},
               {"not http at all\r\n\r\n", "HTTP/1.1 400 "},
               {std::string(kPost) + std::string(kPost), "HTTP/1.1 400 "},
               {"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n<bad>", "HTTP/1.1 400 "},
               {"POST / HTTP/1.1\r\nX: " + std::string(20000, 'x') + "\r\n\r\n", "HTTP/1.1 400 "}};
  for (const auto& one : cases) {
    Client c = client(&pki_.alice);
    ASSERT_TRUE(c.shake_hands());
    for (std::string_view rest = one.sent; !rest.empty();
         rest.remove_prefix(std::min<size_t>(rest.size(), 16000))) {
      c.send(rest.substr(0, 16000));
    }
    EXPECT_EQ(c.read().rfind(one.answer, 0), 0U) << one.sent.substr(0, 40);
  }
}

TEST_F(LoginTest, RequestsOfOneConnectionAreCounted) {
  Client c = client(&pki_.alice);
  ASSERT_TRUE(c.shake_hands());
  for (int i = 0; i < 16; ++i) {
    c.send(kPost);
    ASSERT_NE(c.read("</config-auth>").find("webvpn=c0ffee"), std::string::npos) << i;
  }
  EXPECT_EQ(gate_.logins.size(), 1U);  // the cookie is the same
  c.send(kPost);
  EXPECT_EQ(c.read().rfind("HTTP/1.1 400 ", 0), 0U);
}

TEST_F(LoginTest, ClientThatLeavesDuringConnectLeavesNothingBehind) {
  LoginOptions options;
  options.connection.login = 300ms;
  start(options);
  gate_.hold_connects = true;
  Client c = client(&pki_.alice);
  ASSERT_TRUE(c.shake_hands());
  c.send(kConnect);
  ASSERT_TRUE(gate_.wait([&] { return gate_.held.size() == 1; }));
  EXPECT_TRUE(c.closed_by_server());  // the time for a login is over
  thread_->post([this] {
    ConnectRequest request;
    request.offer.cookie = "c0ffee";
    gate_.held[0](RecordingGate::grant(request));
  });
  EXPECT_TRUE(gate_.wait([&] { return gate_.abandoned == 1; }));
  EXPECT_TRUE(gate_.attached.empty());
}

TEST_F(LoginTest, SilentConnectionIsClosedAndCounted) {
  LoginOptions options;
  options.connection.handshake = 100ms;
  start(options);
  Client c = client(&pki_.alice);
  pollfd watched{.fd = c.fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&watched, 1, 10'000), 1);
  EXPECT_TRUE(gate_.wait([&] { return !gate_.refusals.empty(); }));
  EXPECT_EQ(gate_.refusals[0], "handshake_timeout");
}

// Each byte is welcome, and the whole has to be there in time.
TEST_F(LoginTest, HeadThatNeverEndsIsCutOffAndCounted) {
  LoginOptions options;
  options.connection.login = 300ms;
  start(options);
  Client c = client(&pki_.alice);
  ASSERT_TRUE(c.shake_hands());
  pollfd watched{.fd = c.fd(), .events = POLLIN, .revents = 0};
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  c.send("POST / HTTP/1.1\r\nX: ");
  while (::poll(&watched, 1, 10) == 0 && std::chrono::steady_clock::now() < deadline)
    c.send("x");
  EXPECT_LT(std::chrono::steady_clock::now(), deadline);
  EXPECT_TRUE(gate_.wait([&] { return !gate_.refusals.empty(); }));
  EXPECT_EQ(gate_.refusals[0], "login_timeout");
}

TEST_F(LoginTest, FloodOfHalfOpenLoginsDoesNotLockAClientOut) {
  LoginOptions options;
  options.limits = {.total = 8, .per_source = 100};
  start(options);
  std::vector<std::unique_ptr<Client>> flood;
  for (int i = 0; i < 40; ++i) {
    flood.push_back(std::make_unique<Client>(server_, pki_.client_config(nullptr)));
  }
  Client c = client(&pki_.alice);
  ASSERT_TRUE(c.shake_hands());
  c.send(kPost);
  EXPECT_NE(c.read("</config-auth>").find("webvpn="), std::string::npos);
}

TEST_F(LoginTest, SourceOverItsShareIsTurnedAway) {
  LoginOptions options;
  options.limits = {.total = 100, .per_source = 2};
  start(options);
  Client first = client(&pki_.alice);
  ASSERT_TRUE(first.shake_hands());
  Client second = client(&pki_.alice);
  ASSERT_TRUE(second.shake_hands());
  Client third = client(&pki_.alice);
  EXPECT_FALSE(third.shake_hands());
  first.hang_up();
  // As soon as the server has noticed.
  bool admitted = false;
  for (int i = 0; i < 200 && !admitted; ++i) {
    Client again = client(&pki_.alice);
    admitted = again.shake_hands();
    if (!admitted) ::poll(nullptr, 0, 10);
  }
  EXPECT_TRUE(admitted);
}

TEST_F(LoginTest, RevocationReachesConnectionsThatWereAcceptedBefore) {
  Client c = client(&pki_.alice);
  ASSERT_TRUE(c.shake_hands());
  c.send(kPost);
  ASSERT_NE(c.read("</config-auth>").find("webvpn="), std::string::npos);
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  thread_->set_tls_config(pki_.server_config({pki_.alice.certificate}), [&] {
    const std::lock_guard lock(mutex);
    done = true;
    changed.notify_all();
  });
  std::unique_lock lock(mutex);
  ASSERT_TRUE(changed.wait_for(lock, 10s, [&] { return done; }));
  c.send(kConnect);
  EXPECT_EQ(c.read().rfind("HTTP/1.1 401 ", 0), 0U);
  EXPECT_TRUE(gate_.connects.empty());
}

TEST(Listener, PortOfAnotherProgramIsAFailureThatSaysSo) {
  auto first = open_listener(any_port("127.0.0.1"));
  ASSERT_TRUE(first);
  const auto second = open_listener(local_endpoint(first->get()).value());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kFailure);
  EXPECT_NE(second.error().message().find("taken"), std::string::npos);
}

TEST(Listener, ForeignAddressIsAFailureThatSaysSo) {
  const auto made = open_listener(any_port("192.0.2.77"));
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::kFailure);
  EXPECT_NE(made.error().message().find("does not have"), std::string::npos);
}

}  // namespace
}  // namespace culvert::server
