#include "common/tunnel/cstp_channel.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/net/ip_packet.h"
#include "common/wire/cstp.h"

namespace culvert::tunnel {
namespace {

using wire::CstpType;

static_assert(kChannelHeadroom >= wire::kCstpHeaderSize + net::kVnetHeaderSize);

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
// A frame up to this size shares a record with others; of a larger one, the copy would cost as much
// as a record of its own.
constexpr size_t kMaxPackedFrame = 4096;
// Room above kMaxSealed for answers to the peer's control frames.
constexpr size_t kControlReserve = 64U << 10;
// The kernel's share of the queue (tcp(7)): beyond this much unsent data the socket is not
// writable.
constexpr int kNotSentLowat = 128 << 10;
constexpr Duration kClosingTime = std::chrono::seconds(2);

}  // namespace

ChannelScratch::ChannelScratch(size_t max_packet, size_t max_queued_packets,
                               size_t max_queued_superpackets)
    : received(kReadSize),
      inbound(kInboundPackets, FrameReader::kSlotSize, kBatchHeadroom),
      pool({.size = wire::kCstpHeaderSize + max_packet, .max = max_queued_packets},
           {.size = wire::kCstpHeaderSize + wire::kCstpMaxSuperpacket,
            .max = max_queued_superpackets}) {}

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
      queue_(scratch.pool, wire::kCstpHeaderSize, options.queue),
      liveness_(options.liveness, loop.now()),
      features_(options.features),
      bounds_({.origin = net::VnetOrigin::kPeer, .max_packet = options.mtu}),
      reader_(scratch.inbound, options.features.superpacket) {
  if (features_.packed) packed_.reserve(tls::TlsSession::kMaxWrite);
}

// The poll handle must let go of the descriptor before it is closed.
CstpChannel::~CstpChannel() {
  poll_.stop();
}

Status CstpChannel::start(Bytes leftover, Begin begin) {
  const int one = 1;
  // Without this the last record of a batch would wait for an acknowledgement (RFC 896). Both
  // options are advice: a socket that refuses them (a test's socket pair) still carries frames.
  (void)setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  (void)setsockopt(socket_.get(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kNotSentLowat,
                   sizeof kNotSentLowat);
  held_ = begin == Begin::kHeld;
  auto watched = poll_.start([this](unsigned ready, int error) { on_ready(ready, error); },
                             held_ ? 0 : loop::kReadable);
  if (!watched) return watched;
  assert(tls_->unconsumed_input().empty());
  if (held_) {
    leftover_.assign(leftover.begin(), leftover.end());
  } else {
    take_leftover(leftover);
  }
  return {};
}

void CstpChannel::resume() {
  if (!std::exchange(held_, false) || state_ == State::kEnded) return;
  liveness_.received(loop_.now());
  update_interest();
  const std::vector<std::byte> leftover = std::exchange(leftover_, {});
  take_leftover(leftover);
}

// The channel may be gone afterwards.
void CstpChannel::take_leftover(Bytes leftover) {
  if (!leftover.empty() && !take_stream(leftover)) return;
  deliver();
  reader_.park();
  flush();
}

void CstpChannel::update_interest() {
  poll_.set_interest((held_ ? 0U : loop::kReadable) | (blocked_ ? loop::kWritable : 0U));
}

// ---- sending ------------------------------------------------------------------------------------

size_t CstpChannel::sealed_bytes() const {
  return tls_->pending_output().size() + packed_.size();
}

bool CstpChannel::has_room() const {
  return sealed_bytes() < kMaxSealed;
}

void CstpChannel::add(MutableBytes packet) {
  if (packet.size() > kMaxPayload) {
    counters_.drop(DropReason::kTooBig);
    return;
  }
  add_unit({CstpType::kData, packet, 1, packet.size()}, packet);
}

// Whole, if the peer takes it and it is within the bounds that the peer will hold it to.
void CstpChannel::add_superpacket(const net::VnetHeader& header, MutableBytes packet) {
  const size_t segments = net::segments_of(header, packet.size());
  const bool whole = features_.superpacket && header.is_superpacket() &&
                     segments <= bounds_.max_segments &&
                     size_t{header.header_length} + header.gso_size <= bounds_.max_packet &&
                     net::kVnetHeaderSize + packet.size() <= wire::kCstpMaxSuperpacket;
  if (!whole) return Channel::add_superpacket(header, packet);
  const MutableBytes payload = net::extend_front(packet, net::kVnetHeaderSize);
  net::encode_vnet(payload.first(net::kVnetHeaderSize), header);
  add_unit({CstpType::kSuperpacket, payload, static_cast<uint16_t>(segments), packet.size()},
           packet);
}

void CstpChannel::add_unit(const Unit& unit, Bytes packet) {
  if (state_ != State::kOpen || failure_ || switch_due_ || switched_) {
    counters_.drop(DropReason::kChannelDown, unit.packets);
    return;
  }
  if (queue_.empty() && !has_room()) flush();
  if (queue_.empty() && has_room()) {
    seal(unit);
  } else {
    enqueue(unit, net::flow_hash(packet));
  }
}

// Stock peers understand nothing but one frame in one record (openconnect-protocol 5.1).
void CstpChannel::seal(const Unit& unit) {
  const MutableBytes frame = net::extend_front(unit.payload, wire::kCstpHeaderSize);
  wire::write_cstp_header(frame, unit.type, unit.payload.size());
  if (features_.packed && frame.size() <= kMaxPackedFrame) {
    if (packed_.size() + frame.size() > tls::TlsSession::kMaxWrite) seal_packed();
    packed_.insert(packed_.end(), frame.begin(), frame.end());
  } else {
    seal_packed();
    write_frame(frame);
  }
  counters_.tx_packets += unit.packets;
  counters_.tx_bytes += unit.bytes;
}

void CstpChannel::write_frame(Bytes frame) {
  if (tls_->write(frame) != tls::TlsSession::Io::kOk) fail_later(tls_->error().message());
}

// As one record.
void CstpChannel::seal_packed() {
  if (packed_.empty()) return;
  write_frame(packed_);
  packed_.clear();
}

void CstpChannel::enqueue(const Unit& unit, uint32_t flow) {
  if (wire::kCstpHeaderSize + unit.payload.size() > scratch_.pool.max_size()) {
    counters_.drop(DropReason::kTooBig, unit.packets);
    return;
  }
  queue_.push({unit.payload, unit.packets, static_cast<uint8_t>(unit.type)}, flow, loop_.now());
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
    const FlowQueue::Popped next = queue_.pop(now);
    if (next.bytes.empty()) break;
    const auto type = static_cast<CstpType>(next.tag);
    const size_t header = type == CstpType::kSuperpacket ? net::kVnetHeaderSize : 0;
    seal({type, next.bytes, next.packets, next.bytes.size() - header});
  }
  count_queue_drops();
  if (switch_due_ && queue_.empty()) {
    switch_due_ = false;
    switched_ = true;
    send_control(CstpType::kSwitch, {});
  }
}

// Writes what is sealed, refills from the queue, and watches for writability while something is
// left. Errors are noted and reported from the next event of this channel, because the caller may
// be in the middle of a batch over many sessions.
void CstpChannel::flush() {
  if (blocked_ || failure_) return;
  bool sent = false;
  for (;;) {
    refill();
    seal_packed();
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
      update_interest();
      break;
    }
  }
  if (sent) liveness_.sent(loop_.now());
  if (state_ == State::kClosing) shut_down_sending();
}

