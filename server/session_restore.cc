// SessionManager, third part: what is kept for the next run, and what becomes of it there.
#include <utility>

#include "common/base/log.h"
#include "server/session_manager.h"

namespace culvert::server {

void SessionManager::save(const Session& session) {
  StoredSession stored;
  stored.id = session.id;
  stored.user = session.user;
  stored.cookie_hash = session.cookie_hash;
  stored.key_hash = session.key_hash;
  stored.chain = session.chain;
  stored.ipv4 = session.ipv4;
  stored.ipv6 = session.ipv6;
  stored.user_agent = session.user_agent;
  stored.logged_in_at = session.logged_in_at;
  if (session.expires) {
    const Duration left = *session.expires - env_.now();
    stored.expires = wall_now() + std::chrono::floor<std::chrono::seconds>(left);
  }
  store_->save(std::move(stored));
  store_->note_alive(wall_now());
}

size_t SessionManager::restore(Store& store, StoredState state, const tls::TlsConfig& tls) {
  store_ = &store;
  table_.skip_ids(state.last_id);
  size_t dropped = 0;
  for (const StoredSession& stored : state.sessions) {
    const auto refusal = take_up(stored, state, tls);
    if (!refusal) continue;
    ++dropped;
    store_->remove(stored.id);
    log::info("session", "a session of the last run is over",
              {{"session", stored.id.value()}, {"user", stored.user}, {"why", *refusal}});
  }
  for (const Lease& lease : state.leases) {
    auto& pool = lease.address.is_v4() ? ipv4_ : ipv6_;
    if (pool) pool->remember(lease.address, lease.user);
  }
  if (table_.size() + dropped != 0) {
    log::info("session", "sessions of the last run wait for their clients",
              {{"waiting", table_.size()}, {"over", dropped}});
  }
  return table_.size();
}

// Why not, if not. A session that had a connection when the server went has been without one since.
std::optional<std::string> SessionManager::take_up(const StoredSession& stored,
                                                   const StoredState& state,
                                                   const tls::TlsConfig& tls) {
  const Duration timeout = rules_.session.cookie_timeout;
  const WallTime now = wall_now();
  const Duration left = stored.expires ? *stored.expires - now : state.alive_at - now + timeout;
  if (left <= Duration::zero()) return "the client did not come back in time";
  tls::Verdict verdict = tls::recheck(stored.chain, tls);
  if (!verdict.accepted() || !verdict.peer) return verdict.text;
  auto identity = identify(*verdict.peer, rules_.identity, rules_.users, rules_.unknown_users);
  if (!identity.grant) return identity.refusal.text;
  if (identity.grant->name != stored.user) return "its certificate is another user's now";

  Session session;
  session.id = stored.id;
  session.user = stored.user;
  session.group = identity.grant->group;
  session.cookie_hash = stored.cookie_hash;
  session.key_hash = stored.key_hash;
  session.certificate = std::move(*verdict.peer);
  session.chain = stored.chain;
  session.user_agent = stored.user_agent;
  session.logged_in_at = stored.logged_in_at;
  session.opened_at = env_.now() - std::max<Duration>(now - stored.logged_in_at, Duration::zero());
  session.active_at = env_.now();
  session.ipv4 = stored.ipv4;
  session.ipv6 = stored.ipv6;
  if (table_.find(session.id) != nullptr || table_.find_by_cookie(session.cookie_hash) != nullptr) {
    return "it is stored twice";
  }
  if (!take_back_addresses(session, *identity.grant)) return "its addresses are not to be had";
  table_.restore(std::move(session), env_.now() + std::min(left, timeout));
  return std::nullopt;
}

bool SessionManager::take_back_addresses(Session& session, const User& user) {
  if (!session.ipv4 && !session.ipv6) return false;
  if (session.ipv4 && !take_back(*session.ipv4, user.ipv4)) return false;
  if (!session.ipv6 || take_back(*session.ipv6, user.ipv6)) return true;
  if (session.ipv4) ipv4_->release(*session.ipv4, session.user);
  return false;
}

// The networks may be others by now, and the address may have been given to somebody for good.
bool SessionManager::take_back(const IpAddress& address, const std::optional<IpAddress>& fixed) {
  auto& pool = address.is_v4() ? ipv4_ : ipv6_;
  if (!pool) return false;
  const bool ours = pool->network().contains(address) && !pool->is_reserved(address);
  return (ours || address == fixed) && pool->take_fixed(address);
}

}  // namespace culvert::server
