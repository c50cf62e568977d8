#include "common/tunnel/tunnel.h"

#include <algorithm>

#include "common/net/ip_packet.h"

namespace culvert::tunnel {
namespace {

// The largest packet from the TUN: jumbo frames and then some. Superpackets will need more.
constexpr size_t kMaxTunPacket = 16U << 10;
constexpr size_t kBatchPackets = 128;
// What one turn of the loop takes from the TUN before everybody else gets a turn.
constexpr size_t kTurnBytes = 512U << 10;
constexpr Duration kTick = std::chrono::milliseconds(500);

}  // namespace

// ---- session ------------------------------------------------------------------------------------

void TunnelSession::send(std::span<const MutableBytes> packets) {
  if (channel_ == nullptr) {
    counters_.drop(DropReason::kChannelDown, packets.size());
    return;
  }
  channel_->send(packets);
}

// What a peer may put inside: whole IP packets from its own addresses. Its kernel's link-scope
// chatter is expected and has a counter of its own, so that the spoofing counter means something.
bool TunnelSession::admits(Bytes packet) {
  const auto view = net::parse_ip(packet);
  if (!view) {
    counters_.drop(DropReason::kMalformed);
    return false;
  }
  if (spec_.sources.empty()) return true;
  const IpAddress& source = view->source;
  for (const Prefix& own : spec_.sources)
    if (own.contains(source)) return true;
  const bool link_scope =
      source.is_link_local() || source.is_multicast() || source.is_unspecified();
  counters_.drop(link_scope ? DropReason::kLinkScope : DropReason::kSpoofedSource);
  return false;
}

void TunnelSession::on_packets(Channel& /*channel*/, net::PacketBatch& batch) {
  tunnel_.write_inside(batch, *this);
}

void TunnelSession::on_alive(Channel& /*channel*/) {
  tunnel_.observer_.on_alive(*this);
}

void TunnelSession::on_channel_end(Channel& channel, const ChannelEnd& end) {
  // Gone before the observer hears of it, so that it may attach a new one or remove the session;
  // destroyed after everything else, because the caller is a function of the channel.
  const std::unique_ptr<CstpChannel> ended = std::move(channel_);
  (void)channel;
  tunnel_.observer_.on_channel_end(*this, end);
}

// ---- tunnel -------------------------------------------------------------------------------------

Tunnel::Tunnel(loop::Loop& loop, net::TunDevice tun, Router& router, TunnelObserver& observer)
    : loop_(loop),
      tun_(std::move(tun)),
      router_(router),
      observer_(observer),
      poll_(loop, tun_.fd()),
      timer_(loop),
      scratch_(kMaxTunPacket),
      outbound_(kBatchPackets, kMaxTunPacket, kChannelHeadroom),
      owners_(kBatchPackets) {
  group_.reserve(kBatchPackets);
  admitted_.reserve(kBatchPackets);
}

Tunnel::~Tunnel() {
  poll_.stop();
}

Status Tunnel::start() {
  timer_.start_repeating(kTick, [this] { tick(); });
  return poll_.start(
      [this](unsigned /*ready*/, int error) {
        if (error == 0) on_tun_readable();
      },
      loop::kReadable);
}

// An unread TUN drops at its tail, blindly; so it is drained whatever the channels can take, and
// the sessions' queues decide what is lost.
void Tunnel::on_tun_readable() {
  size_t bytes = 0;
  while (bytes < kTurnBytes) {
    outbound_.clear();
    const net::ReadOutcome outcome = tun_.read_batch(outbound_, kTurnBytes - bytes);
    if (outcome.packets == 0) return;
    bytes += outcome.bytes;
    distribute();
    if (outcome.drained) return;
  }
}

// Groups the batch by session, keeping the order within each, so that a session sees one call.
void Tunnel::distribute() {
  const auto packets = outbound_.packets();
  const std::span<TunnelSession*> owners(owners_.data(), packets.size());
  std::fill(owners.begin(), owners.end(), nullptr);
  router_.route(packets, owners);
  unrouted_.drop(DropReason::kNoSession,
                 static_cast<uint64_t>(std::count(owners.begin(), owners.end(), nullptr)));
  for (size_t first = 0; first < packets.size(); ++first) {
    TunnelSession* const owner = owners[first];
    if (owner == nullptr) continue;  // sent with an earlier one, or nobody's
    group_.clear();
    for (size_t i = first; i < packets.size(); ++i) {
      if (owners[i] != owner) continue;
      group_.push_back(packets[i]);
      owners[i] = nullptr;
    }
    owner->send(group_);
  }
}

void Tunnel::write_inside(net::PacketBatch& batch, TunnelSession& from) {
  admitted_.clear();
  for (const MutableBytes packet : batch.packets())
    if (from.admits(packet)) admitted_.push_back(packet);
  uint64_t bytes = 0;
  for (const MutableBytes packet : admitted_)
    bytes += packet.size();
  const net::WriteOutcome outcome = tun_.write_batch(admitted_);
  from.counters_.rx_packets += outcome.written;
  from.counters_.rx_bytes += bytes;
  from.counters_.drop(DropReason::kTunBusy, outcome.dropped);
}

TunnelSession& Tunnel::open(SessionSpec spec) {
  auto& session = sessions_[spec.id];
  if (session == nullptr) {
    session.reset(new TunnelSession(*this, std::move(spec)));
  } else {
    session->spec_ = std::move(spec);
  }
  return *session;
}

Status Tunnel::attach(SessionId id, UniqueFd socket, std::unique_ptr<tls::TlsSession> tls,
                      Bytes leftover) {
  TunnelSession& session = *sessions_.at(id);
  ChannelObserver& observer = session;  // a private base: only a friend may say so
  session.channel_ =
      std::make_unique<CstpChannel>(loop_, scratch_, std::move(socket), std::move(tls),
                                    session.spec_.cstp, observer, session.counters_);
  return session.channel_->start(leftover);
}

void Tunnel::remove(SessionId id) {
  sessions_.erase(id);
}

TunnelSession* Tunnel::find(SessionId id) {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.get();
}

// A tick may end a channel, and the observer may then remove the session: walk over a copy.
void Tunnel::tick() {
  ticking_.clear();
  for (const auto& entry : sessions_)
    ticking_.push_back(entry.first);
  for (const SessionId id : ticking_) {
    TunnelSession* const session = find(id);
    if (session != nullptr && session->channel_ != nullptr) session->channel_->tick();
  }
}

}  // namespace culvert::tunnel
