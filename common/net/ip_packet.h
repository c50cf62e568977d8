// IP header views: bounds-checked, read-only, nothing allocated (RFC 791, RFC 8200).
// Pure: bytes in, values out. Checks structure alone: no checksums, no judgement about addresses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "common/base/address.h"
#include "common/base/bytes.h"

namespace culvert::net {

constexpr size_t kIpv4HeaderSize = 20;  // without options
constexpr size_t kIpv6HeaderSize = 40;  // without extension headers

// Protocol numbers (IANA) that somebody here asks for.
constexpr uint8_t kProtocolIcmp = 1;
constexpr uint8_t kProtocolTcp = 6;
constexpr uint8_t kProtocolUdp = 17;
constexpr uint8_t kProtocolIcmpV6 = 58;

// What parse_ip() found. `payload` borrows the packet.
struct IpView {
  Family family = Family::kV4;
  IpAddress source;
  IpAddress destination;
  // The transport protocol. IPv6: what follows the extension headers; a chain that is cut off or
  // has more than eight of them gives the number of the extension header that could not be passed.
  uint8_t protocol = 0;
  uint8_t traffic_class = 0;     // DSCP and ECN
  bool fragment = false;         // one of several fragments, the first included
  uint16_t fragment_offset = 0;  // in bytes; only at 0 does `payload` begin with transport header
  size_t header_length = 0;      // options and passed extension headers included
  size_t total_length = 0;       // as the header says; at most the size of what was parsed
  Bytes payload;                 // from header_length to total_length
};

// Nothing if the packet is truncated, of another version, or its lengths contradict each other or
// exceed what is there. Bytes after total_length are ignored (they are not part of the packet).
[[nodiscard]] std::optional<IpView> parse_ip(Bytes packet);

// Would parse_ip() take it? The family, if so: for whoever needs the addresses and no more.
[[nodiscard]] std::optional<Family> whole_ip_family(Bytes packet);

// The family, if the fixed header of that version is there: all that the accessors below need.
// Cheaper than parse_ip() and enough to route by address; lengths are not checked.
[[nodiscard]] inline std::optional<Family> family_of(Bytes packet) {
  if (packet.size() < kIpv4HeaderSize) return std::nullopt;
  const unsigned version = std::to_integer<unsigned>(packet[0]) >> 4;
  if (version == 4) return Family::kV4;
  if (version == 6 && packet.size() >= kIpv6HeaderSize) return Family::kV6;
  return std::nullopt;
}

// The addresses in place: 4 or 16 bytes, network order, borrowed.
// REQUIRES for all four: family_of(packet) == family.
[[nodiscard]] inline Bytes source_bytes(Bytes packet, Family family) {
  return family == Family::kV4 ? packet.subspan(12, 4) : packet.subspan(8, 16);
}
[[nodiscard]] inline Bytes destination_bytes(Bytes packet, Family family) {
  return family == Family::kV4 ? packet.subspan(16, 4) : packet.subspan(24, 16);
}
[[nodiscard]] inline IpAddress source_of(Bytes packet, Family family) {
  return IpAddress::from_bytes(source_bytes(packet, family));
}
[[nodiscard]] inline IpAddress destination_of(Bytes packet, Family family) {
  return IpAddress::from_bytes(destination_bytes(packet, family));
}

// A hash of the flow: addresses, protocol and, for TCP, UDP, UDP-Lite, SCTP and DCCP, the ports.
// All fragments of a datagram hash alike (their ports are left out), and the two directions differ.
// `seed` keeps peers from predicting which flows share a bucket. Never fails: what is no IP packet
// has a hash of its own.
[[nodiscard]] uint32_t flow_hash(Bytes packet, uint32_t seed = 0);

}  // namespace culvert::net
