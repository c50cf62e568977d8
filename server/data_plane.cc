#include "server/data_plane.h"

#include <algorithm>
#include <unordered_map>

#include "common/base/log.h"
#include "common/net/ip_packet.h"
#include "common/tunnel/path_mtu.h"
#include "common/wire/cstp.h"
#include "server/route_table.h"

namespace culvert::server {
namespace {

using tunnel::ChannelEnd;
using tunnel::CstpChannel;
using tunnel::TunnelSession;

SessionStats stats_of(TunnelSession& session) {
  SessionStats stats;
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
    stats.queued_bytes = channel->queued_bytes();
  }
  return stats;
}

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

// What lives on the data thread. Built and destroyed by the owner while the thread is not running.
class DataPlane::Thread final : private tunnel::Router, private tunnel::TunnelObserver {
 public:
  Thread(net::TunDevice queue, std::optional<UdpService> udp,
         std::function<void(DataEvent)> to_control)
      : to_control_(std::move(to_control)),
        tunnel_(loop_, std::move(queue), *this, *this),
        udp_(std::move(udp)) {}

  loop::Loop& loop() { return loop_; }
  Status start();
  void run() { loop_.run(); }
  void attach(AttachRequest request);
  void end(SessionId id, EndKind kind, const std::string& reason);
  void forget(SessionId id);
  DataPlaneStats snapshot();

 private:
  void route(std::span<const MutableBytes> packets, std::span<TunnelSession*> sessions) override;
  void on_channel_end(TunnelSession& session, const ChannelEnd& end) override;
  void on_carrier_changed(TunnelSession& session) override {
    tell(session, DataEvent::Kind::kCarrier);
  }
  void on_path_mtu(TunnelSession& session, Mtu /*mtu*/) override {
    tell(session, DataEvent::Kind::kPathMtu);
  }
  void tell(TunnelSession& session, DataEvent::Kind kind);
  [[nodiscard]] std::optional<tunnel::UdpSpec> udp_spec(const AttachRequest& request) const;
  void on_tun_lost() override {
    DataEvent event{};
    event.kind = DataEvent::Kind::kTunLost;
    to_control_(std::move(event));
  }
  void announce(TunnelSession& session);
  void withdraw(SessionId id);

  loop::Loop loop_;
  std::function<void(DataEvent)> to_control_;
  RouteTable<TunnelSession*> routes_;
  std::unordered_map<SessionId, std::vector<Prefix>> announced_;  // what each has in routes_
  std::unordered_map<SessionId, uint64_t> attachments_;           // number of the newest connection
  tunnel::Tunnel tunnel_;
  std::optional<UdpService> udp_;  // its socket is the tunnel's after start()
};

Status DataPlane::Thread::start() {
  if (udp_) {
    auto served = tunnel_.serve_udp(std::move(udp_->socket), udp_->cookie_key);
    if (!served) return served;
  }
  return tunnel_.start();
}

void DataPlane::Thread::tell(TunnelSession& session, DataEvent::Kind kind) {
  to_control_({session.id(), attachments_[session.id()], kind, {}, stats_of(session)});
}

std::optional<tunnel::UdpSpec> DataPlane::Thread::udp_spec(const AttachRequest& request) const {
  if (!udp_ || !request.udp_app_id) return std::nullopt;
  tunnel::UdpSpec spec;
  spec.dtls.config = udp_->config;
  spec.dtls.app_id = *request.udp_app_id;
  spec.dtls.peer_echoes = request.features.any();
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

void DataPlane::Thread::route(std::span<const MutableBytes> packets,
                              std::span<TunnelSession*> sessions) {
  for (size_t i = 0; i < packets.size(); ++i) {
    const auto family = net::family_of(packets[i]);
    if (family) sessions[i] = routes_.find(net::destination_bytes(packets[i], *family));
  }
}

void DataPlane::Thread::attach(AttachRequest request) {
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
  announce(session);
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

void DataPlane::Thread::announce(TunnelSession& session) {
  for (const Prefix& inside : session.spec().sources) {
    if (routes_.insert(inside, &session)) {
      announced_[session.id()].push_back(inside);
    } else {
      log::warning("data", "two sessions claim the same network",
                   {{"session", session.id().value()}, {"network", inside.to_string()}});
    }
  }
}

void DataPlane::Thread::withdraw(SessionId id) {
  const auto announced = announced_.extract(id);
  if (announced.empty()) return;
  for (const Prefix& inside : announced.mapped())
    routes_.erase(inside);
}

void DataPlane::Thread::end(SessionId id, EndKind kind, const std::string& reason) {
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

void DataPlane::Thread::forget(SessionId id) {
  withdraw(id);
  attachments_.erase(id);
  tunnel_.remove(id);
}

void DataPlane::Thread::on_channel_end(TunnelSession& session, const ChannelEnd& end) {
  DataEvent event{session.id(), attachments_[session.id()], kind_of(end.kind), end.text,
                  stats_of(session)};
  if (event.kind != DataEvent::Kind::kChannelLost) forget(session.id());
  to_control_(std::move(event));
}

DataPlaneStats DataPlane::Thread::snapshot() {
  DataPlaneStats stats;
  tunnel_.for_each([&](TunnelSession& session) { stats.sessions.push_back(stats_of(session)); });
  stats.unrouted = tunnel_.unrouted().dropped(tunnel::DropReason::kNoSession);
  if (tunnel::DtlsFront* const front = tunnel_.front()) {
    const tunnel::UdpPort& port = front->port();
    stats.udp = {.gso = port.socket().gso(),
                 .gro = port.socket().gro(),
                 .traffic = port.stats(),
                 .strangers = front->stats()};
  }
  return stats;
}

// ---- the handle that the other threads hold -----------------------------------------------------

DataPlane::DataPlane(net::TunDevice queue, std::optional<UdpService> udp,
                     std::function<void(DataEvent)> to_control)
    : thread_state_(
          std::make_unique<Thread>(std::move(queue), std::move(udp), std::move(to_control))) {}

DataPlane::~DataPlane() = default;

Status DataPlane::start() {
  auto started = thread_state_->start();
  if (!started) return started;
  thread_ = std::thread([state = thread_state_.get()] { state->run(); });
  return {};
}

void DataPlane::stop_and_join() {
  if (!thread_.joinable()) return;
  thread_state_->loop().post([state = thread_state_.get()] { state->loop().stop(); });
  thread_.join();
}

void DataPlane::attach(AttachRequest request) {
  thread_state_->loop().post([state = thread_state_.get(), r = std::move(request)]() mutable {
    state->attach(std::move(r));
  });
}

void DataPlane::end(SessionId id, EndKind kind, std::string reason) {
  thread_state_->loop().post(
      [state = thread_state_.get(), id, kind, r = std::move(reason)] { state->end(id, kind, r); });
}

void DataPlane::forget(SessionId id) {
  thread_state_->loop().post([state = thread_state_.get(), id] { state->forget(id); });
}

void DataPlane::snapshot(std::function<void(DataPlaneStats)> done) {
  thread_state_->loop().post(
      [state = thread_state_.get(), d = std::move(done)] { d(state->snapshot()); });
}

}  // namespace culvert::server
