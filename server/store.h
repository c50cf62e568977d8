// Store: what of the sessions outlives the server. A session that had a connection can be taken up
// again after a restart with its cookie, with the same addresses; and users get back the addresses
// that they had last.
//
// Asynchronous by nature: nobody waits for it, and what cannot be written is the store's own worry.
// An interface, so that several servers can share what they know.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/address.h"
#include "common/base/clock.h"
#include "common/base/strong.h"
#include "common/tls/certificate.h"

namespace culvert::server {

struct StoredSession {
  SessionId id;
  std::string user;
  tls::Sha256 cookie_hash{};  // the cookie itself is nowhere
  tls::Sha256 key_hash{};
  std::vector<std::vector<std::byte>> chain;  // DER, the client's own certificate first
  std::optional<IpAddress> ipv4;
  std::optional<IpAddress> ipv6;
  std::string user_agent;
  WallTime logged_in_at{};
  std::optional<WallTime> expires{};  // nothing: it had a connection when it was saved

  friend bool operator==(const StoredSession&, const StoredSession&) = default;
};

// Who had an address last.
struct Lease {
  IpAddress address;
  std::string user;

  friend bool operator==(const Lease&, const Lease&) = default;
};

struct StoredState {
  std::vector<StoredSession> sessions;  // by id
  std::vector<Lease> leases;            // longest free first
  uint64_t last_id = 0;                 // of all sessions ever saved
  WallTime alive_at{};                  // when the server was last known to run
};

class Store {
 public:
  virtual ~Store() = default;
  // Replaces what was saved under the same id.
  virtual void save(StoredSession session) = 0;
  // Nothing of it may come back. Also for sessions that were never saved.
  virtual void remove(SessionId id) = 0;
  // The address is free from now on.
  virtual void note_lease(Lease lease) = 0;
  virtual void note_alive(WallTime now) = 0;
};

// Keeps nothing.
class NoStore final : public Store {
 public:
  void save(StoredSession /*session*/) override {}
  void remove(SessionId /*id*/) override {}
  void note_lease(Lease /*lease*/) override {}
  void note_alive(WallTime /*now*/) override {}
};

}  // namespace culvert::server
