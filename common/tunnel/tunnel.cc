#include "common/tunnel/tunnel.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/net/gso_split.h"
#include "common/net/ip_packet.h"
#include "common/net/unsummed.h"
#include "common/net/vnet_header.h"
#include "common/tunnel/key_life.h"
#include "common/tunnel/path_mtu.h"

namespace culvert::tunnel {
namespace {

// What one read of the TUN may bring, and how many of them make a batch.
constexpr size_t kMaxPacket = 16U << 10;
constexpr size_t kPlainBatch = 128;
constexpr size_t kSuperpacketBatch = 64;
// A batch is passed on after this much: a superpacket is still in the cache then, and small packets
// have become as many as one send takes.
constexpr size_t kBatchBytes = 64U << 10;
// What a session's queue takes: jumbo frames. Of a slot, only the pages that are used cost memory.
constexpr size_t kMaxQueuedPacket = 9216;
// What one turn of the loop takes from the TUN before everybody else gets a turn.
constexpr size_t kTurnBytes = 128U << 10;
// What goes to no session here counts less: it takes a fraction of the time that sealing takes, and
// the more of it becomes visible at once, the less often is the thread woken that it goes to.
constexpr size_t kPassedOnShare = 4;
constexpr Duration kTick = std::chrono::milliseconds(500);
// Due times of UDP channels closer together than this are dealt with in one go.
constexpr Duration kUdpGranularity = std::chrono::milliseconds(10);

net::PacketBatch batch_for(const net::TunDevice& tun) {
  constexpr auto kClose = net::PacketBatch::Slots::kClose;
  if (tun.has_vnet_header()) return {kSuperpacketBatch, kMaxSuperpacket, kBatchHeadroom, kClose};
  return {kPlainBatch, kMaxPacket, kBatchHeadroom, kClose};
}

}  // namespace

namespace {

// Packets that a channel delivers at once, at most.
constexpr size_t kMaxDelivery = 256;

}  // namespace

Tunnel::Tunnel(loop::Loop& loop, net::TunDevice tun, Router& router, TunnelObserver& observer)
    : loop_(loop),
      tun_(std::move(tun)),
      router_(router),
      observer_(observer),
      poll_(loop, tun_.fd()),
      timer_(loop),
      udp_timer_(loop),
      scratch_(kMaxQueuedPacket),
      outbound_(batch_for(tun_)),
      owners_(outbound_.capacity()),
      next_(outbound_.capacity()),
      merger_(kMaxDelivery, {.udp = tun_.offloads().udp}),
      settler_(loop, [this] { settle(); }) {
  admitted_.reserve(kMaxDelivery);
  admitted_sums_.reserve(kMaxDelivery);
  group_.reserve(outbound_.capacity());
}

Tunnel::~Tunnel() {
  poll_.stop();
}

Status Tunnel::start() {
  if (front_ != nullptr) {
    if (Status started = front_->start(); !started) return started;
  }
  timer_.start_repeating(kTick, [this] { tick(); });
  return poll_.start(
      [this](unsigned /*ready*/, int error) {
        if (error == 0) return on_tun_readable();
        log::error("tunnel", "the TUN device is gone", {{"device", tun_.name()}});
        observer_.on_tun_lost();
      },
      loop::kReadable);
}

Status Tunnel::serve_udp(net::UdpSocket socket,
                         std::shared_ptr<const tls::DtlsCookieKey> cookie_key, FrontPlace place) {
  auto front =
      DtlsFront::create(loop_, dtls_scratch(), std::move(socket), std::move(cookie_key), place);
  if (!front) return front.error();
  front_ = std::move(*front);
  return {};
}

DtlsScratch& Tunnel::dtls_scratch() {
  if (dtls_scratch_ == nullptr) dtls_scratch_ = std::make_unique<DtlsScratch>();
  return *dtls_scratch_;
}

// An unread TUN drops at its tail, blindly; so it is drained whatever the channels can take, and
// the sessions' queues decide what is lost.
void Tunnel::on_tun_readable() {
  size_t bytes = 0;
  for (bool more = true; more && bytes < kTurnBytes;) {
    outbound_.clear();
    const net::ReadOutcome outcome = tun_.read_batch(outbound_, kBatchBytes);
    more = outcome.packets != 0 && !outcome.drained;
    if (outcome.packets == 0) break;
    const size_t own = distribute();
    bytes += own + (outcome.bytes - own) / kPassedOnShare;
  }
  end_turn();
}

void Tunnel::end_turn() {
  router_.route_end();
  for (TunnelSession* const session : turn_) {
    session->in_turn_ = false;
    session->flush_stream();
  }
  turn_.clear();
}

// Adds the packets to their sessions' channels, session by session, so that those of one peer leave
// in one run. Returns the bytes of them.
size_t Tunnel::distribute() {
  const auto packets = outbound_.packets();
  const std::span<TunnelSession*> owners(owners_.data(), packets.size());
  std::fill(owners.begin(), owners.end(), nullptr);
  router_.route(packets, owners);
  group_.clear();
  size_t bytes = 0;
  for (size_t i = 0; i < packets.size(); ++i) {
    if (owners[i] == nullptr) continue;
    bytes += packets[i].size();
    chain(*owners[i], static_cast<uint16_t>(i));
  }
  for (TunnelSession* const owner : group_) {
    owner->in_batch_ = false;
    for (size_t i = owner->first_in_batch_;; i = next_[i]) {
      add_from_kernel(*owner, packets[i]);
      if (i == owner->last_in_batch_) break;
    }
    owner->flush_datagrams();
    join_turn(*owner);
  }
  return bytes;
}

void Tunnel::join_turn(TunnelSession& session) {
  if (!std::exchange(session.in_turn_, true)) turn_.push_back(&session);
}

void Tunnel::hand_in(TunnelSession& session, MutableBytes packet) {
  if (handed_to_ != &session) {
    end_hand_in();
    handed_to_ = &session;
    join_turn(session);
  }
  add_from_kernel(session, packet);
}

void Tunnel::end_hand_in() {
  if (TunnelSession* const session = std::exchange(handed_to_, nullptr)) session->flush_datagrams();
}

void Tunnel::chain(TunnelSession& owner, uint16_t index) {
  if (owner.in_batch_) {
    next_[owner.last_in_batch_] = index;
  } else {
    owner.in_batch_ = true;
    owner.first_in_batch_ = index;
    group_.push_back(&owner);
  }
  owner.last_in_batch_ = index;
}

// What the kernel hands over may be an ordinary packet, one without its checksum, or a superpacket.
void Tunnel::add_from_kernel(TunnelSession& owner, MutableBytes packet) {
  if (!tun_.has_vnet_header()) return owner.add(packet);
  auto header = net::decode_vnet(net::extend_front(packet, net::kVnetHeaderSize));
  if (!header || net::check_vnet(*header, packet, net::kKernelBounds) != net::VnetVerdict::kOk) {
    owner.counters_.drop(DropReason::kMalformed);
    return;
  }
  owner.add_superpacket(*header, packet);
}

void Tunnel::write_inside(net::PacketBatch& batch, TunnelSession& from) {
  admitted_.clear();
  admitted_sums_.clear();
  uint64_t bytes = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    const MutableBytes packet = batch[i];
    if (!from.admits(packet)) continue;
    const net::Sums sums = batch.sums()[i];
    if (sums == net::Sums::kLeft && !tun_.has_vnet_header() && !net::sum_transport(packet)) {
      from.counters_.drop(DropReason::kMalformed);
      continue;
    }
    admitted_.push_back(packet);
    admitted_sums_.push_back(sums);
    bytes += packet.size();
  }
  const net::WriteOutcome outcome =
      tun_.has_vnet_header() ? tun_.write_merged(merger_.merge(admitted_, admitted_sums_))
                             : tun_.write_batch(admitted_);
  // What the merger leaves out.
  from.counters_.drop(DropReason::kMalformed, admitted_.size() - outcome.written - outcome.dropped);
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
                      Bytes leftover, std::optional<UdpSpec> udp, wire::AttachMode mode) {
  using wire::AttachMode;
  TunnelSession& session = *sessions_.at(id);
  ChannelObserver& observer = session;  // a private base: only a friend may say so
  session.old_.reset();
  if (mode == AttachMode::kRekey) {
    session.retire_channel(loop_.now());
  } else {
    session.channel_.reset();
  }
  if (mode != AttachMode::kRoam) attach_udp(session, *tls, std::move(udp), mode);
  session.channel_ =
      std::make_unique<CstpChannel>(loop_, scratch_, std::move(socket), std::move(tls),
                                    session.spec_.cstp, observer, session.counters_);
  if (mode != AttachMode::kNone && session.dtls_ != nullptr) session.judge_path();  // of a new MTU
  if (mode != AttachMode::kRoam && session.dtls_ != nullptr) {
    if (session.dials_) {
      session.dial();
    } else {
      front_->catch_up(session.dtls_->app_id());
    }
  }
  const bool waits = session.waits_for_old();
  return session.channel_->start(leftover,
                                 waits ? CstpChannel::Begin::kHeld : CstpChannel::Begin::kAtOnce);
}

