#include "server/session_manager.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/base/text.h"
#include "common/tls/peer_policy.h"
#include "common/tls/random.h"
#include "common/tunnel/path_mtu.h"

namespace culvert::server {
namespace {

// A login without a CONNECT costs a table entry. Stock clients make one each, so a few per user are
// ordinary; more are somebody's loop.
constexpr size_t kMaxUnusedLogins = 8;

// Keys are replaced once a day (by the client, at our bidding): AES-GCM has limits.
constexpr std::chrono::hours kRekeyTime{24};

std::string new_cookie() {
  std::array<std::byte, 32> random{};
  tls::random_bytes(random);
  return to_hex(random);
}

tls::Sha256 hash_of(std::string_view cookie) {
  return tls::sha256(as_bytes(cookie));
}

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

// What the routes and the client are told. The kernel's idea of the path counts, up to Ethernet's:
// loopback devices have 64 KB, which says nothing about what comes behind.
tunnel::MtuPlan plan_for(const ConnectRequest& request, bool inner_ipv6) {
  tunnel::MtuInput input;
  if (request.path_mtu != 0) input.link_mtu = std::min(request.path_mtu, tunnel::kDefaultLinkMtu);
  input.peer_base_mtu = request.offer.base_mtu;
  input.peer_mtu = request.offer.mtu;
  input.outer = request.peer.remote.address.family();
  input.inner_ipv6 = inner_ipv6;
  return tunnel::plan_mtu(input);
}

void log_failure(const std::vector<net::SystemAnswer>& answers) {
  const Status status = net::first_error(answers);
  if (!status) {
    log::warning("session", "routes could not be removed", {{"error", status.error().message()}});
  }
}

Refusal ended_meanwhile() {
  return {.reason = "session_ended", .text = "the session was ended meanwhile: log in again"};
}

}  // namespace

// ---- start and reload ---------------------------------------------------------------------------

Result<std::unique_ptr<SessionManager>> SessionManager::create(Environment environment,
                                                               Rules rules) {
  std::unique_ptr<SessionManager> manager(
      new SessionManager(std::move(environment), std::move(rules)));
  const NetworkSettings& network = manager->rules_.network;
  for (const auto& [prefix, pool] :
       {std::pair{&network.ipv4, &manager->ipv4_}, std::pair{&network.ipv6, &manager->ipv6_}}) {
    if (!prefix->has_value()) continue;
    auto made = AddressPool::create(**prefix);
    if (!made) return made.error();
    *pool = std::move(*made);
  }
  manager->reserve_fixed_addresses();
  return manager;
}

SessionManager::SessionManager(Environment environment, Rules rules)
    : env_(std::move(environment)),
      rules_(std::move(rules)),
      table_(rules_.session.cookie_timeout) {}

void SessionManager::reserve_fixed_addresses() {
  std::unordered_set<IpAddress> fixed;
  for (const auto& [name, user] : rules_.users) {
    if (user.ipv4) fixed.insert(*user.ipv4);
    if (user.ipv6) fixed.insert(*user.ipv6);
  }
  if (ipv4_) ipv4_->reserve(fixed);
  if (ipv6_) ipv6_->reserve(fixed);
}

std::vector<SessionId> SessionManager::apply(Rules rules, const tls::TlsConfig& tls) {
  rules.network.ipv4 = rules_.network.ipv4;
  rules.network.ipv6 = rules_.network.ipv6;
  rules_ = std::move(rules);
  table_.set_cookie_timeout(rules_.session.cookie_timeout);
  reserve_fixed_addresses();

  std::vector<SessionId> ended;
  for (const SessionId id : table_.ids()) {
    Session& session = *table_.find(id);
    if (session.state == SessionState::kEnding) continue;
    const tls::Verdict verdict = tls::recheck(session.chain, tls);
    const auto identity = identify(session.certificate, rules_.users, rules_.unknown_users);
    if (verdict.accepted() && identity.grant) {
      session.group = identity.grant->group;
      continue;
    }
    ended.push_back(id);
    end_session(session, verdict.accepted() ? identity.refusal.text : verdict.text);
  }
  return ended;
}

// ---- login --------------------------------------------------------------------------------------

void SessionManager::refused(std::string_view what, const Refusal& refusal, std::string_view user,
                             const Endpoint& remote) {
  count_refusal(refusal.reason);
  log::warning("login", what,
               {{"user", user},
                {"remote", remote.to_string()},
                {"reason", refusal.reason},
                {"text", refusal.text}});
}

std::optional<Refusal> SessionManager::refuse_login(const User& user) const {
  if (table_.of_user(user.name, SessionState::kAttached).size() < rules_.session.max_per_user) {
    return std::nullopt;
  }
  return Refusal{.reason = "too_many_sessions",
                 .text = "the user " + user.name + " has " +
                         std::to_string(rules_.session.max_per_user) +
                         " connections already, which is the limit",
                 .final = false};
}

void SessionManager::forget_unused_logins(const std::string& user) {
  const auto unused = table_.of_user(user, SessionState::kLoggedIn);
  for (size_t i = 0; i + kMaxUnusedLogins <= unused.size(); ++i) {
    end_session(*table_.find(unused[i]), "displaced by newer logins");
  }
}

Answer<LoginGrant> SessionManager::login(ProvenPeer peer, std::string user_agent) {
  auto identity = identify(peer.certificate, rules_.users, rules_.unknown_users);
  if (identity.grant) {
    if (auto limit = refuse_login(*identity.grant)) {
      identity = Answer<User>::no(std::move(*limit));
    }
  }
  if (!identity.grant) {
    refused("login refused", identity.refusal, peer.certificate.common_name, peer.remote);
    return Answer<LoginGrant>::no(std::move(identity.refusal));
  }
  const User& user = *identity.grant;
  forget_unused_logins(user.name);

  std::string cookie = new_cookie();
  Session session;
  session.user = user.name;
  session.group = user.group;
  session.cookie_hash = hash_of(cookie);
  session.key_hash = peer.certificate.spki_sha256;
  session.certificate = std::move(peer.certificate);
  session.chain = std::move(peer.chain);
  session.remote = peer.remote;
  session.user_agent = std::move(user_agent);
  session.logged_in_at = wall_now();
  const Session& opened = table_.open(std::move(session), env_.now());
  ++logins_.accepted;
  log::info("login", "logged in",
            {{"session", opened.id.value()},
             {"user", opened.user},
             {"group", opened.group},
             {"remote", opened.remote.to_string()},
             {"certificate", opened.certificate.serial_hex},
             {"user_agent", opened.user_agent}});
  return Answer<LoginGrant>::yes({.id = opened.id, .cookie = std::move(cookie)});
}

// ---- connect ------------------------------------------------------------------------------------

Answer<Session*> SessionManager::find_session(const ConnectRequest& request) {
  Session* const session = table_.find_by_cookie(hash_of(request.offer.cookie));
  if (session == nullptr) {
    return Answer<Session*>::no(
        {.reason = "unknown_cookie", .text = "the session is over: log in again"});
  }
  const tls::CertificateInfo& certificate = request.peer.certificate;
  if (certificate.spki_sha256 != session->key_hash || certificate.common_name != session->user) {
    return Answer<Session*>::no(
        {.reason = "foreign_cookie", .text = "the cookie was given to another certificate"});
  }
  return Answer<Session*>::yes(session);
}

// A session without connection makes room for one with.
std::optional<Refusal> SessionManager::make_room(Session& session) {
  if (session.state != SessionState::kLoggedIn) return std::nullopt;
  const size_t attached = table_.of_user(session.user, SessionState::kAttached).size();
  const auto detached = table_.of_user(session.user, SessionState::kDetached);
  if (attached >= rules_.session.max_per_user) {
    User user;
    user.name = session.user;
    return refuse_login(user);
  }
  for (size_t i = 0; attached + detached.size() - i >= rules_.session.max_per_user; ++i) {
    end_session(*table_.find(detached[i]), "displaced by a newer session");
  }
  return std::nullopt;
}

std::optional<IpAddress> SessionManager::take_address(Session& session, Family family,
                                                      const std::optional<IpAddress>& fixed) {
  AddressPool& pool = *(family == Family::kV4 ? ipv4_ : ipv6_);
  if (!fixed) return pool.take(session.user);
  if (pool.take_fixed(*fixed)) return fixed;
  // His other device has it. If that one is away, the address moves here.
  for (const SessionId id : table_.of_user(session.user, SessionState::kDetached)) {
    Session& other = *table_.find(id);
    if (other.ipv4 != fixed && other.ipv6 != fixed) continue;
    end_session(other, "its address is needed by a newer session");
    if (pool.take_fixed(*fixed)) return fixed;
  }
  return pool.take(session.user);
}

std::optional<Refusal> SessionManager::assign_addresses(Session& session, const User& user,
                                                        const wire::ConnectOffer& offer) {
  if (ipv4_ && offer.want_ipv4 && !session.ipv4) {
    session.ipv4 = take_address(session, Family::kV4, user.ipv4);
  }
  if (ipv6_ && offer.want_ipv6 && offer.full_ipv6 && !session.ipv6) {
    session.ipv6 = take_address(session, Family::kV6, user.ipv6);
  }
  if (session.ipv4 || session.ipv6) return std::nullopt;
  return Refusal{.reason = "no_address",
                 .text = "there is no free address of a kind that the client takes",
                 .final = false};
}

// A network can be behind one session only: the user's first.
void SessionManager::assign_networks(Session& session, const User& user) {
  if (!session.networks.empty()) return;
  bool taken = false;
  table_.for_each([&](const Session& other) {
    taken = taken || (other.user == session.user && !other.networks.empty());
  });
  if (!taken) session.networks = user.networks;
}

wire::TunnelParams SessionManager::params_for(const Session& session,
                                              const ConnectRequest& request) const {
  wire::TunnelParams params;
  if (session.ipv4) params.ipv4 = Prefix{*session.ipv4, rules_.network.ipv4->length};
  if (session.ipv6) params.ipv6 = Prefix{*session.ipv6, rules_.network.ipv6->length};
  const tunnel::MtuPlan plan = plan_for(request, session.ipv6.has_value());
  params.mtu = plan.tunnel_mtu;
  params.base_mtu = plan.base_mtu;
  params.dns = rules_.network.dns;
  params.split_include = rules_.network.routes;
  params.dpd = rules_.session.dpd;
  params.keepalive = rules_.session.keepalive;
  params.rekey_time = kRekeyTime;
  params.rekey_method = wire::RekeyMethod::kNewTunnel;
  if (rules_.session.idle_timeout.count() != 0) params.idle_timeout = rules_.session.idle_timeout;
  params.hostname = request.offer.hostname;
  return params;
}

// From the routes that the session has to those that it shall have: what differs.
std::vector<net::SystemRequest> SessionManager::change_routes(Session& session, Mtu mtu) {
  std::vector<net::Route> wanted;
  for (const Prefix& inside : session.inside()) {
    net::Route route;
    route.destination = inside;
    route.device = env_.device;
    route.mtu = mtu.value();
    wanted.push_back(std::move(route));
  }
  const auto in = [](const std::vector<net::Route>& routes, const net::Route& route) {
    return std::find(routes.begin(), routes.end(), route) != routes.end();
  };
  std::vector<net::SystemRequest> requests;
  for (const net::Route& route : session.routes) {
    if (!in(wanted, route)) requests.emplace_back(net::DelRoute{route});
  }
  for (const net::Route& route : wanted) {
    if (!in(session.routes, route)) requests.emplace_back(net::AddRoute{route});
  }
  session.routes = std::move(wanted);
  session.mtu = mtu;
  return requests;
}

void SessionManager::connect(ConnectRequest request, ConnectDone done) {
  auto found = find_session(request);
  auto identity = identify(request.peer.certificate, rules_.users, rules_.unknown_users);
  std::optional<Refusal> refusal;
  if (!found.grant) {
    refusal = std::move(found.refusal);
  } else if (!identity.grant) {
    refusal = std::move(identity.refusal);
  } else {
    refusal = make_room(**found.grant);
    if (!refusal) refusal = assign_addresses(**found.grant, *identity.grant, request.offer);
  }
  wire::TunnelParams params;
  if (!refusal) {
    assign_networks(**found.grant, *identity.grant);
    params = params_for(**found.grant, request);
    if (!wire::grants_address(params, request.offer)) {
      refusal = Refusal{.reason = "no_address",
                        .text = "the session has no address of a kind that the client takes",
                        .final = false};
    }
  }
  if (refusal) {
    refused("connection refused", *refusal, request.peer.certificate.common_name,
            request.peer.remote);
    done(Answer<ConnectGrant>::no(std::move(*refusal)));
    return;
  }

  Session& session = **found.grant;
  session.certificate = std::move(request.peer.certificate);
  session.chain = std::move(request.peer.chain);
  session.remote = request.peer.remote;
  session.user_agent = std::move(request.offer.user_agent);
  session.tls_version = std::move(request.tls_version);
  session.cipher = std::move(request.cipher);
  ConnectGrant grant;
  grant.attachment = {session.id, table_.attach(session, env_.now())};
  grant.params = std::move(params);
  // Also when there is nothing to change: an earlier CONNECT of this session may still be waiting
  // for its routes, and answers come in the order of the submissions.
  env_.system.submit(
      change_routes(session, grant.params.mtu),
      [this, grant = std::move(grant), waiting = std::make_shared<ConnectDone>(std::move(done))](
          const std::vector<net::SystemAnswer>& answers) {
        finish_connect(grant, net::first_error(answers), std::move(*waiting));
      });
}

void SessionManager::finish_connect(const ConnectGrant& grant, const Status& routed,
                                    ConnectDone done) {
  Session* const session = table_.find(grant.attachment.id);
  const bool current = session != nullptr && session->state == SessionState::kAttached &&
                       session->attachment == grant.attachment.number;
  if (current && routed) {
    done(Answer<ConnectGrant>::yes(grant));
    return;
  }
  if (!current) {
    done(Answer<ConnectGrant>::no(ended_meanwhile()));
    return;
  }
  Refusal refusal{.reason = "no_route",
                  .text = "the server could not route the session's addresses",
                  .final = false};
  log::error("session", "routes could not be set",
             {{"session", session->id.value()},
              {"user", session->user},
              {"error", routed.error().message()}});
  count_refusal(refusal.reason);
  end_session(*session, refusal.text);
  done(Answer<ConnectGrant>::no(std::move(refusal)));
}

void SessionManager::attach(Connected connected) {
  Session* const session = table_.find(connected.attachment.id);
  if (session == nullptr || session->state != SessionState::kAttached ||
      session->attachment != connected.attachment.number) {
    return;  // ended or replaced while the answer was on its way: the connection is dropped
  }
  session->on_data_plane = true;
  session->channel = "tls";
  session->connected_at = wall_now();
  log::info("session", "tunnel up",
            {{"session", session->id.value()},
             {"user", session->user},
             {"remote", session->remote.to_string()},
             {"inside", addresses_of(*session)},
             {"mtu", session->mtu.value_or(Mtu{}).value()},
             {"tls", session->tls_version},
             {"cipher", session->cipher}});
  AttachRequest request;
  request.id = session->id;
  request.attachment = session->attachment;
  request.socket = std::move(connected.socket);
  request.tls = std::move(connected.tls);
  request.leftover = std::move(connected.leftover);
  request.inside = session->inside();
  request.dpd = rules_.session.dpd;
  request.keepalive = rules_.session.keepalive;
  env_.carrier.attach(std::move(request));
}

void SessionManager::abandon(Attachment attachment) {
  Session* const session = table_.find(attachment.id);
  if (session == nullptr || session->state != SessionState::kAttached ||
      session->attachment != attachment.number) {
    return;
  }
  log::info("session", "the client left before its tunnel was up",
            {{"session", session->id.value()}, {"user", session->user}});
  table_.detach(*session, env_.now());
  forget_channel(*session);  // one from before can still be there, but the client has given it up
}

// ---- life and end -------------------------------------------------------------------------------

void SessionManager::update_stats(Session& session, const SessionStats& stats) {
  tunnel::Counters now = session.carried;
  add(now, stats.counters);
  // The data thread says zeros of a session that it has forgotten already.
  if (now.rx_packets < session.counters.rx_packets) return;
  session.counters = now;
  if (now.rx_packets + now.tx_packets != session.active_packets) {
    session.active_packets = now.rx_packets + now.tx_packets;
    session.active_at = env_.now();
  }
}

void SessionManager::on_data_event(DataEvent event) {
  Session* const session = table_.find(event.id);
  if (session == nullptr) return;
  update_stats(*session, event.stats);
  const bool newest = event.attachment == session->attachment;
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
      session->on_data_plane = false;
      end_session(*session, event.reason.empty() ? "the client disconnected"
                                                 : "the client disconnected: " + event.reason);
      break;
    case DataEvent::Kind::kEnded:
    case DataEvent::Kind::kChannelLost:
      log::info("session", "connection lost",
                {{"session", session->id.value()},
                 {"user", session->user},
                 {"reason", event.reason},
                 {"kept_s", rules_.session.cookie_timeout.count()}});
      table_.detach(*session, env_.now());
      break;
  }
}

