// Status: what a running tunnel says about itself, as JSON with a stable schema (over the control
// socket and for --json) and as text for a person. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/control/protocol.h"

namespace culvert::client {

// Bumped when a member changes its meaning or goes; new members don't count.
constexpr int kStatusSchema = 1;

struct DnsStatus {
  std::vector<std::string> servers;
  std::vector<std::string> domains;  // "~example.com": asked, not searched; "~.": everything
  std::string method;                // "resolved", "resolvconf", "none"
  bool applied = false;
  std::string problem;  // why it is not applied
};

struct TunnelStatus {
  std::string name;
  int64_t pid = 0;
  std::string state;               // name_of(State)
  std::optional<WallTime> since;   // of the state
  std::string server;              // the name that its certificate proves
  std::string address;             // where it was last reached: "192.0.2.1:443"
  std::string user;                // as the profile says
  std::string certificate;         // subject of ours
  std::string server_certificate;  // subject of theirs
  std::string device;
  std::string ipv4, ipv6;  // inside, without length
  uint16_t mtu = 0;
  std::string channel;         // what carries packets: "tls" or "dtls"; empty: none
  std::string channel_reason;  // why this one, a few words; empty: there is no other
  std::optional<WallTime> channel_since;
  std::string tls, cipher;
  std::string dtls_cipher;  // empty: no UDP channel
  bool udp_gso = false, udp_gro = false;
  std::string offloads;             // of the device: "tcp udp", "tcp", "none"
  std::string routing;              // "full", "split", "none"
  std::vector<std::string> routes;  // "everything", "10.20.0.0/16", "not 192.0.2.0/24"
  DnsStatus dns;
  std::string banner;  // as the server sent it: escape before showing
  uint64_t rx_packets = 0, rx_bytes = 0, tx_packets = 0, tx_bytes = 0;
  std::map<std::string, uint64_t> drops;  // by reason, only those that happened
  uint64_t reconnects = 0;
  uint64_t rekeys = 0, roams = 0;  // connections that took over without a gap
  std::optional<Error> last_error;
  std::optional<int64_t> next_attempt_seconds;  // while waiting
};

[[nodiscard]] control::Json to_json(const TunnelStatus& status);
// As to_json() made it, possibly by another version: what is missing stays empty.
[[nodiscard]] TunnelStatus status_from_json(const control::Json& json);

// Several lines, ends with a newline. `now` turns "since" into "for 5m".
[[nodiscard]] std::string to_text(const TunnelStatus& status, WallTime now);

// {"error":{"code":…,"what":…,"where":…,"hint":…}}, for --json.
[[nodiscard]] control::Json to_json(const Error& error);

// "812 B", "1.4 KiB", "3.0 GiB".
[[nodiscard]] std::string human_bytes(uint64_t bytes);
// "42s", "5m", "3h 20m", "2d 4h".
[[nodiscard]] std::string human_time(std::chrono::seconds time);

}  // namespace culvert::client
