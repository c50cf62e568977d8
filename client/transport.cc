#include "client/transport.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "client/tcp_socket.h"

namespace culvert::client {
namespace {

constexpr size_t kReceiveBytes = size_t{64} << 10;

}  // namespace

Transport::Transport(loop::Loop& loop, Observer& observer)
    : loop_(loop), observer_(observer), poll_(loop, -1) {}

Transport::~Transport() {
  poll_.stop();
}

Status Transport::connect(const Endpoint& endpoint, UniqueFd socket) {
  if (auto connecting = start_connecting(socket.get(), endpoint); !connecting) return connecting;
  return take_over(endpoint, std::move(socket));
}

Status Transport::take_over(const Endpoint& endpoint, UniqueFd socket) {
  endpoint_ = endpoint;
  socket_ = std::move(socket);
  phase_ = Phase::kConnecting;
  poll_ = loop::Poll(loop_, socket_.get());
  return poll_.start([this](unsigned ready, int error) { on_ready(ready, error); },
                     loop::kWritable);
}

void Transport::on_ready(unsigned ready, int error) {
  if (phase_ == Phase::kConnecting) {
    if (error != 0)
      fail_with(fail_errno(ErrorCode::kNetwork, error, "cannot connect", endpoint_.to_string()));
    else
      finish_connect();
    return;
  }
  if ((ready & loop::kWritable) != 0 && !flush()) return;
  if ((ready & loop::kReadable) != 0) receive(error);
}

void Transport::finish_connect() {
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) {
    fail_with(fail_errno(ErrorCode::kNetwork, error, "cannot connect", endpoint_.to_string()));
    return;
  }
  phase_ = Phase::kConnected;
  poll_.set_interest(0);
  observer_.on_connected();
}

Status Transport::secure(std::shared_ptr<const tls::TlsConfig> config,
                         const std::string& server_name) {
  auto session = tls::TlsSession::create(std::move(config), server_name);
  if (!session) return std::move(session.error());
  tls_ = std::move(*session);
  ciphertext_.resize(kReceiveBytes);
  plaintext_.resize(tls::TlsSession::kMaxRecord);
  phase_ = Phase::kHandshaking;
  if (tls_->handshake() == tls::TlsSession::Io::kFailed) return Error(tls_->error());
  poll_.set_interest(loop::kReadable | loop::kWritable);  // the ClientHello leaves from the loop
  return {};
}

Status Transport::exchange(const wire::HttpRequest& request, wire::HttpResponseReader::Kind kind) {
  if (!leftover_.empty())
    return fail(ErrorCode::kFailure, "the server sent more than it was asked for",
                endpoint_.to_string());
  auto text = wire::serialize(request);
  if (!text) return std::move(text.error());
  reader_.emplace(kind);
  for (Bytes rest = as_bytes(*text); !rest.empty();) {
    const Bytes part = rest.first(std::min(rest.size(), tls::TlsSession::kMaxRecord));
    if (tls_->write(part) != tls::TlsSession::Io::kOk) return Error(tls_->error());
    rest = rest.subspan(part.size());
  }
  wipe(std::as_writable_bytes(std::span(*text)));  // it may hold the session cookie
  poll_.set_interest(loop::kReadable | loop::kWritable);
  return {};
}