void SessionManager::on_stats(const DataPlaneStats& stats) {
  unrouted_ = stats.unrouted;
  const Duration limit = rules_.session.idle_timeout;
  for (const SessionStats& one : stats.sessions) {
    Session* const session = table_.find(one.id);
    if (session == nullptr) continue;
    update_stats(*session, one);
    const bool idle = limit != Duration::zero() && env_.now() - session->active_at >= limit;
    if (idle && session->state == SessionState::kAttached) {
      end_session(*session, "idle for too long");
    }
  }
}

void SessionManager::tick() {
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
  session.on_data_plane = false;
  session.carried = session.counters;
  env_.carrier.forget(session.id);
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
  std::vector<net::SystemRequest> requests;
  for (auto route = session.routes.rbegin(); route != session.routes.rend(); ++route) {
    requests.emplace_back(net::DelRoute{*route});
  }
  if (!requests.empty()) env_.system.submit(std::move(requests), log_failure);
  if (session.ipv4) ipv4_->release(*session.ipv4, session.user);
  if (session.ipv6) ipv6_->release(*session.ipv6, session.user);
}

tunnel::Counters SessionManager::traffic() const {
  tunnel::Counters sum = ended_traffic_;
  table_.for_each([&](const Session& session) { add(sum, session.counters); });
  return sum;
}

}  // namespace culvert::server
