// Start, reload, login and CONNECT; what happens to a session afterwards is in session_life.cc.
#include "server/session_manager.h"

#include <algorithm>
#include <array>
#include <utility>

#include "common/base/log.h"
#include "common/base/text.h"
#include "common/tls/peer_policy.h"
#include "common/tls/random.h"
#include "server/grant.h"

namespace culvert::server {
namespace {

// A login without a CONNECT costs a table entry. Stock clients make one each, so a few per user are
// ordinary; more are somebody's loop.
constexpr size_t kMaxUnusedLogins = 8;

std::string new_cookie() {
  std::array<std::byte, 32> random{};
  tls::random_bytes(random);
  return to_hex(random);
}

tls::Sha256 hash_of(std::string_view cookie) {
  return tls::sha256(as_bytes(cookie));
}

Refusal no_address() {
  return {.reason = "no_address",
          .text = "there is no free address of a kind that the client takes",
          .final = false};
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
    const auto identity =
        identify(session.certificate, rules_.identity, rules_.users, rules_.unknown_users);
    if (verdict.accepted() && identity.grant && identity.grant->name == session.user) {
      session.group = identity.grant->group;
      continue;
    }
    ended.push_back(id);
    const std::string why =
        identity.grant ? "its certificate is another user's now" : identity.refusal.text;
    end_session(session, verdict.accepted() ? why : verdict.text);
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
  auto identity = identify(peer.certificate, rules_.identity, rules_.users, rules_.unknown_users);
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
  if (certificate.spki_sha256 != session->key_hash ||
      name_in(certificate, rules_.identity) != session->user) {
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
  return no_address();
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

// Everything that can be refused, in the order in which it should be.
Answer<Session*> SessionManager::admit(const ConnectRequest& request, wire::TunnelParams& params) {
  auto found = find_session(request);
  if (!found.grant) return found;
  auto identity =
      identify(request.peer.certificate, rules_.identity, rules_.users, rules_.unknown_users);
  if (!identity.grant) return Answer<Session*>::no(std::move(identity.refusal));
  Session& session = **found.grant;
  if (auto refusal = make_room(session)) return Answer<Session*>::no(std::move(*refusal));
  if (auto refusal = assign_addresses(session, *identity.grant, request.offer)) {
    return Answer<Session*>::no(std::move(*refusal));
  }
  assign_networks(session, *identity.grant);
  params = params_for(session, request, rules_.network, rules_.session, env_.udp_port);
  if (const auto limit = rules_.session.max_lifetime; limit != Duration::zero()) {
    const Duration left = session.opened_at + limit - env_.now();
    params.session_timeout =
        std::max(std::chrono::floor<std::chrono::seconds>(left), std::chrono::seconds(0));
  }
  if (wire::grants_address(params, request.offer)) return found;
  return Answer<Session*>::no(no_address());
}

void SessionManager::connect(ConnectRequest request, ConnectDone done) {
  ConnectGrant grant;
  auto admitted = admit(request, grant.params);
  if (!admitted.grant) {
    refused("connection refused", admitted.refusal, request.peer.certificate.common_name,
            request.peer.remote);
    done(Answer<ConnectGrant>::no(std::move(admitted.refusal)));
    return;
  }
  Session& session = **admitted.grant;
  note_grant(session, request, grant.params);
  const TimePoint active_at = session.active_at;
  grant.attachment = {session.id, table_.attach(session, env_.now())};
  if (session.former) session.active_at = active_at;  // new keys are no sign of use
  save(session);
  const Mtu routed = std::min(grant.params.mtu, session.path_mtu.value_or(grant.params.mtu));
  // Also when there is nothing to change: an earlier CONNECT of this session may still be waiting
  // for its routes, and answers come in the order of the submissions.
  set_routes(
      session, routed,
      [this, grant = std::move(grant), waiting = std::make_shared<ConnectDone>(std::move(done))](
          const std::vector<net::SystemAnswer>& answers) {
        finish_connect(grant, net::first_error(answers), std::move(*waiting));
      });
}

// The session as its newest connection will have it.
void SessionManager::note_grant(Session& session, ConnectRequest& request,
                                const wire::TunnelParams& params) {
  session.attach_mode = params.attach;
  if (params.attach == wire::AttachMode::kNone) {
    session.former.reset();
    session.path_mtu.reset();  // of the UDP channel that begins anew
  } else if (!session.former) {
    session.former = {session.present(), session.state == SessionState::kAttached};
  }
  session.certificate = std::move(request.peer.certificate);
  session.chain = std::move(request.peer.chain);
  session.remote = request.peer.remote;
  session.user_agent = std::move(request.offer.user_agent);
  session.tls_version = std::move(request.tls_version);
  session.cipher = std::move(request.cipher);
  session.mtu = params.mtu;
  session.dtls = params.dtls;
  session.base_mtu = params.base_mtu;
  session.features = params.features;
}

void SessionManager::set_routes(Session& session, Mtu mtu, net::SystemOps::Answers done) {
  auto wanted = routes_for(session, env_.device, mtu);
  auto changes = route_changes(session.routes, wanted);
  session.routes = std::move(wanted);
  env_.system.submit(std::move(changes), std::move(done));
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

}  // namespace culvert::server