// A UDP channel with the key of the given connection, or new keys for the one that there is.
void Tunnel::attach_udp(TunnelSession& session, tls::TlsSession& tls, std::optional<UdpSpec> udp,
                        wire::AttachMode mode) {
  Secret key(tls::kDtlsPskSize);
  if (udp) {
    if (const Status exported = tls.export_key(tls::kDtlsPskLabel, key.bytes()); !exported) {
      log::warning("tunnel", "no UDP channel",
                   {{"session", session.id().value()}, {"why", exported.error().message()}});
      udp.reset();
    }
  }
  const bool stays = mode == wire::AttachMode::kRekey && session.dtls_ != nullptr && udp &&
                     session.dials_ == udp->dtls.server.has_value();
  if (!stays) session.start_udp(nullptr, {});
  if (!udp) return;
  DtlsOptions options = std::move(udp->dtls);
  udp->dtls.server = options.server;
  options.psk = std::move(key);
  if (stays) return session.renew_udp(std::move(options), *udp);
  DtlsObserver& observer = session;
  session.start_udp(std::make_unique<DtlsChannel>(loop_, dtls_scratch(), sys_,
                                                  options.server ? nullptr : front_.get(),
                                                  std::move(options), observer, session.counters_),
                    *udp);
}

void Tunnel::settle_soon(TunnelSession& session) {
  settling_.push_back(session.id());
  settler_.arm();
}

