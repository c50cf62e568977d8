// Transport against a scripted TLS server on the loopback device, both on one loop.
#include "client/transport.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/loop/run_loop.h"
#include "tests/unit/tls/pki.h"

namespace culvert::client {
namespace {

using loop::run_until;
using tls::TlsSession;

// Does the handshake with one client; the first bytes after it are answered with `answer`.
class Server {
 public:
  struct Script {
    std::string answer;        // sealed, in one record
    std::string raw;           // behind it, as it is
    bool close_after = false;  // the connection, after the answer
    bool close_first = false;  // directly after the handshake
  };

  Server(loop::Loop& loop, std::shared_ptr<const tls::TlsConfig> config, Script script)
      : loop_(loop),
        config_(std::move(config)),
        script_(std::move(script)),
        listener_(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)),
        listening_(loop, listener_.get()),
        watching_(loop, -1) {
    sockaddr_storage address{};
    socklen_t length = Endpoint{*IpAddress::parse("127.0.0.1"), 0}.to_sockaddr(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener_.get(), generic, length), 0);
    EXPECT_EQ(::listen(listener_.get(), 1), 0);
    length = sizeof address;
    EXPECT_EQ(::getsockname(listener_.get(), generic, &length), 0);
    endpoint_ = Endpoint::from_sockaddr(address);
    EXPECT_TRUE(listening_.start([this](unsigned, int) { accept(); }, loop::kReadable));
  }
  ~Server() {
    watching_.stop();
    listening_.stop();
  }

  [[nodiscard]] const Endpoint& endpoint() const { return endpoint_; }
  [[nodiscard]] const std::string& request() const { return request_; }

 private:
  void accept() {
    socket_ = UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    session_ = std::move(*TlsSession::create(config_));
    watching_ = loop::Poll(loop_, socket_.get());
    EXPECT_TRUE(watching_.start([this](unsigned, int) { serve(); }, loop::kReadable));
  }

  void serve() {
    const ssize_t size = ::recv(socket_.get(), received_.data(), received_.size(), 0);
    if (size <= 0) return watching_.stop();
    session_->feed(Bytes(received_).first(static_cast<size_t>(size)));
    if (!session_->handshake_done()) {
      (void)session_->handshake();
      send({});
      if (!session_->handshake_done()) return;
      if (script_.close_first) return close();
    }
    std::vector<std::byte> plain(TlsSession::kMaxRecord);
    for (auto read = session_->read(plain); read.io == TlsSession::Io::kOk;
         read = session_->read(plain))
      request_ += as_text(Bytes(plain).first(read.size));
    if (request_.empty() || script_.answer.empty()) return;
    (void)session_->write(as_bytes(std::exchange(script_.answer, {})));
    send(script_.raw);
    if (script_.close_after) close();
  }

  void send(std::string_view raw) {
    std::string out(as_text(session_->pending_output()));
    session_->consume_output(out.size());
    out += raw;
    if (!out.empty()) (void)::send(socket_.get(), out.data(), out.size(), MSG_NOSIGNAL);
  }

  void close() {
    watching_.stop();
    socket_.reset();
  }

  loop::Loop& loop_;
  std::shared_ptr<const tls::TlsConfig> config_;
  Script script_;
  UniqueFd listener_;
  loop::Poll listening_;
  Endpoint endpoint_;
  UniqueFd socket_;
  loop::Poll watching_;
  std::unique_ptr<TlsSession> session_;
  std::vector<std::byte> received_ = std::vector<std::byte>(65536);
  std::string request_;
};

struct Certificates {
  tls::Identity ca = tls::make_ca("Test CA");
  tls::Identity server = tls::make_server(ca, {"vpn.example.com"});
  tls::Identity client = tls::make_client(ca, "alice");

  [[nodiscard]] std::shared_ptr<const tls::TlsConfig> config(tls::Role role) const {
    const tls::Identity& own = role == tls::Role::kServer ? server : client;
    tls::TlsOptions options;
    options.role = role;
    options.certificate_chain_pem = own.certificate;
    options.private_key_pem = own.key.clone();
    options.trusted_ca_pem = ca.certificate;
    return *tls::TlsConfig::build(options);
  }
};

// The client's side: connects, secures and sends one request, and notes what comes of it.
class TransportTest : public testing::Test, private Transport::Observer {
 protected:
  void run(Server::Script script,
           wire::HttpResponseReader::Kind kind = wire::HttpResponseReader::Kind::kOrdinary) {
    kind_ = kind;
    server_ = std::make_unique<Server>(loop_, certificates_.config(tls::Role::kServer),
                                       std::move(script));
    connect(server_->endpoint());
  }

