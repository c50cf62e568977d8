// Path MTU arithmetic: what fits into what. Pure.
// The formulas are those of the installed base (openconnect-compatible servers), so that both sides
// come to the same number: link MTU minus IP, UDP and DTLS overhead, minus the type byte.
#pragma once

#include <cstdint>
#include <optional>

#include "common/base/address.h"
#include "common/base/strong.h"

namespace culvert::tunnel {

constexpr uint16_t kMinIpv6Mtu = 1280;      // RFC 8200 section 5
constexpr uint16_t kMinIpv4Mtu = 576;       // RFC 791: every host must accept this much
constexpr uint16_t kDefaultLinkMtu = 1500;  // Ethernet
constexpr uint16_t kMaxLinkMtu = 9000;      // Ethernet with jumbo frames

// Bytes that an AES-GCM DTLS 1.2 record adds (13 header, 8 explicit nonce, 16 tag), and the packet
// type byte inside it.
constexpr uint16_t kDtlsRecordOverhead = 37;
constexpr uint16_t kPacketTypeByte = 1;
// What a connection ID of ours (RFC 9146) adds to that: 8 bytes, the content type inside, and a
// byte that mbedTLS sets aside for padding.
constexpr uint16_t kConnectionIdOverhead = 10;

[[nodiscard]] constexpr uint16_t ip_header_size(Family family) {
  return family == Family::kV4 ? 20 : 40;
}
constexpr uint16_t kUdpHeaderSize = 8;

// Segments of the TCP connection outside (TCP_MAXSEG, of both directions, set by either side before
// it begins): what every path carries, options included. TCP finds out by itself only where routers
// may tell it, and a path that swallows both packets and messages would hold the connection for
// ever: the login, and the channel that is the last resort of a path too narrow for UDP. The kernel
// cuts and merges segments in one go, so that smaller ones cost 2% of the line and little else.
constexpr int kOuterSegment = kMinIpv6Mtu - 40 - 20;

// IFLA_GSO_MAX_SIZE of the TUN: what the kernel puts into a superpacket of TCP (less some 320 bytes
// that it keeps for headers) makes one train of datagrams, 65,000 bytes in all, with every MTU from
// 1,280 to 1,500. With more, each would be followed by a second train of two or three.
constexpr uint32_t kSuperpacketSize = 60'900;

struct MtuInput {
  uint16_t link_mtu = kDefaultLinkMtu;    // ours: configuration or device
  std::optional<uint16_t> peer_base_mtu;  // X-CSTP-Base-MTU: the peer's path MTU
  std::optional<uint16_t> peer_mtu;       // X-CSTP-MTU: wanted tunnel MTU; used without the above
  Family outer = Family::kV4;             // of the connection between the two
  bool dtls = false;                      // a UDP channel will be offered
  bool inner_ipv6 = false;                // an IPv6 address is assigned inside
  bool connection_id = false;             // the UDP channel's records will carry one
};

struct MtuPlan {
  uint16_t base_mtu;  // X-CSTP-Base-MTU of the answer
  Mtu tunnel_mtu;     // X-CSTP-MTU of the answer, and of the session's routes
};

// What a search for the largest UDP payload begins with (below nothing is tried: every path carries
// packets of 1,280 bytes, RFC 8200 section 5, or is too narrow for anybody) and ends with.
struct UdpPayloadBounds {
  uint16_t floor;
  uint16_t ceiling;
};
[[nodiscard]] UdpPayloadBounds udp_payload_bounds(uint16_t base_mtu, Family outer);

// Never below 1280 with IPv6 inside, never below 576 otherwise: what does not fit into one datagram
// then travels over TLS, where size does not matter.
[[nodiscard]] MtuPlan plan_mtu(const MtuInput& input);

}  // namespace culvert::tunnel
