#include "common/tunnel/cstp_channel.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "common/net/ip_packet.h"
#include "common/wire/cstp.h"

namespace culvert::tunnel {
namespace {

using wire::CstpType;

static_assert(kChannelHeadroom >= wire::kCstpHeaderSize);

// What one record carries besides the frame's header: mbedTLS counts the content type byte of
// TLS 1.3 as payload, so that a frame of the protocol's full size would become two records.
constexpr size_t kMaxPayload = tls::TlsSession::kMaxWrite - wire::kCstpHeaderSize;
static_assert(kMaxPayload <= wire::kCstpMaxPayload);

// Ciphertext of one read: large enough that a fast peer costs few system calls, small enough to
// stay in the second-level cache.
constexpr size_t kReadSize = 256U << 10;
constexpr size_t kInboundPackets = 128;
// Sealed but not yet taken by the kernel. Beyond this, packets wait unsealed, where they can still
// be reordered and dropped.
constexpr size_t kMaxSealed = 128U << 10;
// Room above kMaxSealed for answers to the peer's control frames.
constexpr size_t kControlReserve = 64U << 10;
// The kernel's share of the queue (tcp(7)): beyond this much unsent data the socket is not
// writable.
constexpr int kNotSentLowat = 128 << 10;
constexpr Duration kClosingTime = std::chrono::seconds(2);

}  // namespace

ChannelScratch::ChannelScratch(size_t max_packet, size_t max_queued_packets)
    : received(kReadSize),
      inbound(kInboundPackets, wire::kCstpMaxPayload, kBatchHeadroom),
      pool(kChannelHeadroom + max_packet, max_queued_packets) {}

CstpChannel::CstpChannel(loop::Loop& loop, ChannelScratch& scratch, UniqueFd socket,
                         std::unique_ptr<tls::TlsSession> tls, const CstpOptions& options,
                         ChannelObserver& observer, Counters& counters)
    : loop_(loop),
      scratch_(scratch),
      observer_(observer),
      counters_(counters),
      socket_(std::move(socket)),
      tls_(std::move(tls)),
      poll_(loop, socket_.get()),
      queue_(scratch.pool, kChannelHeadroom, options.queue),
      liveness_(options.liveness, loop.now()) {}

// The poll handle must let go of the descriptor before it is closed.
CstpChannel::~CstpChannel() {
  poll_.stop();
}

Status CstpChannel::start(Bytes leftover) {
  const int one = 1;
  // Without this the last record of a batch would wait for an acknowledgement (RFC 896). Both
  // options are advice: a socket that refuses them (a test's socket pair) still carries frames.
  (void)setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  (void)setsockopt(socket_.get(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kNotSentLowat,
                   sizeof kNotSentLowat);
  auto watched =
      poll_.start([this](unsigned ready, int error) { on_ready(ready, error); }, loop::kReadable);
  if (!watched) return watched;
  assert(tls_->unconsumed_input().empty());
  if (!leftover.empty() && !take_stream(leftover)) return {};
  deliver();
  flush();
  return {};
}

// ---- sending ------------------------------------------------------------------------------------

bool CstpChannel::has_room() const {
  return tls_->pending_output().size() < kMaxSealed;
}

void CstpChannel::add(MutableBytes packet) {
  if (state_ != State::kOpen || failure_) {
    counters_.drop(DropReason::kChannelDown);
    return;
  }
  if (queue_.empty() && !has_room()) flush();
  if (queue_.empty() && has_room()) {
    seal(packet);
  } else {
    enqueue(packet);
  }
}

// Stock peers understand nothing but one frame in one record (openconnect-protocol 5.1).
void CstpChannel::seal(MutableBytes packet) {
  if (packet.size() > kMaxPayload) {
    counters_.drop(DropReason::kTooBig);
    return;
  }
  const MutableBytes frame(packet.data() - wire::kCstpHeaderSize,
                           packet.size() + wire::kCstpHeaderSize);
  wire::write_cstp_header(frame, CstpType::kData, packet.size());
  if (tls_->write(frame) != tls::TlsSession::Io::kOk) {
    fail_later(tls_->error().message());
    return;
  }
  ++counters_.tx_packets;
  counters_.tx_bytes += packet.size();
}

void CstpChannel::enqueue(Bytes packet) {
  if (packet.size() + kChannelHeadroom > scratch_.pool.slot_size()) {
    counters_.drop(DropReason::kTooBig);
    return;
  }
  queue_.push(packet, net::flow_hash(packet), loop_.now());
  count_queue_drops();
}

void CstpChannel::count_queue_drops() {
  const FlowQueue::Drops& drops = queue_.drops();
  counters_.drop(DropReason::kQueueFull, drops.full - counted_drops_.full);
  counters_.drop(DropReason::kQueueDelay, drops.delay - counted_drops_.delay);
  counted_drops_ = drops;
}

// From the queue into records, as far as there is room. Nothing follows a DISCONNECT.
void CstpChannel::refill() {
  if (state_ != State::kOpen) return;
  const TimePoint now = loop_.now();
  while (!queue_.empty() && has_room()) {
    const MutableBytes packet = queue_.pop(now);
    if (packet.empty()) break;
    seal(packet);
  }
  count_queue_drops();
}

// Writes what is sealed, refills from the queue, and watches for writability while something is
// left. Errors are noted and reported from the next event of this channel, because the caller may
// be in the middle of a batch over many sessions.
void CstpChannel::flush() {
  if (blocked_ || failure_) return;
  bool sent = false;
  for (;;) {
    refill();
    const Bytes output = tls_->pending_output();
    if (output.empty()) break;
    const ssize_t written = ::send(socket_.get(), output.data(), output.size(), MSG_NOSIGNAL);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
      fail_later(fail_errno(ErrorCode::kNetwork, errno, "cannot send").message());
      break;
    }
    if (written > 0) {
      tls_->consume_output(static_cast<size_t>(written));
      sent = true;
    }
    if (written < 0 || static_cast<size_t>(written) < output.size()) {
      blocked_ = true;
      poll_.set_interest(loop::kReadable | loop::kWritable);
      break;
    }
  }
  if (sent) liveness_.sent(loop_.now());
  if (state_ == State::kClosing) shut_down_sending();
}

void CstpChannel::send_control(CstpType type, Bytes payload) {
  if (failure_ || tls_->pending_output().size() > kMaxSealed + kControlReserve) return;
  control_frame_.resize(wire::kCstpHeaderSize + payload.size());
  wire::write_cstp_header(control_frame_, type, payload.size());
  std::copy(payload.begin(), payload.end(),
            control_frame_.begin() + static_cast<ptrdiff_t>(wire::kCstpHeaderSize));
  if (tls_->write(control_frame_) != tls::TlsSession::Io::kOk) fail_later(tls_->error().message());
}

void CstpChannel::fail_later(std::string text) {
  if (!failure_) failure_ = std::move(text);
}

// ---- receiving ----------------------------------------------------------------------------------

void CstpChannel::on_ready(unsigned ready, int error) {
  if (error != 0) {
    // What came before the error still counts: a DISCONNECT frame may be among it.
    if (receive())
      end(ChannelEnd::Kind::kLost,
          fail_errno(ErrorCode::kNetwork, error, "connection lost").message());
    return;
  }
  if ((ready & loop::kWritable) != 0) {
    blocked_ = false;
    flush();
    // Only now: while the peer is slow, every turn ends blocked again, and a change costs two
    // calls.
    if (!blocked_) poll_.set_interest(loop::kReadable);
  }
  if ((ready & loop::kReadable) != 0 && !receive()) return;
  flush();
  if (failure_) end(ChannelEnd::Kind::kLost, *failure_);
}

// One read a turn: what is left makes the socket readable again, and others get their turn.
bool CstpChannel::receive() {
  const ssize_t got = ::recv(socket_.get(), scratch_.received.data(), scratch_.received.size(), 0);
  if (got < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return true;
    end(ChannelEnd::Kind::kLost,
        fail_errno(ErrorCode::kNetwork, errno, "connection lost").message());
    return false;
  }
  if (got == 0) {
    end(ChannelEnd::Kind::kLost, "the peer closed the connection");
    return false;
  }
  tls_->feed(Bytes(scratch_.received).first(static_cast<size_t>(got)));
  return take_records();
}

bool CstpChannel::take_records() {
  using Io = tls::TlsSession::Io;
  bool any = false;
  for (;;) {
    if (scratch_.inbound.full()) deliver();
    const MutableBytes slot = scratch_.inbound.free_space();
    // The record goes where its payload will be exactly the slot's packet: no copy.
    const MutableBytes target(slot.data() - wire::kCstpHeaderSize,
                              slot.size() + wire::kCstpHeaderSize);
    const auto result = tls_->read(target);
    switch (result.io) {
      case Io::kWantRead:
        if (any) liveness_.received(loop_.now());
        deliver();
        return true;
      case Io::kOk:
        any = true;
        if (!take_record(target.first(result.size))) return false;
        break;
      case Io::kClosed:
        end(ChannelEnd::Kind::kLost, "the peer closed the connection");
        return false;
      case Io::kFailed:
        end(ChannelEnd::Kind::kLost, tls_->error().message());
        return false;
    }
  }
}

// The common case is a record that is one DATA frame, which already lies in its slot.
bool CstpChannel::take_record(Bytes record) {
  if (partial_.empty()) {
    const wire::CstpParse frame = wire::parse_cstp(record);
    const bool whole =
        frame.verdict == wire::CstpParse::Verdict::kFrame && frame.consumed == record.size();
    if (whole && frame.type == static_cast<uint8_t>(CstpType::kData)) {
      if (state_ == State::kOpen) scratch_.inbound.commit(frame.payload.size());
      return true;
    }
  }
  return take_stream(record);
}

// Frames that do not coincide with records.
bool CstpChannel::take_stream(Bytes bytes) {
  partial_.insert(partial_.end(), bytes.begin(), bytes.end());
  size_t done = 0;
  for (;;) {
    const wire::CstpParse frame = wire::parse_cstp(Bytes(partial_).subspan(done));
    switch (frame.verdict) {
      case wire::CstpParse::Verdict::kNeedMore:
        partial_.erase(partial_.begin(), partial_.begin() + static_cast<ptrdiff_t>(done));
        return true;
      case wire::CstpParse::Verdict::kBadMagic:
        end(ChannelEnd::Kind::kProtocol, "the peer sent something that is not a CSTP frame");
        return false;
      case wire::CstpParse::Verdict::kTooLong:
        end(ChannelEnd::Kind::kProtocol, "the peer sent a CSTP frame above the limit");
        return false;
      case wire::CstpParse::Verdict::kFrame:
        if (!take_frame(frame.type, frame.payload)) return false;
        done += frame.consumed;
        break;
    }
  }
}

bool CstpChannel::take_frame(uint8_t type, Bytes payload) {
  switch (static_cast<CstpType>(type)) {
    case CstpType::kData:
      return take_data(payload);
    case CstpType::kDpdRequest:
      // Echoed: openconnect ignores the payload, ocserv and we compare it.
      send_control(CstpType::kDpdResponse, payload.first(std::min(payload.size(), kMaxPayload)));
      return true;
    case CstpType::kDpdResponse:
      // A Liveness answer like any frame; the observer may wait for this one.
      observer_.on_alive(*this);
      return true;
    case CstpType::kKeepalive:
      return true;  // nobody answers these
    case CstpType::kDisconnect:
    case CstpType::kTerminate: {
      const auto reason = wire::parse_disconnect(payload);
      // Our own DISCONNECT is answered by one: that is the end we asked for.
      const bool ours = state_ == State::kClosing;
      end(ours ? ChannelEnd::Kind::kClosed : ChannelEnd::Kind::kPeerEnded, reason.text,
          reason.code);
      return false;
    }
    case CstpType::kCompressed:
      end(ChannelEnd::Kind::kProtocol, "the peer sent a compressed frame, which nobody agreed to");
      return false;
  }
  return true;  // a type of a later protocol version: ignored, as ocserv does
}

bool CstpChannel::take_data(Bytes payload) {
  if (state_ != State::kOpen) return true;
  if (scratch_.inbound.full()) deliver();
  const MutableBytes slot = scratch_.inbound.free_space();
  std::copy(payload.begin(), payload.end(), slot.begin());
  scratch_.inbound.commit(payload.size());
  return true;
}

void CstpChannel::deliver() {
  if (!scratch_.inbound.empty()) observer_.on_packets(*this, scratch_.inbound);
  scratch_.inbound.clear();
}

// ---- liveness and the end -----------------------------------------------------------------------

void CstpChannel::tick() {
  const TimePoint now = loop_.now();
  if (failure_) return end(ChannelEnd::Kind::kLost, *failure_);
  if (state_ == State::kClosing) {
    if (now >= closing_deadline_) end(ChannelEnd::Kind::kClosed, closing_text_);
    return;
  }
  switch (liveness_.due(now)) {
    case Liveness::Action::kNone:
      return;
    case Liveness::Action::kSendDpd:
      send_control(CstpType::kDpdRequest, {});
      break;
    case Liveness::Action::kSendKeepalive:
      send_control(CstpType::kKeepalive, {});
      break;
    case Liveness::Action::kDead:
      return end(ChannelEnd::Kind::kDead, "no sign of life from the peer");
  }
  flush();
}

void CstpChannel::probe() {
  send_control(CstpType::kDpdRequest, {});
  flush();
}

void CstpChannel::disconnect(uint8_t code, std::string_view text) {
  if (state_ != State::kOpen) return;
  send_control(CstpType::kDisconnect, wire::write_disconnect({code, std::string(text)}));
  begin_closing(text);
}

void CstpChannel::close(std::string_view text) {
  if (state_ != State::kOpen) return;
  tls_->close_notify();
  begin_closing(text);
}

void CstpChannel::begin_closing(std::string_view text) {
  state_ = State::kClosing;
  closing_text_ = text;
  closing_deadline_ = loop_.now() + kClosingTime;
  flush();
}

// A FIN behind the last byte instead of close(2): closing with unread input makes the kernel send a
// reset, which can overtake the DISCONNECT frame.
void CstpChannel::shut_down_sending() {
  if (half_closed_ || blocked_ || !tls_->pending_output().empty()) return;
  half_closed_ = true;
  (void)::shutdown(socket_.get(), SHUT_WR);
}

void CstpChannel::end(ChannelEnd::Kind kind, std::string text, std::optional<uint8_t> code) {
  if (state_ == State::kEnded) return;
  if (state_ == State::kClosing) kind = ChannelEnd::Kind::kClosed;
  if (kind == ChannelEnd::Kind::kClosed) text = closing_text_;
  deliver();  // packets that came before the end still count
  state_ = State::kEnded;
  poll_.stop();
  observer_.on_channel_end(*this, {kind, std::move(text), code});
}

}  // namespace culvert::tunnel
