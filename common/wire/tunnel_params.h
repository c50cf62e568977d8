// TunnelParams: what a CONNECT settled between the two sides, as one struct. The server fills it
// from configuration and address pools, the client from the X-CSTP-* and X-DTLS-* headers.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/address.h"
#include "common/base/strong.h"
#include "common/wire/culvert_features.h"

namespace culvert::wire {

// Smallest tunnel MTU that is taken from a peer: every IPv4 host must take 576 (RFC 791). IPv6 asks
// for 1280, which is checked where an address is configured.
inline constexpr uint16_t kMinMtu = 576;

enum class RekeyMethod : uint8_t {
  kNone,
  kNewTunnel,  // come again with the cookie
  kSsl,        // renegotiate or KeyUpdate; read from others, never announced by us
};

// The UDP channel, keyed from the TLS connection of this CONNECT.
struct DtlsParams {
  uint16_t port = 0;                   // UDP, at the address of the TCP peer
  std::array<std::byte, 32> app_id{};  // random, new for each CONNECT
  std::chrono::seconds dpd{0};         // 0: off
  std::chrono::seconds keepalive{0};   // 0: off
};

struct TunnelParams {
  // The client's inside address; the length is that of the network it lives in.
  std::optional<Prefix> ipv4;
  std::optional<Prefix> ipv6;

  Mtu mtu{0};             // largest packet inside; 576..16376 when parsed
  uint16_t base_mtu = 0;  // of the path outside; 0: not said

  std::vector<IpAddress> dns;
  std::vector<std::string> split_dns;  // domains that go to `dns`; none: all
  std::string default_domain;          // search domains, separated by blanks
  std::vector<Prefix> split_include;   // host bits clear; none: everything goes through the tunnel
  std::vector<Prefix> split_exclude;   // host bits clear

  std::chrono::seconds dpd{0};         // on the TLS channel; 0: off
  std::chrono::seconds keepalive{0};   // 0: off
  std::chrono::seconds rekey_time{0};  // 0: never
  RekeyMethod rekey_method = RekeyMethod::kNone;

  std::optional<std::chrono::seconds> idle_timeout;          // nothing: none
  std::optional<std::chrono::seconds> session_timeout;       // nothing: none
  std::optional<std::chrono::seconds> disconnected_timeout;  // nothing: none

  std::string banner;    // may hold line breaks; escape before showing
  std::string hostname;  // the client's, as the server recorded it

  std::optional<DtlsParams> dtls;

  // What the server grants beyond the base protocol, and how it has taken the session over.
  CulvertFeatures features;
  AttachMode attach = AttachMode::kNone;

  // Client only: header lines that made no sense and were left out, escaped, for the log.
  std::vector<std::string> ignored;
};

}  // namespace culvert::wire