void Tunnel::settle() {
  const std::vector<SessionId> due = std::exchange(settling_, {});
  for (const SessionId id : due) {
    // One that was held itself when the next one came is old now, and waits for nobody.
    TunnelSession* session = find(id);
    if (session != nullptr && session->old_ != nullptr) session->old_->resume();
    session = find(id);
    if (session != nullptr) session->settle(loop_.now());
  }
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
    TunnelSession* session = find(id);
    if (session != nullptr && session->old_ != nullptr) {
      session->old_->tick();
      session = find(id);
      if (session != nullptr) session->settle(loop_.now());
      session = find(id);
    }
    if (session != nullptr && session->channel_ != nullptr) session->channel_->tick();
  }
}

// One timer for the UDP channels of all sessions: armed for the earliest that somebody is due.
void Tunnel::schedule_udp(TimePoint due) {
  if (due >= udp_timer_due_) return;
  udp_timer_due_ = due;
  udp_timer_.start(std::max(due - loop_.now(), Duration::zero()), [this] { tick_udp(); });
}

// A session is not removed by what happens here.
void Tunnel::tick_udp() {
  const TimePoint now = loop_.now();
  TimePoint next = TimePoint::max();
  udp_timer_due_ = TimePoint{};  // nobody arms it meanwhile
  for (const auto& [id, session] : sessions_) {
    if (session->dtls_ == nullptr) continue;
    if (session->udp_due() <= now) session->tick_udp(now);
    next = std::min(next, session->udp_due());
  }
  udp_timer_due_ = TimePoint::max();
  if (next != TimePoint::max()) schedule_udp(std::max(next, now + kUdpGranularity));
}

}  // namespace culvert::tunnel
