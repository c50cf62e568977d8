#include "server/login_connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/base/log.h"
#include "common/wire/auth_xml.h"
#include "server/login_http.h"

namespace culvert::server {
namespace {

using Io = tls::TlsSession::Io;

// One read; also the most that can follow a CONNECT before the data thread takes over.
constexpr size_t kInputSize = 16 * 1024;

Refusal refusal_of(const tls::Verdict& verdict) {
  return {.reason = tls::name_of(verdict.reason), .text = verdict.text};
}

}  // namespace

LoginConnection::LoginConnection(loop::Loop& loop, LoginHost& host, UniqueFd socket,
                                 const Endpoint& remote, std::unique_ptr<tls::TlsSession> tls,
                                 const Limits& limits)
    : host_(host),
      remote_(remote),
      limits_(limits),
      socket_(std::move(socket)),
      tls_(std::move(tls)),
      poll_(loop, socket_.get()),
      deadline_(loop),
      input_(kInputSize) {}

LoginConnection::~LoginConnection() = default;

Status LoginConnection::start() {
  deadline_.start(limits_.handshake, [this] { on_deadline(); });
  return poll_.start([this](unsigned ready, int error) { on_ready(ready, error); },
                     loop::kReadable);
}

void LoginConnection::close() {
  if (std::exchange(phase_, Phase::kClosed) == Phase::kClosed) return;
  poll_.stop();
  deadline_.stop();
  socket_.reset();
  if (granted_) host_.gate().abandon(*std::exchange(granted_, std::nullopt));
  host_.on_closed(*this);
}

// ---- events -------------------------------------------------------------------------------------

void LoginConnection::on_ready(unsigned ready, int error) {
  const auto alive = shared_from_this();  // close() gives up the host's reference
  if (error != 0) return close();
  if ((ready & loop::kReadable) != 0) receive();
  flush();
}

void LoginConnection::on_deadline() {
  const auto alive = shared_from_this();
  if (phase_ == Phase::kHandshake) {
    host_.on_refused(remote_,
                     {.reason = "handshake_timeout", .text = "the TLS handshake took too long"},
                     std::nullopt);
  } else if (phase_ == Phase::kHttp && !cookie_) {
    host_.on_refused(remote_, {.reason = "login_timeout", .text = "the login took too long"},
                     peer_->certificate);
  }
  close();
}

void LoginConnection::receive() {
  if (phase_ == Phase::kFarewell) return discard();
  if (phase_ == Phase::kAsking || phase_ == Phase::kHandOver) return;  // the buffer may be lent
  const ssize_t got = ::recv(socket_.get(), input_.data(), input_.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return close();  // clients leave without close_notify: nothing to remark
  tls_->feed(Bytes(input_).first(static_cast<size_t>(got)));
  advance();
}

// The refusal is lost if the kernel finds unread input when the socket is closed (it then sends a
// reset): so what still comes is read and thrown away, for a while.
void LoginConnection::discard() {
  const ssize_t got = ::recv(socket_.get(), input_.data(), input_.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return close();
  discarded_ += static_cast<size_t>(got);
  if (discarded_ > limits_.farewell_bytes) close();
}

void LoginConnection::advance() {
  if (phase_ == Phase::kHandshake) shake_hands();
  if (phase_ == Phase::kTurnedAway) read_first_bytes();
  if (phase_ == Phase::kHttp) read_requests();
}

// ---- who is it ----------------------------------------------------------------------------------

void LoginConnection::shake_hands() {
  switch (tls_->handshake()) {
    case Io::kWantRead:
      return;
    case Io::kOk:
      return judge();
    case Io::kClosed:
      return close();
    case Io::kFailed:
      host_.on_refused(remote_, {.reason = "handshake_failed", .text = tls_->error().message()},
                       std::nullopt);
      return begin_farewell();  // the alert is still to be sent
  }
}

void LoginConnection::judge() {
  judged_by_ = host_.tls_config();
  tls::Verdict verdict = tls::judge_client(*tls_);
  if (verdict.accepted() && &tls_->config() != judged_by_.get()) {
    verdict = tls::recheck(tls_->peer_chain_der(), *judged_by_);
  }
  if (!verdict.accepted()) {
    host_.on_refused(remote_, refusal_of(verdict), verdict.peer);
    return turn_away(refusal_of(verdict));
  }
  peer_ = ProvenPeer{
      .certificate = std::move(*verdict.peer), .chain = tls_->peer_chain_der(), .remote = remote_};
  phase_ = Phase::kHttp;
  deadline_.start(limits_.login, [this] { on_deadline(); });
  host_.on_proven(*this);
}

void LoginConnection::turn_away(Refusal refusal) {
  refusal_ = std::move(refusal);
  phase_ = Phase::kTurnedAway;
}

// Looks at the first bytes and at nothing else.
void LoginConnection::read_first_bytes() {
  while (first_.size() < kFirstBytes) {
    const MutableBytes room = host_.scratch().first(kFirstBytes - first_.size());
    const auto [io, size] = tls_->read(room);
    if (io == Io::kWantRead) return;
    if (io != Io::kOk) return begin_farewell();
    first_ += as_text(room.first(size));
  }
  say_farewell(turned_away(first_, refusal_));
}

// A reload may have come between the handshake and now.
bool LoginConnection::still_accepted() {
  if (judged_by_ == host_.tls_config()) return true;
  judged_by_ = host_.tls_config();
  const tls::Verdict verdict = tls::recheck(peer_->chain, *judged_by_);
  if (verdict.accepted()) return true;
  host_.on_refused(remote_, refusal_of(verdict), verdict.peer);
  refusal_ = refusal_of(verdict);
  return false;
}

// ---- HTTP ---------------------------------------------------------------------------------------

void LoginConnection::read_requests() {
  while (phase_ == Phase::kHttp) {
    const MutableBytes room = host_.scratch();
    const auto [io, size] = tls_->read(room);
    if (io == Io::kWantRead) return;
    if (io != Io::kOk) return begin_farewell();
    take_bytes(room.first(size));
  }
}

void LoginConnection::take_bytes(Bytes plain) {
  const auto consumed = reader_.feed(plain);
  if (!consumed) return refuse_request(consumed.error().message(), bad_request());
  if (!reader_.complete()) return;
  const wire::HttpRequest request = reader_.take();
  const Bytes rest = plain.subspan(*consumed);
  leftover_.assign(rest.begin(), rest.end());
  // Only frames may follow at once: stock peers wait for the answer before they go on.
  if (!rest.empty() && request.method != "CONNECT") {
    return refuse_request("more was sent before the answer", bad_request());
  }
  handle(request);
}

void LoginConnection::refuse_request(const std::string& why, const wire::HttpResponse& response) {
  log::info(
      "login", "request refused",
      {{"remote", remote_.to_string()}, {"user", peer_->certificate.common_name}, {"error", why}});
  say_farewell(response);
}

void LoginConnection::handle(const wire::HttpRequest& request) {
  if (++requests_ > limits_.requests) {
    return refuse_request("too many on one connection", bad_request());
  }
  const bool accepted = still_accepted();
  switch (step_of(request)) {
    case LoginStep::kLogin:
      return accepted ? ask_login(request) : say_farewell(failure_response(refusal_));
    case LoginStep::kConnect:
      return accepted ? ask_connect(request) : say_farewell(connect_refused(refusal_));
    case LoginStep::kNotFound:
      return refuse_request("nothing is served under " + request.method + " " + request.target,
                            not_found());
  }
}

void LoginConnection::ask_login(const wire::HttpRequest& request) {
  if (!request.body.empty() && request.body.front() == '<') {
    if (const auto parsed = wire::parse_login_request(request.body); !parsed) {
      return refuse_request(parsed.error().message(), bad_request());
    }
  }
  if (cookie_) return respond(complete_response(*cookie_));
  phase_ = Phase::kAsking;
  host_.gate().login(*peer_, std::string(request.find("User-Agent").value_or("")),
                     [weak = weak_from_this()](Answer<LoginGrant> answer) {
                       // Without a connection the session waits for its cookie's timeout.
                       if (const auto self = weak.lock()) self->on_login_answer(std::move(answer));
                     });
}

void LoginConnection::on_login_answer(Answer<LoginGrant> answer) {
  if (phase_ != Phase::kAsking) return;
  if (!answer.grant) {
    say_farewell(failure_response(answer.refusal));
    return flush();
  }
  phase_ = Phase::kHttp;
  cookie_ = std::move(answer.grant->cookie);
  respond(complete_response(*cookie_));
  advance();
  flush();
}

void LoginConnection::ask_connect(const wire::HttpRequest& request) {
  auto offer = wire::parse_connect_request(request);
  if (!offer) {
    if (offer.error().code != ErrorCode::kAuthRefused) return say_farewell(not_found());
    refusal_ = {.reason = "no_cookie", .text = offer.error().what};
    host_.on_refused(remote_, refusal_, peer_->certificate);
    return say_farewell(connect_refused(refusal_));
  }
  offer_ = std::move(*offer);
  phase_ = Phase::kAsking;
  ConnectRequest asked{.peer = *peer_,
                       .offer = offer_,
                       .path_mtu = path_mtu(),
                       .tls_version = std::string(tls_->version()),
                       .cipher = std::string(tls_->cipher())};
  host_.gate().connect(std::move(asked), [weak = weak_from_this(),
                                          &gate = host_.gate()](Answer<ConnectGrant> answer) {
    const auto self = weak.lock();
    if (self && self->phase_ == Phase::kAsking) {
      self->on_connect_answer(std::move(answer));
    } else if (answer.grant) {
      gate.abandon(answer.grant->attachment);
    }
  });
}

void LoginConnection::on_connect_answer(Answer<ConnectGrant> answer) {
  if (!answer.grant) {
    say_farewell(connect_refused(answer.refusal));
    return flush();
  }
  granted_ = answer.grant->attachment;
  respond(connect_granted(answer.grant->params, offer_));
  if (phase_ == Phase::kAsking) phase_ = Phase::kHandOver;
  flush();
}

// ---- to the data thread -------------------------------------------------------------------------

// What was read from the socket belongs to this connection's buffer, which stays here: so all of it
// is decrypted first.
bool LoginConnection::drain_into_leftover() {
  for (;;) {
    const MutableBytes room = host_.scratch();
    const auto [io, size] = tls_->read(room);
    if (io == Io::kWantRead) return true;
    if (io != Io::kOk) return false;
    leftover_.insert(leftover_.end(), room.begin(), room.begin() + static_cast<ptrdiff_t>(size));
  }
}

void LoginConnection::hand_over() {
  if (!drain_into_leftover()) return close();
  phase_ = Phase::kClosed;
  poll_.stop();  // before another loop watches the socket
  deadline_.stop();
  host_.gate().attach({.attachment = *std::exchange(granted_, std::nullopt),
                       .socket = std::move(socket_),
                       .tls = std::move(tls_),
                       .leftover = std::move(leftover_)});
  host_.on_closed(*this);
}

uint16_t LoginConnection::path_mtu() const {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(socket_.get(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
  return static_cast<uint16_t>(std::min<uint32_t>(info.tcpi_pmtu, UINT16_MAX));
}

// ---- sending ------------------------------------------------------------------------------------

void LoginConnection::respond(const wire::HttpResponse& response) {
  const auto text = wire::serialize(response);
  if (!text) {
    log::error("login", "an answer could not be written", {{"error", text.error().message()}});
    return begin_farewell();
  }
  for (Bytes rest = as_bytes(*text); !rest.empty();) {
    const Bytes record = rest.first(std::min(rest.size(), tls::TlsSession::kMaxRecord));
    if (tls_->write(record) != Io::kOk) return begin_farewell();
    rest = rest.subspan(record.size());
  }
}

void LoginConnection::say_farewell(const wire::HttpResponse& response) {
  respond(response);
  begin_farewell();
}

// The last words are queued: they are sent, our side is shut down, and what the other side still
// sends is discarded until it closes or the time is over.
void LoginConnection::begin_farewell() {
  if (phase_ == Phase::kFarewell || phase_ == Phase::kClosed) return;
  phase_ = Phase::kFarewell;
  if (tls_->handshake_done()) tls_->close_notify();
  deadline_.start(limits_.farewell, [this] { on_deadline(); });
}

void LoginConnection::flush() {
  if (phase_ == Phase::kClosed) return;
  while (!tls_->pending_output().empty()) {
    const Bytes output = tls_->pending_output();
    const ssize_t sent = ::send(socket_.get(), output.data(), output.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return update_interest();
    if (sent < 0) return close();
    tls_->consume_output(static_cast<size_t>(sent));
  }
  if (phase_ == Phase::kHandOver) return hand_over();
  if (phase_ == Phase::kFarewell && !std::exchange(shut_down_, true)) {
    ::shutdown(socket_.get(), SHUT_WR);
  }
  update_interest();
}

void LoginConnection::update_interest() {
  // While the control thread is asked, input waits in the socket.
  const bool reading = phase_ != Phase::kAsking && phase_ != Phase::kHandOver;
  const bool writing = !tls_->pending_output().empty();
  poll_.set_interest((reading ? loop::kReadable : 0U) | (writing ? loop::kWritable : 0U));
}

}  // namespace culvert::server