  void connect(const Endpoint& endpoint) {
    Transport::Observer& observer = *this;
    transport_ = std::make_unique<Transport>(loop_, observer);
    const int family = endpoint.address.is_v4() ? AF_INET : AF_INET6;
    UniqueFd socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const auto status = transport_->connect(endpoint, std::move(socket));
    ASSERT_TRUE(status) << status.error().message();
    EXPECT_TRUE(run_until(loop_, [this] { return response_ || failure_; }));
  }

  void on_connected() override {
    EXPECT_TRUE(transport_->secure(certificates_.config(tls::Role::kClient), "vpn.example.com"));
  }
  void on_secured() override {
    wire::HttpRequest request;
    request.method = kind_ == wire::HttpResponseReader::Kind::kConnect ? "CONNECT" : "POST";
    request.target = "/";
    EXPECT_TRUE(transport_->exchange(request, kind_));
  }
  void on_response(wire::HttpResponse response) override { response_ = std::move(response); }
  void on_transport_failed(const Error& error, bool unanswered) override {
    failure_ = error;
    unanswered_ = unanswered;
    transport_.reset();  // as its owner does
  }

  Certificates certificates_;
  loop::Loop loop_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Transport> transport_;
  wire::HttpResponseReader::Kind kind_{};
  std::optional<wire::HttpResponse> response_;
  std::optional<Error> failure_;
  bool unanswered_ = false;
};

const std::string kHello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

TEST_F(TransportTest, CarriesARequestAndItsAnswer) {
  run({.answer = kHello});
  if (IsSkipped()) return;
  ASSERT_TRUE(response_) << failure_->message();
  EXPECT_EQ(response_->body, "hello");
  EXPECT_TRUE(response_->keep_alive);
  EXPECT_EQ(server_->request().rfind("POST / HTTP/1.1\r\n", 0), 0u) << server_->request();
}

TEST_F(TransportTest, ACompleteAnswerCountsWhateverComesAfterIt) {
  // ocserv sends a fatal alert behind its 401; any record that cannot be opened will do here.
  run({.answer = "HTTP/1.1 401 no\r\nContent-Length: 0\r\n\r\n",
       .raw = std::string("\x17\x03\x03\x00\x18", 5) + std::string(24, 'x')});
  if (IsSkipped()) return;
  ASSERT_TRUE(response_) << failure_->message();
  EXPECT_EQ(response_->status, 401);
  EXPECT_FALSE(response_->keep_alive) << "the connection is of no further use";
}

TEST_F(TransportTest, ABodyMayLastUntilTheConnectionEnds) {
  run({.answer = "HTTP/1.0 200 OK\r\n\r\nhello", .close_after = true});
  if (IsSkipped()) return;
  ASSERT_TRUE(response_) << failure_->message();
  EXPECT_EQ(response_->body, "hello");
  EXPECT_FALSE(response_->keep_alive);
}

TEST_F(TransportTest, ACutAnswerIsAFailure) {
  run({.answer = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", .close_after = true});
  if (IsSkipped()) return;
  ASSERT_TRUE(failure_);
  EXPECT_FALSE(unanswered_);
  EXPECT_EQ(failure_->code, ErrorCode::kNetwork);
}

TEST_F(TransportTest, AConnectionThatEndsInSilenceIsToldApart) {
  run({.close_first = true});
  if (IsSkipped()) return;
  ASSERT_TRUE(failure_);
  EXPECT_TRUE(unanswered_);
}

TEST_F(TransportTest, HandsOverASocketAndWhatFollowedTheAnswer) {
  run({.answer = "HTTP/1.1 200 CONNECTED\r\nX-CSTP-Version: 1\r\n\r\nSTF"},
      wire::HttpResponseReader::Kind::kConnect);
  if (IsSkipped()) return;
  ASSERT_TRUE(response_) << failure_->message();
  const Transport::Handover handover = transport_->release();
  EXPECT_EQ(as_text(handover.leftover), "STF");
  EXPECT_TRUE(handover.tls->unconsumed_input().empty());
  EXPECT_TRUE(handover.socket.valid());
}

TEST_F(TransportTest, NobodyListeningIsANetworkFailure) {
  UniqueFd taken(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));  // bound, and not listening
  sockaddr_storage address{};
  socklen_t length = Endpoint{*IpAddress::parse("127.0.0.1"), 0}.to_sockaddr(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::bind(taken.get(), generic, length), 0);
  length = sizeof address;
  ASSERT_EQ(::getsockname(taken.get(), generic, &length), 0);
  connect(Endpoint::from_sockaddr(address));
  if (IsSkipped()) return;
  ASSERT_TRUE(failure_);
  EXPECT_EQ(failure_->code, ErrorCode::kNetwork);
  EXPECT_FALSE(unanswered_);
}

}  // namespace
}  // namespace culvert::client
