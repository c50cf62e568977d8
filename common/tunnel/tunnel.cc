#include "common/tunnel/tunnel.h"

#include <algorithm>

#include "common/base/log.h"
#include "common/net/gso_split.h"
#include "common/net/ip_packet.h"
#include "common/net/vnet_header.h"

namespace culvert::tunnel {
namespace {

// What one read of the TUN may bring, and how many of them make a batch.
constexpr size_t kMaxPacket = 16U << 10;
constexpr size_t kPlainBatch = 128;
constexpr size_t kMaxSuperpacket = 65535;
constexpr size_t kSuperpacketBatch = 32;
// What a session's queue takes: jumbo frames. Of a slot, only the pages that are used cost memory.
constexpr size_t kMaxQueuedPacket = 9216;
// What one turn of the loop takes from the TUN before everybody else gets a turn.
constexpr size_t kTurnBytes = 512U << 10;
constexpr Duration kTick = std::chrono::milliseconds(500);

net::PacketBatch batch_for(const net::TunDevice& tun) {
  if (tun.has_vnet_header()) return {kSuperpacketBatch, kMaxSuperpacket, kBatchHeadroom};
  return {kPlainBatch, kMaxPacket, kBatchHeadroom};
}

}  // namespace

// ---- session ------------------------------------------------------------------------------------

void TunnelSession::add(MutableBytes packet) {
  if (channel_ == nullptr) {
    counters_.drop(DropReason::kChannelDown);
    return;
  }
  channel_->add(packet);
}

void TunnelSession::add_superpacket(const net::VnetHeader& header, MutableBytes packet) {
  if (channel_ == nullptr) {
    counters_.drop(DropReason::kChannelDown, net::segments_of(header, packet.size()));
    return;
  }
  channel_->add_superpacket(header, packet);
}

void TunnelSession::flush() {
  if (channel_ != nullptr) channel_->flush();
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

void TunnelSession::on_superpacket(Channel& /*channel*/, const net::VnetHeader& header,
                                   MutableBytes packet) {
  tunnel_.write_superpacket(header, packet, *this);
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
      scratch_(kMaxQueuedPacket),
      outbound_(batch_for(tun_)),
      owners_(outbound_.capacity()),
      merger_(scratch_.inbound.capacity(), {.udp = tun_.offloads().udp}) {
  admitted_.reserve(scratch_.inbound.capacity());
}

Tunnel::~Tunnel() {
  poll_.stop();
}

Status Tunnel::start() {
  timer_.start_repeating(kTick, [this] { tick(); });
  return poll_.start(
      [this](unsigned /*ready*/, int error) {
        if (error == 0) return on_tun_readable();
        log::error("tunnel", "the TUN device is gone", {{"device", tun_.name()}});
        observer_.on_tun_lost();
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

// Adds each packet to its session's channel, then flushes each session once.
void Tunnel::distribute() {
  const auto packets = outbound_.packets();
  const std::span<TunnelSession*> owners(owners_.data(), packets.size());
  std::fill(owners.begin(), owners.end(), nullptr);
  router_.route(packets, owners);
  for (size_t i = 0; i < packets.size(); ++i) {
    if (owners[i] == nullptr) {
      unrouted_.drop(DropReason::kNoSession);
    } else if (tun_.has_vnet_header()) {
      add_from_kernel(*owners[i], packets[i]);
    } else {
      owners[i]->add(packets[i]);
    }
  }
  TunnelSession* flushed = nullptr;  // packets come in flows; a second flush costs next to nothing
  for (TunnelSession* const owner : owners) {
    if (owner != nullptr && owner != flushed) owner->flush();
    flushed = owner;
  }
}

// What the kernel hands over may be an ordinary packet, one without its checksum, or a superpacket.
void Tunnel::add_from_kernel(TunnelSession& owner, MutableBytes packet) {
  auto header = net::decode_vnet(net::extend_front(packet, net::kVnetHeaderSize));
  if (!header || net::check_vnet(*header, packet, net::kKernelBounds) != net::VnetVerdict::kOk) {
    owner.counters_.drop(DropReason::kMalformed);
    return;
  }
  owner.add_superpacket(*header, packet);
}

void Tunnel::write_inside(net::PacketBatch& batch, TunnelSession& from) {
  admitted_.clear();
  uint64_t bytes = 0;
  for (const MutableBytes packet : batch.packets()) {
    if (!from.admits(packet)) continue;
    admitted_.push_back(packet);
    bytes += packet.size();
  }
  const net::WriteOutcome outcome = tun_.has_vnet_header()
                                        ? tun_.write_merged(merger_.merge(admitted_))
                                        : tun_.write_batch(admitted_);
  from.counters_.rx_packets += outcome.written;
  from.counters_.rx_bytes += bytes;
  from.counters_.drop(DropReason::kTunBusy, outcome.dropped);
}

// One that the device does not take is split here.
void Tunnel::write_superpacket(const net::VnetHeader& header, MutableBytes packet,
                               TunnelSession& from) {
  if (!from.admits(packet)) return;
  Counters& counters = from.counters_;
  counters.rx_bytes += packet.size();
  const auto count = [&counters](const net::WriteOutcome& outcome) {
    counters.rx_packets += outcome.written;
    counters.drop(DropReason::kTunBusy, outcome.dropped);
  };
  const bool taken =
      tun_.has_vnet_header() && (header.type != net::GsoType::kUdpL4 || tun_.offloads().udp);
  if (taken) return count(write_alone(header, packet, net::segments_of(header, packet.size())));
  net::GsoSplitter splitter(header, packet, kMaxSuperpacket);
  for (MutableBytes next = splitter.next(); !next.empty(); next = splitter.next())
    count(write_alone({}, next, 1));
}

// Its header goes into the bytes before it.
net::WriteOutcome Tunnel::write_alone(const net::VnetHeader& header, MutableBytes packet,
                                      size_t packets) {
  if (!tun_.has_vnet_header()) return tun_.write_batch({&packet, 1});
  const MutableBytes whole = net::extend_front(packet, net::kVnetHeaderSize);
  net::encode_vnet(whole.first(net::kVnetHeaderSize), header);
  const iovec part{whole.data(), whole.size()};
  const net::TunWrite write{{&part, 1}, packets};
  return tun_.write_merged({&write, 1});
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
