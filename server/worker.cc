#include "server/worker.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/net/ip_packet.h"
#include "common/net/vnet_header.h"
#include "common/tunnel/path_mtu.h"
#include "common/wire/cstp.h"

namespace culvert::server {
namespace {

using tunnel::ChannelEnd;
using tunnel::CstpChannel;
using tunnel::TunnelSession;

DataEvent::Kind kind_of(ChannelEnd::Kind kind) {
  switch (kind) {
    case ChannelEnd::Kind::kPeerEnded:
      return DataEvent::Kind::kPeerEnded;
    case ChannelEnd::Kind::kClosed:
      return DataEvent::Kind::kEnded;
    case ChannelEnd::Kind::kLost:
    case ChannelEnd::Kind::kDead:
    case ChannelEnd::Kind::kProtocol:
      return DataEvent::Kind::kChannelLost;
  }
  return DataEvent::Kind::kChannelLost;
}

}  // namespace

Worker::Worker(Place place, net::TunDevice queue, std::optional<Udp> udp,
               std::function<void(DataEvent)> to_control)
    : place_(place),
      wake_(loop_, place.handover != nullptr ? place.handover->wake_fd(place.number) : -1),
      to_control_(std::move(to_control)),
      tunnel_(loop_, std::move(queue), *this, *this),
      udp_(std::move(udp)),
      header_size_(tunnel_.tun().has_vnet_header() ? net::kVnetHeaderSize : 0) {}

Worker::~Worker() = default;

Status Worker::start() {
  if (udp_) {
    tunnel::FrontPlace place{place_.number, place_.count, nullptr};
    if (place_.handover != nullptr) place.neighbours = this;
    auto served = tunnel_.serve_udp(std::move(udp_->socket), udp_->cookie_key, place);
    if (!served) return served;
  }
  if (place_.handover != nullptr) {
    const auto take = [this](unsigned /*ready*/, int /*error*/) {
      place_.handover->take(place_.number, *this);
      tunnel_.end_turn();
    };
    if (Status started = wake_.start(take, loop::kReadable); !started) return started;
  }
  return tunnel_.start();
}

// ---- sessions -----------------------------------------------------------------------------------

SessionStats Worker::stats_of(TunnelSession& session) const {
  SessionStats stats;
  stats.worker = place_.number;
  stats.id = session.id();
  stats.counters = session.counters();
  stats.path_mtu = session.path_mtu();
  if (const tunnel::Channel* carrier = session.carrier()) stats.channel = carrier->name();
  if (session.choice()) stats.channel_reason = name_of(session.choice()->reason());
  if (session.dtls() != nullptr && session.dtls()->up()) {
    stats.dtls_cipher = session.dtls()->dtls().cipher();
  }
  if (const CstpChannel* channel = session.channel()) {
    stats.tls_version = channel->tls().version();
    stats.cipher = channel->tls().cipher();
    stats.tls_use = tunnel::use_of(channel->tls(), {});
    stats.queued_bytes = channel->queued_bytes();
  }
  return stats;
}

std::optional<tunnel::UdpSpec> Worker::udp_spec(const AttachRequest& request) const {
  if (!udp_ || !request.udp_app_id) return std::nullopt;
  tunnel::UdpSpec spec;
  spec.dtls.config = udp_->config;
  spec.dtls.app_id = *request.udp_app_id;
  spec.dtls.peer_echoes = request.features.any();
  spec.dtls.unsummed = request.features.unsummed;
  const auto [floor, ceiling] = tunnel::udp_payload_bounds(request.base_mtu, request.outer);
  spec.dtls.floor = floor;
  spec.dtls.ceiling = ceiling;
  spec.choice.dpd = request.dpd;
  spec.choice.dead_after = 3 * Duration(request.dpd);
  // The client speaks first: what it says after the handshake has found its way.
  spec.choice.prove_by = tunnel::CarrierChoice::ProveBy::kAnyRecord;
  spec.inner_ipv6 = std::any_of(request.inside.begin(), request.inside.end(),
                                [](const Prefix& inside) { return inside.address.is_v6(); });
  return spec;
}

void Worker::attach(AttachRequest request) {
  tunnel::SessionSpec spec;
  spec.id = request.id;
  spec.sources = std::move(request.inside);
  spec.cstp.liveness.dpd = request.dpd;
  // A phone that sleeps answers late; the peer's own check is the strict one.
  spec.cstp.liveness.dead_after = 3 * Duration(request.dpd);
  spec.cstp.liveness.keepalive = request.keepalive;
  spec.mtu = request.mtu;
  spec.cstp.agree(request.features, request.mtu);
  withdraw(spec.id);
  attachments_[spec.id] = request.attachment;
  TunnelSession& session = tunnel_.open(std::move(spec));
  announce(session.spec().sources, {session.id(), place_.number, &session});
  auto udp = udp_spec(request);
  const auto attached =
      tunnel_.attach(session.id(), std::move(request.socket), std::move(request.tls),
                     request.leftover, std::move(udp), request.mode);
  if (!attached) on_channel_end(session, {ChannelEnd::Kind::kLost, attached.error().message(), {}});
  // Control only guesses which channel a session has kept. It may be gone by now.
  TunnelSession* const kept = tunnel_.find(request.id);
  if (request.mode == wire::AttachMode::kRoam && kept != nullptr) {
    tell(*kept, DataEvent::Kind::kCarrier);
  }
}

void Worker::announce(const std::vector<Prefix>& inside, const Target& target) {
  for (const Prefix& prefix : inside) {
    if (routes_.insert(prefix, target)) {
      announced_[target.id].push_back(prefix);
    } else if (target.session != nullptr) {
      log::warning("data", "two sessions claim the same network",
                   {{"session", target.id.value()}, {"network", prefix.to_string()}});
    }
  }
}

void Worker::publish(Presence presence) {
  withdraw(presence.id);
  announce(presence.inside, {presence.id, presence.worker, nullptr});
  tunnel::DtlsFront* const front = tunnel_.front();
  if (front == nullptr || !presence.app_id) return;
  elsewhere_[presence.id] = *presence.app_id;
  front->expect_elsewhere(*presence.app_id, presence.worker);
  front->catch_up(*presence.app_id);
}

void Worker::withdraw(SessionId id) {
  if (const auto announced = announced_.extract(id)) {
    for (const Prefix& inside : announced.mapped())
      routes_.erase(inside);
  }
  if (const auto elsewhere = elsewhere_.extract(id)) {
    tunnel_.front()->forget_elsewhere(elsewhere.mapped());
  }
}

void Worker::end(SessionId id, EndKind kind, const std::string& reason) {
  TunnelSession* const session = tunnel_.find(id);
  if (session == nullptr || session->channel() == nullptr) {
    DataEvent event{id, 0, DataEvent::Kind::kEnded, reason, {}};
    event.stats.id = id;
    if (session != nullptr) event.stats = stats_of(*session);
    forget(id);
    to_control_(std::move(event));
    return;
  }
  switch (kind) {
    case EndKind::kKick:
      session->disconnect(wire::kReasonUser, reason);
      break;
    case EndKind::kClose:
      session->close(reason);
      break;
  }
}

void Worker::forget(SessionId id) {
  withdraw(id);
  attachments_.erase(id);
  tunnel_.remove(id);
}

// ---- events -------------------------------------------------------------------------------------

void Worker::tell(TunnelSession& session, DataEvent::Kind kind) {
  to_control_({session.id(), attachments_[session.id()], kind, {}, stats_of(session)});
}

void Worker::on_carrier_changed(TunnelSession& session) {
  tell(session, DataEvent::Kind::kCarrier);
}

void Worker::on_path_mtu(TunnelSession& session, Mtu /*mtu*/) {
  tell(session, DataEvent::Kind::kPathMtu);
}

void Worker::on_tun_lost() {
  DataEvent event{};
  event.kind = DataEvent::Kind::kTunLost;
  to_control_(std::move(event));
}

void Worker::on_channel_end(TunnelSession& session, const ChannelEnd& end) {
  DataEvent event{session.id(), attachments_[session.id()], kind_of(end.kind), end.text,
                  stats_of(session)};
  if (event.kind != DataEvent::Kind::kChannelLost) forget(session.id());
  to_control_(std::move(event));
}

void Worker::add_to(DataPlaneStats& stats) {
  DataPlaneStats::Worker own;
  tunnel_.for_each([&](TunnelSession& session) {
    stats.sessions.push_back(stats_of(session));
    ++own.sessions;
  });
  own.packets_handed_over = packets_handed_over_;
  own.handover_drops = handover_drops_;
  stats.unrouted += unrouted_;
  if (tunnel::DtlsFront* const front = tunnel_.front()) {
    const tunnel::UdpPort& port = front->port();
    own.trains_handed_over = front->stats().handed_over;
    if (!stats.udp) stats.udp = DataPlaneStats::Udp{};
    stats.udp->gso = stats.udp->gso && port.socket().gso();
    stats.udp->gro = stats.udp->gro && port.socket().gro();
    stats.udp->traffic += port.stats();
    stats.udp->strangers += front->stats();
  }
  stats.workers.push_back(own);
}

// ---- whose packet is it? ------------------------------------------------------------------------

void Worker::route(std::span<const MutableBytes> packets, std::span<TunnelSession*> sessions) {
  for (size_t i = 0; i < packets.size(); ++i) {
    const auto family = net::family_of(packets[i]);
    const Target target =
        family ? routes_.find(net::destination_bytes(packets[i], *family)) : Target{};
    if (target.session != nullptr) {
      sessions[i] = target.session;
    } else if (target == Target{}) {
      ++unrouted_;
    } else {
      pass_on(target, packets[i]);
    }
  }
}

void Worker::route_end() {
  if (std::exchange(passed_on_, false)) place_.handover->publish(place_.number);
}

void Worker::pass_on(const Target& target, MutableBytes packet) {
  const MutableBytes header = net::extend_front(packet, header_size_).first(header_size_);
  if (place_.handover->push_packet(place_.number, target.worker, target.id, header, packet)) {
    ++packets_handed_over_;
    passed_on_ = true;
  } else {
    ++handover_drops_;
  }
}

void Worker::on_packet(SessionId id, MutableBytes /*header*/, MutableBytes packet) {
  if (TunnelSession* const session = tunnel_.find(id)) {
    tunnel_.hand_in(*session, packet);
  } else {
    ++unrouted_;  // gone meanwhile
  }
}

void Worker::hand_over(size_t front, const net::UdpPath& path, Bytes datagrams,
                       size_t segment_size) {
  if (!place_.handover->push_train(place_.number, front, path, datagrams, segment_size)) {
    ++handover_drops_;
  }
}

void Worker::hand_over_end() {
  place_.handover->publish(place_.number);
}

void Worker::on_train(const net::UdpTrain& train) {
  if (tunnel_.front() == nullptr) return;
  tunnel_.front()->take_over(train);
  took_train_ = true;
}

void Worker::on_batch_end() {
  tunnel_.end_hand_in();
  if (std::exchange(took_train_, false)) tunnel_.front()->taken_over();
}

}  // namespace culvert::server
