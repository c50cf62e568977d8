#include "server/session_table.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "common/base/log.h"

namespace culvert::server {

// The bytes are a SHA-256 already.
size_t SessionTable::HashOfHash::operator()(const tls::Sha256& hash) const noexcept {
  size_t value = 0;
  std::memcpy(&value, hash.data(), sizeof value);
  return value;
}

void SessionTable::transition(Session& session, SessionState next, std::string_view why) {
  log::debug("session", "state",
             {{"session", session.id.value()},
              {"was", name_of(session.state)},
              {"asked", why},
              {"now", name_of(next)}});
  session.state = next;
}

Session& SessionTable::open(Session session, TimePoint now) {
  session.id = SessionId(++last_id_);
  session.state = SessionState::kLoggedIn;
  session.expires = now + cookie_timeout_;
  session.active_at = now;
  session.opened_at = now;
  const bool fresh = by_cookie_.emplace(session.cookie_hash, session.id).second;
  assert(fresh);
  static_cast<void>(fresh);
  return sessions_.emplace(session.id, std::move(session)).first->second;
}

Session& SessionTable::restore(Session session, TimePoint expires) {
  skip_ids(session.id.value());
  session.state = SessionState::kDetached;
  session.expires = expires;
  const bool fresh = by_cookie_.emplace(session.cookie_hash, session.id).second;
  assert(fresh && !sessions_.contains(session.id));
  static_cast<void>(fresh);
  return sessions_.emplace(session.id, std::move(session)).first->second;
}

Session* SessionTable::find(SessionId id) {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : &found->second;
}

Session* SessionTable::find_by_cookie(const tls::Sha256& cookie_hash) {
  const auto found = by_cookie_.find(cookie_hash);
  return found == by_cookie_.end() ? nullptr : find(found->second);
}

uint64_t SessionTable::attach(Session& session, TimePoint now) {
  assert(session.state != SessionState::kEnding);
  transition(session, SessionState::kAttached, "connect");
  session.expires.reset();
  session.active_at = now;
  session.attachment = ++session.grants;
  return session.attachment;
}

void SessionTable::detach(Session& session, TimePoint now) {
  assert(session.state == SessionState::kAttached);
  transition(session, SessionState::kDetached, "connection lost");
  session.expires = now + cookie_timeout_;
  session.connected_at.reset();
  session.channel.clear();
  session.tls_version.clear();
  session.cipher.clear();
}

void SessionTable::begin_end(Session& session, std::string reason) {
  assert(session.state != SessionState::kEnding);
  transition(session, SessionState::kEnding, reason);
  session.expires.reset();
  session.end_reason = std::move(reason);
  by_cookie_.erase(session.cookie_hash);
}

void SessionTable::erase(SessionId id) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  if (found->second.state != SessionState::kEnding) by_cookie_.erase(found->second.cookie_hash);
  sessions_.erase(found);
}

std::vector<SessionId> SessionTable::expired(TimePoint now) const {
  std::vector<SessionId> found;
  for (const auto& [id, session] : sessions_) {
    if (session.expires && *session.expires <= now) found.push_back(id);
  }
  return found;
}

std::vector<SessionId> SessionTable::ids() const {
  std::vector<SessionId> all;
  all.reserve(sessions_.size());
  for (const auto& [id, session] : sessions_)
    all.push_back(id);
  return all;
}

std::vector<SessionId> SessionTable::of_user(std::string_view user, SessionState state) const {
  std::vector<SessionId> found;
  for (const auto& [id, session] : sessions_) {
    if (session.user == user && session.state == state) found.push_back(id);
  }
  return found;
}

size_t SessionTable::count(SessionState state) const {
  return static_cast<size_t>(
      std::count_if(sessions_.begin(), sessions_.end(),
                    [&](const auto& entry) { return entry.second.state == state; }));
}

void SessionTable::for_each(const std::function<void(const Session&)>& visit) const {
  for (const auto& entry : sessions_)
    visit(entry.second);
}

}  // namespace culvert::server
