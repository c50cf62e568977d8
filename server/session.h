// Session: what the control thread knows of one authenticated peer. A plain value; what happens to
// it is decided in session_manager.cc, and its state changes in SessionTable alone.
//
//                 CONNECT                   connection lost
//   kLoggedIn ───────────► kAttached ◄──────────────────────► kDetached
//       │                   │     ▲    CONNECT with the cookie    │
//       │                   │     └── CONNECT (replaces)          │
//       └───────────────────┴───── timeout, kick, logout ─────────┴───► kEnding ──► gone
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/address.h"
#include "common/base/clock.h"
#include "common/base/strong.h"
#include "common/net/netlink.h"
#include "common/tls/certificate.h"
#include "common/tunnel/stats.h"
#include "common/wire/culvert_features.h"
#include "common/wire/tunnel_params.h"

namespace culvert::server {

enum class SessionState : uint8_t {
  kLoggedIn,  // has a cookie, never had a tunnel
  kAttached,  // a connection was granted and, as far as we know, lives
  kDetached,  // has its addresses, but no connection; waits for the cookie
  kEnding,    // is told to go; the data thread has not confirmed yet
};

[[nodiscard]] constexpr std::string_view name_of(SessionState state) {
  switch (state) {
    case SessionState::kLoggedIn:
      return "logged_in";
    case SessionState::kAttached:
      return "attached";
    case SessionState::kDetached:
      return "detached";
    case SessionState::kEnding:
      return "ending";
  }
  return "?";
}

// What one connection of a session was granted.
struct ConnectionFacts {
  uint64_t attachment = 0;  // number of the grant
  Endpoint remote;
  std::string tls_version, cipher;
  std::optional<Mtu> mtu;
  std::optional<wire::DtlsParams> dtls;
  uint16_t base_mtu = 0;  // of the path outside
  wire::CulvertFeatures features;
};

struct Session {
  SessionId id;
  std::string user;
  std::string group;
  tls::Sha256 cookie_hash{};
  tls::Sha256 key_hash{};  // of the public key that the cookie is bound to
  tls::CertificateInfo certificate;
  std::vector<std::vector<std::byte>> chain;  // judged again after a reload
  Endpoint remote;
  std::string user_agent;

  SessionState state = SessionState::kLoggedIn;
  uint64_t attachment = 0;  // number of the newest grant
  uint64_t grants = 0;      // so far; a grant may be taken back, its number is used up
  // How the newest grant takes the session over.
  wire::AttachMode attach_mode = wire::AttachMode::kNone;
  // While that is gently, and its connection is not here yet: what carries the packets until then,
  // and goes on to do so if it never comes.
  struct Former {
    ConnectionFacts facts;
    bool lives = true;  // its TLS connection does
  };
  std::optional<Former> former;
  uint64_t rekeys = 0, roams = 0;    // how often it was taken over gently
  bool on_data_plane = false;        // the data thread has heard of it
  std::optional<TimePoint> expires;  // while no connection has it

  // Held from the first CONNECT on.
  std::optional<IpAddress> ipv4;
  std::optional<IpAddress> ipv6;
  std::vector<Prefix> networks;    // behind the client
  std::vector<net::Route> routes;  // what the kernel was asked to route to our device for it
  std::optional<Mtu> mtu;          // of the newest grant
  std::optional<Mtu> path_mtu;     // what its path takes of that, as the data thread has found
  std::optional<wire::DtlsParams> dtls;  // of the newest grant
  uint16_t base_mtu = 0;                 // of the path outside, as granted
  wire::CulvertFeatures features;        // the same; none: a stock client

  WallTime logged_in_at{};
  TimePoint opened_at{};  // the same by the clock that does not jump
  std::optional<WallTime> connected_at;
  std::string tls_version, cipher;  // of the present connection
  std::string channel;              // "tls" or "dtls"; empty: none
  std::string channel_reason;       // why this one
  std::optional<WallTime> channel_since;
  std::string dtls_cipher;      // empty: no UDP channel
  size_t worker = 0;            // the data thread that it lives on
  tunnel::Counters counters;    // of all its connections, as last heard
  tunnel::Counters carried;     // the part of it that the data thread has forgotten
  bool worn = false;            // its keys are, and the connection was asked to go
  uint64_t active_packets = 0;  // rx and tx when it was last seen active
  TimePoint active_at{};
  std::string end_reason;  // while kEnding

  // There is a TLS connection, as far as we know.
  [[nodiscard]] bool has_connection() const {
    return state == SessionState::kAttached && (!former || former->lives);
  }
  // The connection that carries the packets, not one that is only granted.
  [[nodiscard]] ConnectionFacts present() const {
    if (former) return former->facts;
    return {attachment, remote, tls_version, cipher, mtu, dtls, base_mtu, features};
  }

  // Everything whose packets belong to this session.
  [[nodiscard]] std::vector<Prefix> inside() const {
    std::vector<Prefix> all;
    if (ipv4) all.push_back(Prefix::host(*ipv4));
    if (ipv6) all.push_back(Prefix::host(*ipv6));
    all.insert(all.end(), networks.begin(), networks.end());
    return all;
  }
};

}  // namespace culvert::server
