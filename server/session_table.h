// SessionTable: all sessions, found by id or by cookie, and the one door through which their states
// change. Pure: time is told, nothing is done to network or kernel here.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "server/session.h"

namespace culvert::server {

class SessionTable {
 public:
  // How long a session without a connection is kept.
  explicit SessionTable(Duration cookie_timeout) : cookie_timeout_(cookie_timeout) {}
  // For sessions that lose their connection from now on.
  void set_cookie_timeout(Duration timeout) { cookie_timeout_ = timeout; }

  // Takes the session in as kLoggedIn under a new id. REQUIRES: its cookie_hash is not in use.
  Session& open(Session session, TimePoint now);
  // Takes in a session of an earlier run, under its own id, as kDetached. REQUIRES: neither the id
  // nor the cookie_hash is in use.
  Session& restore(Session session, TimePoint expires);
  // Ids up to this one belong to earlier runs.
  void skip_ids(uint64_t last) { last_id_ = std::max(last_id_, last); }
  // nullptr if there is none.
  [[nodiscard]] Session* find(SessionId id);
  // Found by the hash of the cookie, so that how long this takes says nothing about cookies that
  // exist. Sessions that are ending are not found.
  [[nodiscard]] Session* find_by_cookie(const tls::Sha256& cookie_hash);

  // A new connection has the session; returns the number of the grant. REQUIRES: not kEnding.
  uint64_t attach(Session& session, TimePoint now);
  // The connection is gone; the cookie counts from now. REQUIRES: kAttached.
  void detach(Session& session, TimePoint now);
  // No way back from here. REQUIRES: not kEnding.
  void begin_end(Session& session, std::string reason);
  void erase(SessionId id);

  // Whose cookie is over.
  [[nodiscard]] std::vector<SessionId> expired(TimePoint now) const;
  // By id, so oldest first.
  [[nodiscard]] std::vector<SessionId> ids() const;
  [[nodiscard]] std::vector<SessionId> of_user(std::string_view user, SessionState state) const;
  [[nodiscard]] size_t count(SessionState state) const;
  [[nodiscard]] size_t size() const { return sessions_.size(); }
  void for_each(const std::function<void(const Session&)>& visit) const;

 private:
  struct HashOfHash {
    size_t operator()(const tls::Sha256& hash) const noexcept;
  };
  static void transition(Session& session, SessionState next, std::string_view why);

  Duration cookie_timeout_;
  uint64_t last_id_ = 0;
  std::map<SessionId, Session> sessions_;  // nodes: references stay valid until erase()
  std::unordered_map<tls::Sha256, SessionId, HashOfHash> by_cookie_;
};

}  // namespace culvert::server
