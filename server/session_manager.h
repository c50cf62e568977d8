// SessionManager: the control thread's half of every session. It gives out cookies and addresses,
// has the kernel route them here, hands connections to the data thread, and ends sessions that are
// over or that a new state of things forbids.
//
// Nothing here blocks: routes are set through net::SystemOps, the data thread is told by messages.
// The order of a connection is address, route, answer; at the end of a session it is the reverse.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/net/system_ops.h"
#include "common/tls/tls_config.h"
#include "server/address_pool.h"
#include "server/gate.h"
#include "server/identity.h"
#include "server/session_table.h"
#include "server/store.h"

namespace culvert::server {

// What sessions are granted. A reload replaces it; the networks stay as they were at the start.
struct Rules {
  UnknownUsers unknown_users = UnknownUsers::kAllow;
  NetworkSettings network;
  SessionSettings session;
  IdentityRules identity{};
  Users users;
};

// The data thread as it is seen from here (DataPlane in earnest).
class Carrier {
 public:
  virtual ~Carrier() = default;
  virtual void attach(AttachRequest request) = 0;
  virtual void end(SessionId id, EndKind kind, std::string reason) = 0;
  virtual void forget(SessionId id) = 0;
};

struct LoginCounters {
  uint64_t accepted = 0;
  std::map<std::string, uint64_t, std::less<>> refused;  // by Refusal::reason
};

class SessionManager {
 public:
  struct Environment {
    net::SystemOps& system;
    Carrier& carrier;
    std::string device;                // our TUN
    std::optional<uint16_t> udp_port;  // where DTLS is served; nothing: nowhere
    std::function<TimePoint()> now;    // of this turn of the loop
  };

  // kUsage if the networks have no room.
  static Result<std::unique_ptr<SessionManager>> create(Environment environment, Rules rules);

  // Takes up what an earlier run has left: sessions that the present state of things allows wait
  // for their clients (kDetached), the others are removed from the store, and users will get back
  // the addresses that they had. From here on the store is told what happens; before, nothing is
  // kept. `store` must outlive this. Returns how many sessions wait. Call once, before anything
  // else.
  size_t restore(Store& store, StoredState state, const tls::TlsConfig& tls);

  // The questions of the login thread, see Gate. `done` of connect() may be called at once.
  [[nodiscard]] Answer<LoginGrant> login(ProvenPeer peer, std::string user_agent);
  void connect(ConnectRequest request, UniqueFunction<void(Answer<ConnectGrant>)> done);
  void attach(Connected connected);
  void abandon(Attachment attachment);
  void count_refusal(std::string_view reason) { ++logins_.refused[std::string(reason)]; }

  void on_data_event(DataEvent event);
  // What the data thread has counted; ends sessions that have been idle for too long.
  void on_stats(const DataPlaneStats& stats);
  // Ends sessions whose cookie is over. Call about once a second.
  void tick();

  // Ends the session; the client is told why and does not come back. False if there is none.
  bool end(SessionId id, std::string reason);
  // Takes over new rules and ends the sessions that they, or `tls`, do not allow. The others notice
  // nothing. Returns who was ended.
  std::vector<SessionId> apply(Rules rules, const tls::TlsConfig& tls);

  [[nodiscard]] const SessionTable& table() const { return table_; }
  [[nodiscard]] SessionTable& table() { return table_; }
  [[nodiscard]] const LoginCounters& logins() const { return logins_; }
  [[nodiscard]] const std::optional<AddressPool>& pool(Family family) const {
    return family == Family::kV4 ? ipv4_ : ipv6_;
  }
  // Of all sessions since the start.
  [[nodiscard]] tunnel::Counters traffic() const;
  [[nodiscard]] uint64_t unrouted() const { return unrouted_; }
  // The data threads, as last heard.
  [[nodiscard]] const std::vector<DataPlaneStats::Worker>& workers() const { return workers_; }
  // Of the UDP sockets, as last heard; nothing if UDP is not served.
  [[nodiscard]] const std::optional<DataPlaneStats::Udp>& udp() const { return udp_; }

 private:
  using ConnectDone = UniqueFunction<void(Answer<ConnectGrant>)>;

  SessionManager(Environment environment, Rules rules);
  void reserve_fixed_addresses();

  [[nodiscard]] std::optional<Refusal> refuse_login(const User& user) const;
  void forget_unused_logins(const std::string& user);
  [[nodiscard]] Answer<Session*> find_session(const ConnectRequest& request);
  [[nodiscard]] std::optional<Refusal> make_room(Session& session);
  [[nodiscard]] std::optional<Refusal> assign_addresses(Session& session, const User& user,
                                                        const wire::ConnectOffer& offer);
  [[nodiscard]] std::optional<IpAddress> take_address(Session& session, Family family,
                                                      const std::optional<IpAddress>& fixed);
  void assign_networks(Session& session, const User& user);
  [[nodiscard]] Answer<Session*> admit(const ConnectRequest& request, wire::TunnelParams& params);
  void finish_connect(const ConnectGrant& grant, const Status& routed, ConnectDone done);
  void refused(std::string_view what, const Refusal& refusal, std::string_view user,
               const Endpoint& remote);

  void note_grant(Session& session, ConnectRequest& request, const wire::TunnelParams& params);
  void set_routes(Session& session, Mtu mtu, net::SystemOps::Answers done);
  void return_to_former(Session& session);
  static void note_attached(Session& session);
  void detach(Session& session);
  void save(const Session& session);
  [[nodiscard]] std::optional<std::string> take_up(const StoredSession& stored,
                                                   const StoredState& state,
                                                   const tls::TlsConfig& tls);
  [[nodiscard]] bool take_back_addresses(Session& session, const User& user);
  [[nodiscard]] bool take_back(const IpAddress& address, const std::optional<IpAddress>& fixed);
  void wear(Session& session, const SessionStats& stats);
  void end_session(Session& session, std::string reason);
  void forget_channel(Session& session);
  // The data thread has forgotten it by itself: what it had counted is added up here.
  void note_forgotten(Session& session);
  void finalize(Session& session);
  void release(Session& session);
  void update_stats(Session& session, const SessionStats& stats);
  void note_carrier(Session& session, const SessionStats& stats);
  void follow_path(Session& session, Mtu mtu);

  Environment env_;
  Rules rules_;
  SessionTable table_;
  NoStore no_store_;
  Store* store_ = &no_store_;
  TimePoint alive_noted_{};
  std::optional<AddressPool> ipv4_;
  std::optional<AddressPool> ipv6_;
  LoginCounters logins_;
  tunnel::Counters ended_traffic_;
  uint64_t unrouted_ = 0;
  std::vector<DataPlaneStats::Worker> workers_;
  std::optional<DataPlaneStats::Udp> udp_;
};

}  // namespace culvert::server