void CstpChannel::send_control(CstpType type, Bytes payload) {
  if (failure_ || sealed_bytes() > kMaxSealed + kControlReserve) return;
  seal_packed();  // the order tells the peer something
  control_frame_.resize(wire::kCstpHeaderSize + payload.size());
  wire::write_cstp_header(control_frame_, type, payload.size());
  std::copy(payload.begin(), payload.end(),
            control_frame_.begin() + static_cast<ptrdiff_t>(wire::kCstpHeaderSize));
  write_frame(control_frame_);
}

void CstpChannel::fail_later(std::string text) {
  if (!failure_) failure_ = std::move(text);
}

// ---- receiving ----------------------------------------------------------------------------------

void CstpChannel::on_ready(unsigned ready, int error) {
  if (error != 0) {
    // What came before the error still counts: a DISCONNECT frame may be among it.
    // A held channel must not: it is the other connection's turn.
    if (held_ || receive())
      end(ChannelEnd::Kind::kLost,
          fail_errno(ErrorCode::kNetwork, error, "connection lost").message());
    return;
  }
  if ((ready & loop::kWritable) != 0) {
    blocked_ = false;
    flush();
    // Only now: while the peer is slow, every turn ends blocked again, and a change costs two
    // calls.
    if (!blocked_) update_interest();
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
    const auto result = tls_->read(reader_.room());
    switch (result.io) {
      case Io::kWantRead:
        if (any) liveness_.received(loop_.now());
        deliver();
        reader_.park();
        return true;
      case Io::kOk:
        any = true;
        reader_.added(result.size);
        if (!take_frames()) return false;
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

bool CstpChannel::take_stream(Bytes bytes) {
  while (!bytes.empty()) {
    if (scratch_.inbound.full()) deliver();
    const MutableBytes room = reader_.room();
    const Bytes part = bytes.first(std::min(bytes.size(), room.size()));
    std::copy(part.begin(), part.end(), room.begin());
    reader_.added(part.size());
    if (!take_frames()) return false;
    bytes = bytes.subspan(part.size());
  }
  return true;
}

bool CstpChannel::take_frames() {
  for (;;) {
    const FrameReader::Frame frame = reader_.next();
    switch (frame.verdict) {
      case FrameReader::Verdict::kNeedMore:
        return true;
      case FrameReader::Verdict::kBadMagic:
        end(ChannelEnd::Kind::kProtocol, "the peer sent something that is not a CSTP frame");
        return false;
      case FrameReader::Verdict::kTooLong:
        end(ChannelEnd::Kind::kProtocol, "the peer sent a CSTP frame above the limit");
        return false;
      case FrameReader::Verdict::kFrame:
        if (!take_frame(frame.type, frame.payload)) return false;
        break;
    }
  }
}

bool CstpChannel::take_frame(uint8_t type, MutableBytes payload) {
  switch (static_cast<CstpType>(type)) {
    case CstpType::kData:
      take_data(payload);
      return true;
    case CstpType::kSuperpacket:
      if (features_.superpacket) take_superpacket(payload);
      return true;
    case CstpType::kSwitch:
      if (features_.rekey) take_switch();
      return true;
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
    case CstpType::kUnsummed:
      return true;  // there is no such frame: over DTLS only
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

// What fills its record lies where it should already.
void CstpChannel::take_data(Bytes payload) {
  if (state_ != State::kOpen || peer_switched_) return;
  if (scratch_.inbound.full()) deliver();
  const MutableBytes slot = scratch_.inbound.free_space();
  if (slot.data() != payload.data()) std::memmove(slot.data(), payload.data(), payload.size());
  scratch_.inbound.commit(payload.size());
}

// Delivered at once: the next one will lie in the same memory, which is in the cache then.
void CstpChannel::take_superpacket(MutableBytes payload) {
  if (state_ != State::kOpen || peer_switched_) return;
  auto header = net::decode_vnet(payload);
  const MutableBytes packet = payload.subspan(std::min(payload.size(), net::kVnetHeaderSize));
  if (!header || net::check_vnet(*header, packet, bounds_) != net::VnetVerdict::kOk) {
    counters_.drop(DropReason::kBadSuperpacket);
    return;
  }
  deliver();
  observer_.on_superpacket(*this, *header, packet);
}

void CstpChannel::take_switch() {
  if (state_ != State::kOpen || std::exchange(peer_switched_, true)) return;
  deliver();
  observer_.on_switch(*this);
}

void CstpChannel::deliver() {
  if (!scratch_.inbound.empty()) observer_.on_packets(*this, scratch_.inbound);
  scratch_.inbound.clear();
}

// ---- liveness and the end -----------------------------------------------------------------------

void CstpChannel::tick() {
  const TimePoint now = loop_.now();
  reader_.shrink();
  if (failure_) return end(ChannelEnd::Kind::kLost, *failure_);
  if (state_ == State::kClosing) {
    if (now >= closing_deadline_) end(ChannelEnd::Kind::kClosed, closing_text_);
    return;
  }
  if (held_) return;
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

// tcp(7), TCP_INFO.
TimePoint CstpChannel::last_heard() const {
  tcp_info info{};
  socklen_t length = sizeof info;
  if (::getsockopt(socket_.get(), IPPROTO_TCP, TCP_INFO, &info, &length) != 0) {
    return liveness_.last_received();
  }
  const auto acknowledged = BootClock::now() - std::chrono::milliseconds(info.tcpi_last_ack_recv);
  return std::max(liveness_.last_received(), TimePoint(acknowledged));
}

void CstpChannel::disconnect(uint8_t code, std::string_view text) {
  if (state_ != State::kOpen) return;
  send_control(CstpType::kDisconnect, wire::write_disconnect({code, std::string(text)}));
  begin_closing(text);
}

void CstpChannel::send_switch() {
  assert(features_.rekey);
  if (state_ != State::kOpen || switched_) return;
  switch_due_ = true;
  flush();
}

bool CstpChannel::switch_sent() const {
  return switched_ && sealed_bytes() == 0;
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