// Sends what TLS has for the network. False: failed, and *this may be gone.
bool Transport::flush() {
  while (tls_ && !tls_->pending_output().empty()) {
    const Bytes out = tls_->pending_output();
    const ssize_t sent = ::send(socket_.get(), out.data(), out.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      tls_->consume_output(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      poll_.set_interest(loop::kReadable | loop::kWritable);
      return true;
    } else if (errno == EPIPE || errno == ECONNRESET) {
      break;  // the reason may be waiting to be read
    } else if (errno != EINTR) {
      fail_with(fail_errno(ErrorCode::kNetwork, errno, "sending failed", endpoint_.to_string()));
      return false;
    }
  }
  poll_.set_interest(loop::kReadable);
  return true;
}

// `pending_error`: the socket's error, taken from it by the poll; data may have come before it.
void Transport::receive(int pending_error) {
  const ssize_t size = ::recv(socket_.get(), ciphertext_.data(), ciphertext_.size(), 0);
  if (size < 0) {
    const int error = errno != EAGAIN ? errno : pending_error;
    if (error == 0 || error == EINTR) return;
    conclude(error == ECONNRESET ? closed()
                                 : fail_errno(ErrorCode::kNetwork, error, "receiving failed",
                                              endpoint_.to_string()));
    return;
  }
  if (size == 0)
    tls_->feed_eof();
  else
    tls_->feed(Bytes(ciphertext_).first(static_cast<size_t>(size)));
  if (phase_ == Phase::kHandshaking)
    progress_handshake();
  else
    read_response();
}

void Transport::progress_handshake() {
  switch (tls_->handshake()) {
    case tls::TlsSession::Io::kWantRead:
      static_cast<void>(flush());
      return;
    case tls::TlsSession::Io::kClosed:
      fail_with(closed());
      return;
    case tls::TlsSession::Io::kFailed: {
      Error error = tls_->error();  // our alert tells the server why
      const Bytes alert = tls_->pending_output();
      ::send(socket_.get(), alert.data(), alert.size(), MSG_NOSIGNAL);
      fail_with(std::move(error));
      return;
    }
    case tls::TlsSession::Io::kOk:
      break;
  }
  phase_ = Phase::kOpen;
  // Session tickets, or a refusal, may have come with the end of the handshake.
  if (auto failure = read_records()) return fail_with(std::move(*failure));
  if (flush()) observer_.on_secured();
}

// The reader's error says what is wrong with the text, not whose text it is.
Error Transport::unintelligible(const Error& error) const {
  return fail(error.code, "the server's answer makes no sense: " + error.message(),
              endpoint_.to_string(), "check address and port: is this a VPN server?");
}

// Reads everything that was fed; the error, if the connection is over after it.
std::optional<Error> Transport::read_records() {
  while (true) {
    const auto [io, size] = tls_->read(plaintext_);
    switch (io) {
      case tls::TlsSession::Io::kWantRead:
        return std::nullopt;
      case tls::TlsSession::Io::kClosed:
        return closed();
      case tls::TlsSession::Io::kFailed:
        return tls_->error();
      case tls::TlsSession::Io::kOk:
        break;
    }
    const Bytes text = Bytes(plaintext_).first(size);
    size_t used = 0;
    if (reader_ && !reader_->complete()) {
      answered_ = true;
      const auto consumed = reader_->feed(text);
      if (!consumed) return unintelligible(consumed.error());
      used = *consumed;
    }
    leftover_.insert(leftover_.end(), text.begin() + static_cast<ptrdiff_t>(used), text.end());
  }
}

void Transport::read_response() {
  conclude(read_records());
}

// An answer that is complete counts, whatever came after it: ocserv sends an alert behind a
// refusal.
void Transport::conclude(std::optional<Error> failure) {
  if (!failure && !flush()) return;
  if (failure && reader_ && !reader_->complete() && at_eof_) static_cast<void>(reader_->feed_eof());
  if (!reader_ || !reader_->complete()) {
    if (failure) fail_with(std::move(*failure));
    return;
  }
  wire::HttpResponse response = reader_->take();
  reader_.reset();
  if (failure) {
    response.keep_alive = false;
    poll_.stop();
  } else {
    poll_.set_interest(0);  // what comes now is for whoever gets the connection
  }
  observer_.on_response(std::move(response));
}

// End of file, close_notify or reset.
Error Transport::closed() {
  at_eof_ = true;
  return fail(ErrorCode::kNetwork,
              phase_ == Phase::kHandshaking
                  ? "the server closed the connection in the TLS handshake"
                  : "the server closed the connection",
              endpoint_.to_string());
}

void Transport::fail_with(Error error) {
  const bool unanswered = phase_ == Phase::kOpen && !answered_;
  phase_ = Phase::kFailed;
  poll_.stop();
  if (error.where.empty()) error.where = endpoint_.to_string();
  observer_.on_transport_failed(error, unanswered);
}

std::optional<uint16_t> Transport::path_mtu() const {
  int mtu = 0;
  socklen_t length = sizeof mtu;
  const bool v4 = endpoint_.address.is_v4();
  if (::getsockopt(socket_.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MTU : IPV6_MTU, &mtu,
                   &length) != 0 ||
      mtu <= 0)
    return std::nullopt;
  // Loopback has 65536; nothing outside carries more than jumbo frames.
  return static_cast<uint16_t>(std::clamp(mtu, 1280, 9216));
}

Transport::Handover Transport::release() {
  poll_.stop();
  return Handover{std::move(socket_), std::move(tls_), std::move(leftover_)};
}

}  // namespace culvert::client
