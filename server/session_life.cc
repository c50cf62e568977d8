// SessionManager, second part: a session from the hand-over of its connection to its end.
#include <utility>

#include "common/base/log.h"
#include "common/tunnel/key_life.h"
#include "server/grant.h"
#include "server/session_manager.h"

namespace culvert::server {
namespace {

// How exactly a later run knows since when a session has had no server.
constexpr Duration kAliveEvery = std::chrono::seconds(10);

void add(tunnel::Counters& sum, const tunnel::Counters& more) {
  sum.rx_packets += more.rx_packets;
  sum.rx_bytes += more.rx_bytes;
  sum.tx_packets += more.tx_packets;
  sum.tx_bytes += more.tx_bytes;
  for (size_t i = 0; i < sum.drops.size(); ++i)
    sum.drops[i] += more.drops[i];
}

std::string addresses_of(const Session& session) {
  std::string text;
  for (const Prefix& inside : session.inside()) {
    if (!text.empty()) text += ' ';
    text +=
        inside.length == inside.address.bits() ? inside.address.to_string() : inside.to_string();
  }
  return text;
}

std::string_view how(wire::AttachMode mode) {
  return mode == wire::AttachMode::kNone ? "anew" : wire::name_of(mode);
}

void log_failure(const std::vector<net::SystemAnswer>& answers) {
  const Status status = net::first_error(answers);
  if (!status) {
    log::warning("session", "routes could not be changed", {{"error", status.error().message()}});
  }
}

}  // namespace

// A gentle one changes nothing of what is seen from outside, unless there was nothing.
void SessionManager::note_attached(Session& session) {
  session.former.reset();
  session.worn = false;
  const WallTime now = wall_now();
  const bool gentle = session.attach_mode != wire::AttachMode::kNone;
  if (session.attach_mode == wire::AttachMode::kRekey) ++session.rekeys;
  if (session.attach_mode == wire::AttachMode::kRoam) ++session.roams;
  if (!gentle || !session.dtls) {
    session.channel_reason.clear();
    session.dtls_cipher.clear();
  }
  if (!gentle || !session.connected_at) session.connected_at = now;
  // A client roams while its UDP channel carries packets.
  const bool over_dtls = session.attach_mode == wire::AttachMode::kRoam ||
                         (gentle && session.dtls && session.channel == "dtls");
  const std::string channel = over_dtls ? "dtls" : "tls";
  if (gentle && session.channel == channel) return;
  session.channel = channel;
  session.channel_since = now;
}

void SessionManager::attach(Connected connected) {
  Session* const session = table_.find(connected.attachment.id);
  if (session == nullptr || session->state != SessionState::kAttached ||
      session->attachment != connected.attachment.number) {
    return;  // ended or replaced while the answer was on its way: the connection is dropped
  }
  session->on_data_plane = true;
  note_attached(*session);
  log::info("session", "tunnel up",
            {{"session", session->id.value()},
             {"user", session->user},
             {"remote", session->remote.to_string()},
             {"inside", addresses_of(*session)},
             {"mtu", session->mtu.value_or(Mtu{}).value()},
             {"tls", session->tls_version},
             {"cipher", session->cipher},
             {"features", wire::write_features(session->features)},
             {"attach", how(session->attach_mode)}});
  AttachRequest request;
  request.id = session->id;
  request.attachment = session->attachment;
  request.socket = std::move(connected.socket);
  request.tls = std::move(connected.tls);
  request.leftover = std::move(connected.leftover);
  request.inside = session->inside();
  request.dpd = rules_.session.dpd;
  request.keepalive = rules_.session.keepalive;
  request.mtu = *session->mtu;
  if (session->dtls) request.udp_app_id = session->dtls->app_id;
  request.base_mtu = session->base_mtu;
  request.outer = session->remote.address.family();
  request.features = session->features;
  request.mode = session->attach_mode;
  env_.carrier.attach(std::move(request));
}

void SessionManager::detach(Session& session) {
  table_.detach(session, env_.now());
  save(session);
}

void SessionManager::abandon(Attachment attachment) {
  Session* const session = table_.find(attachment.id);
  if (session == nullptr || session->state != SessionState::kAttached ||
      session->attachment != attachment.number) {
    return;
  }
  log::info("session", "the client left before its tunnel was up",
            {{"session", session->id.value()}, {"user", session->user}});
  if (session->former) return return_to_former(*session);
  detach(*session);
  forget_channel(*session);  // one from before can still be there, but the client has given it up
}

// What was gently to be taken over goes on as if nobody had asked; the certificate that was shown
// counts, as the newest one.
void SessionManager::return_to_former(Session& session) {
  const Session::Former former = *std::exchange(session.former, std::nullopt);
  const ConnectionFacts& facts = former.facts;
  session.attach_mode = wire::AttachMode::kNone;
  session.attachment = facts.attachment;
  session.remote = facts.remote;
  session.tls_version = facts.tls_version;
  session.cipher = facts.cipher;
  session.mtu = facts.mtu;
  session.dtls = facts.dtls;
  session.base_mtu = facts.base_mtu;
  session.features = facts.features;
  if (session.mtu) {
    set_routes(session, std::min(*session.mtu, session.path_mtu.value_or(*session.mtu)),
               log_failure);
  }
  if (!former.lives) detach(session);  // but its UDP channel may carry packets
}

void SessionManager::update_stats(Session& session, const SessionStats& stats) {
  tunnel::Counters now = session.carried;
  add(now, stats.counters);
  // The data thread says zeros of a session that it has forgotten already.
  if (now.rx_packets < session.counters.rx_packets) return;
  session.counters = now;
  session.worker = stats.worker;
  session.channel_reason = stats.channel_reason;
  session.dtls_cipher = stats.dtls_cipher;
  if (now.rx_packets + now.tx_packets != session.active_packets) {
    session.active_packets = now.rx_packets + now.tx_packets;
    session.active_at = env_.now();
  }
}

void SessionManager::on_data_event(DataEvent event) {
  Session* const session = table_.find(event.id);
  if (session == nullptr) return;
  update_stats(*session, event.stats);
  const bool former = session->former && event.attachment == session->former->facts.attachment;
  const bool newest = event.attachment == session->attachment || former;
  if (session->state == SessionState::kEnding) {
    if (!newest && event.kind != DataEvent::Kind::kEnded) return;
    forget_channel(*session);  // a lost channel leaves its session behind
    finalize(*session);
    return;
  }
  if (!newest || session->state != SessionState::kAttached || !session->on_data_plane) {
    return;  // of a connection that was replaced or given up
  }
  switch (event.kind) {
    case DataEvent::Kind::kPeerEnded:
      note_forgotten(*session);
      end_session(*session, event.reason.empty() ? "the client disconnected"
                                                 : "the client disconnected: " + event.reason);
      break;
    case DataEvent::Kind::kEnded:
    case DataEvent::Kind::kChannelLost:
      if (former) {
        session->former->lives = false;  // the connection that replaces it is on its way
        break;
      }
      // What is lost alone is kept for the next connection.
      if (event.kind == DataEvent::Kind::kEnded) note_forgotten(*session);
      log::info("session", "connection lost",
                {{"session", session->id.value()},
                 {"user", session->user},
                 {"reason", event.reason},
                 {"kept_s", rules_.session.cookie_timeout.count()}});
      detach(*session);
      break;
    case DataEvent::Kind::kCarrier:
      note_carrier(*session, event.stats);
      break;
    case DataEvent::Kind::kPathMtu:
      follow_path(*session, event.stats.path_mtu);
      break;
    case DataEvent::Kind::kTunLost:
      break;  // of no session: the daemon's business
  }
}

void SessionManager::note_carrier(Session& session, const SessionStats& stats) {
  if (stats.channel.empty() || session.channel == stats.channel) return;
  session.channel = stats.channel;
  session.channel_since = wall_now();
  log::info("session", "packets take another channel",
            {{"session", session.id.value()},
             {"user", session.user},
             {"channel", stats.channel},
             {"why", stats.channel_reason},
             {"cipher", stats.channel == "dtls" ? stats.dtls_cipher : session.cipher}});
}

// The kernel tells senders behind us what the path takes, so the routes have to say it.
void SessionManager::follow_path(Session& session, Mtu mtu) {
  if (session.path_mtu.value_or(session.mtu.value_or(mtu)) == mtu) return;
  session.path_mtu = mtu;
  log::info("session", "the path takes packets of another size",
            {{"session", session.id.value()}, {"user", session.user}, {"mtu", mtu.value()}});
  set_routes(session, mtu, log_failure);
}

void SessionManager::on_stats(const DataPlaneStats& stats) {
  udp_ = stats.udp;
  unrouted_ = stats.unrouted;
  workers_ = stats.workers;
  const Duration limit = rules_.session.idle_timeout;
  for (const SessionStats& one : stats.sessions) {
    Session* const session = table_.find(one.id);
    if (session == nullptr) continue;
    update_stats(*session, one);
    const bool idle = limit != Duration::zero() && env_.now() - session->active_at >= limit;
    if (session->state != SessionState::kAttached) continue;
    if (idle)
      end_session(*session, "idle for too long");
    else
      wear(*session, one);
  }
}

// A stock client is told to come with new keys by a clean close: it knows no other way that loses
// so little, and its library may not know that these are worn. Ours see to it themselves.
void SessionManager::wear(Session& session, const SessionStats& stats) {
  if (session.features.rekey || session.worn || !session.has_connection()) return;
  tunnel::KeyLimits limits{.age = Duration::max()};  // that is said by Rekey-Time
  if (stats.tls_version == "TLSv1.3") limits.records = rules_.session.rekey_records;
  if (!tunnel::worn(stats.tls_use, limits)) return;
  session.worn = true;
  log::info("session", "the keys are worn: the client is to come with new ones",
            {{"session", session.id.value()},
             {"user", session.user},
             {"records", stats.tls_use.records},
             {"blocks", stats.tls_use.blocks}});
  env_.carrier.end(session.id, EndKind::kClose, "the keys are worn");
}

void SessionManager::tick() {
  if (table_.size() != 0 && env_.now() >= alive_noted_ + kAliveEvery) {
    alive_noted_ = env_.now();
    store_->note_alive(wall_now());
  }
  if (const auto limit = rules_.session.max_lifetime; limit != Duration::zero()) {
    for (const SessionId id : table_.ids()) {
      Session& session = *table_.find(id);
      if (env_.now() >= session.opened_at + limit) {
        end_session(session, "the session has lasted as long as it may");
      }
    }
  }
  for (const SessionId id : table_.expired(env_.now())) {
    Session& session = *table_.find(id);
    end_session(session, session.state == SessionState::kLoggedIn
                             ? "the login was not used in time"
                             : "the client did not come back in time");
  }
}

bool SessionManager::end(SessionId id, std::string reason) {
  Session* const session = table_.find(id);
  if (session == nullptr || session->state == SessionState::kEnding) return false;
  end_session(*session, std::move(reason));
  return true;
}

// The session may be gone when this returns.
void SessionManager::end_session(Session& session, std::string reason) {
  if (session.state == SessionState::kEnding) return;
  const bool has_connection = session.state == SessionState::kAttached && session.on_data_plane;
  table_.begin_end(session, reason);
  store_->remove(session.id);
  if (has_connection) {
    env_.carrier.end(session.id, EndKind::kKick, std::move(reason));  // an event follows
    return;
  }
  forget_channel(session);
  finalize(session);
}

// Messages to the data thread keep their order: whoever gets the addresses next comes later.
void SessionManager::forget_channel(Session& session) {
  if (!session.on_data_plane) return;
  note_forgotten(session);
  env_.carrier.forget(session.id);
}

void SessionManager::note_forgotten(Session& session) {
  session.on_data_plane = false;
  session.carried = session.counters;
}

void SessionManager::finalize(Session& session) {
  log::info("session", "session ended",
            {{"session", session.id.value()},
             {"user", session.user},
             {"reason", session.end_reason},
             {"rx_bytes", session.counters.rx_bytes},
             {"tx_bytes", session.counters.tx_bytes}});
  add(ended_traffic_, session.counters);
  release(session);
  table_.erase(session.id);
}

void SessionManager::release(Session& session) {
  // One by one: a batch ends at its first failure, and the next holder of an address needs it free.
  for (auto route = session.routes.rbegin(); route != session.routes.rend(); ++route) {
    env_.system.submit({net::DelRoute{*route}}, log_failure);
  }
  for (const auto& [address, pool] :
       {std::pair{session.ipv4, &ipv4_}, std::pair{session.ipv6, &ipv6_}}) {
    if (!address) continue;
    (*pool)->release(*address, session.user);
    store_->note_lease({*address, session.user});
  }
}

tunnel::Counters SessionManager::traffic() const {
  tunnel::Counters sum = ended_traffic_;
  table_.for_each([&](const Session& session) { add(sum, session.counters); });
  return sum;
}

}  // namespace culvert::server
