// What a running server answers on its control socket. The shapes below are a stable interface:
// members are added, never renamed or removed. Times are ISO 8601 in UTC ("2026-03-01T12:00:00Z"),
// durations whole seconds (*_s), sizes bytes; what is unknown is null.
//
// {"command":"status"} →
//   { "version": "0.1.0", "pid": 1234, "user": "culvert", "started": TIME, "uptime_s": 3600,
//     "config": "/etc/culvert/culvertd.toml", "listen": "[::]:443",
//     "workers": [{"sessions": 2,           data threads; what each has passed on to another one:
//                  "packets_handed_over": 0,    read from its TUN queue (superpackets count as one)
//                  "trains_handed_over": 0,     from its UDP socket, trains of datagrams
//                  "handover_drops": 0}, …],    of both kinds, because the other did not keep up
//     "tun": {"device": "culvertd0", "addresses": ["10.99.0.1", "fd99::1"],
//             "offloads": "tcp udp", "steering": true},   packets come out where their session
//             lives
//     "sessions": {"attached": 3, "detached": 1, "logged_in": 0, "total": 4},
//     "pools": [{"network": "10.99.0.0/24", "used": 4, "capacity": 253}, …],
//     "certificate": {"subject": "CN=vpn.example.com", "names": ["vpn.example.com"],
//                     "not_after": TIME, "days_left": 364},
//     "logins": {"accepted": 17, "refused_total": 4,
//                "refused": {"revoked": 1, "no_certificate": 2, "handshake_failed": 1}},
//     "traffic": {"rx_packets", "rx_bytes", "tx_packets", "tx_bytes",     since start, all sessions
//                 "no_session": 12}}                                      packets for nobody
//
// {"command":"sessions"} →
//   { "sessions": [
//     { "id": 7, "user": "alice", "group": "engineering" | "", "state": "attached" | "detached" |
//       "logged_in", "remote": "198.51.100.7:51234", "ipv4": "10.99.0.2" | null,
//       "ipv6": "fd99::2" | null, "networks": ["192.0.2.0/24"], "channel": "tls" | null,
//       "worker": 0,                  number of the data thread that it lives on
//       "since": TIME,                the login
//       "connected_since": TIME | null,   the present connection
//       "expires_s": 280 | null,      if no connection takes it up
//       "tls": "TLSv1.3" | null, "cipher": "TLS1-3-AES-128-GCM-SHA256" | null, "mtu": 1434 | null,
//       "rekeys": n, "roams": n,      connections that took it over without a gap
//       "rx_packets": n, "rx_bytes": n, "tx_packets": n, "tx_bytes": n,   rx: from the client
//       "drops": {"spoofed_source": 3, …},     only reasons that occurred
//       "user_agent": "…", "certificate": {"subject": …, "serial": …, "not_after": TIME} }, … ]}
//
// {"command":"disconnect","who":USER or ID} → {"ended": [7, 9]}; kFailure if there is none.
// {"command":"reload"} → {"ended": [7],            sessions that the new state forbids
//                         "needs_restart": ["listen.address"]}   keys whose change was not taken
//                         over an error means that nothing was changed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/control/control_server.h"
#include "common/tls/tls_config.h"
#include "server/session_manager.h"

namespace culvert::server {

struct ReloadOutcome {
  std::vector<SessionId> ended;
  std::vector<std::string> needs_restart;
};

// What stays the same while the server runs.
struct ServerFacts {
  WallTime started{};
  TimePoint started_at{};
  std::string user;
  std::string config_file;
  std::string listen;
  bool steering = false;  // of the TUN's queues, as last heard
  std::string device;
  std::optional<uint16_t> udp_port;  // nothing: DTLS is not served
  std::string offloads;              // of the TUN, as net::name_of() says
};

// The running server as commands see it.
class ControlTarget {
 public:
  virtual ~ControlTarget() = default;
  [[nodiscard]] virtual const ServerFacts& facts() const = 0;
  [[nodiscard]] virtual const tls::TlsConfig& tls() const = 0;
  [[nodiscard]] virtual SessionManager& sessions() = 0;
  [[nodiscard]] virtual TimePoint now() const = 0;
  // Fetches the data thread's counters into sessions(), then calls `then`.
  virtual void refresh(UniqueFunction<void()> then) = 0;
  virtual void reload(UniqueFunction<void(Result<ReloadOutcome>)> done) = 0;
};

// Listens on the control socket `path` (mode 0600) and carries out what is asked. Errors as of
// control::ControlServer::listen(). Both references must outlive the server.
Result<std::unique_ptr<control::ControlServer>> serve_control(loop::Loop& loop,
                                                              const std::string& path,
                                                              ControlTarget& target);

}  // namespace culvert::server
