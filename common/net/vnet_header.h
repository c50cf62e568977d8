// The virtio network header that stands before each packet of a TUN opened with IFF_VNET_HDR:
// encode, decode, and the judgement whether its numbers fit the packet behind it. Pure.
// Format: virtio 1.2 section 5.1.6, always little-endian here (a big-endian host tells its TUN so
// with TUNSETVNETLE). The same ten bytes go before a superpacket between Culvert peers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "common/base/bytes.h"

namespace culvert::net {

// What the kernel writes and expects unless TUNSETVNETHDRSZ says otherwise.
constexpr size_t kVnetHeaderSize = 10;
// With the number of buffers at the end, which a TUN ignores. Puts the packet on a 4-byte boundary.
constexpr size_t kVnetHeaderSizeLong = 12;

constexpr uint8_t kVnetNeedsChecksum = 1;  // VIRTIO_NET_HDR_F_NEEDS_CSUM
constexpr uint8_t kVnetDataValid = 2;      // VIRTIO_NET_HDR_F_DATA_VALID: somebody checked the sum

// gso_type on the wire. Type 3 (fragments of one UDP datagram) is never asked for.
enum class GsoType : uint8_t {
  kNone = 0,
  kTcpV4 = 1,
  kTcpV6 = 4,
  kUdpL4 = 5,  // a train of datagrams (Linux 6.2); older kernel headers lack the name
};
constexpr uint8_t kGsoEcnBit = 0x80;  // beside a TCP type: the first segment carries CWR

struct VnetHeader {
  uint8_t flags = 0;
  GsoType type = GsoType::kNone;  // as read it may be none of the enumerators: check_vnet() knows
  uint16_t header_length = 0;     // of a superpacket: IP and transport header, in bytes
  uint16_t gso_size = 0;          // payload bytes of each segment but the last
  uint16_t checksum_start = 0;    // where summing begins: the transport header
  uint16_t checksum_offset = 0;   // of the checksum field, from checksum_start

  [[nodiscard]] bool needs_checksum() const { return (flags & kVnetNeedsChecksum) != 0; }
  [[nodiscard]] bool is_superpacket() const { return type != GsoType::kNone; }
  friend bool operator==(const VnetHeader&, const VnetHeader&) = default;
};

// Nothing if there are fewer than kVnetHeaderSize bytes. Takes any content.
[[nodiscard]] std::optional<VnetHeader> decode_vnet(Bytes bytes);
// REQUIRES: kVnetHeaderSize or kVnetHeaderSizeLong bytes; the buffer count becomes 0.
void encode_vnet(MutableBytes at, const VnetHeader& header);

// Longer stacks of headers than this are not split: IPv6 and the longest TCP header leave 156 bytes
// for extension headers, and no sender of superpackets is known that uses any.
constexpr size_t kMaxGsoHeader = 256;
// A superpacket with one byte a segment keeps a kernel busy for tens of milliseconds.
constexpr size_t kMaxPeerSegments = 128;

// Whose numbers they are. The kernel's are checked as well, but it may say more: a checksum
// anywhere in the packet (a tunnel inside), as many segments as it likes, ECN.
enum class VnetOrigin : uint8_t { kKernel, kPeer };

struct VnetBounds {
  VnetOrigin origin = VnetOrigin::kPeer;
  // The largest packet that may come of it, headers included: from a peer, the session's MTU.
  size_t max_packet = 65535;
  size_t max_segments = kMaxPeerSegments;
};

// For packets that our own TUN gave us.
constexpr VnetBounds kKernelBounds{
    .origin = VnetOrigin::kKernel, .max_packet = 65535, .max_segments = 65535};

enum class VnetVerdict : uint8_t {
  kOk,
  kUnknownFlags,
  kUnknownType,
  kNotIp,             // no IP packet, or truncated
  kWrongLength,       // the IP header's length is not the packet's
  kFragment,          // a fragment cannot be a superpacket
  kWrongProtocol,     // the type says TCP, the packet doesn't; or the version differs
  kBadTransport,      // the transport header is truncated or contradicts itself
  kHeaderTooLong,     // more than kMaxGsoHeader
  kMissingChecksum,   // a superpacket without NEEDS_CSUM
  kBadChecksumPlace,  // outside the packet, inside the IP header, or not the transport's own
  kNoSegments,        // a superpacket without payload or with gso_size 0
  kTooManySegments,
  kPacketTooLarge,  // a segment with its headers exceeds max_packet
};

// Judges `header` against the packet that follows it, and corrects what is known to be unreliable:
//  - header_length is computed again (the kernel gives the length of its first buffer);
//  - a superpacket's checksum place is computed again. If the kernel says no NEEDS_CSUM, the flag
//  is
//    set and the packet's checksum field gets the partial sum that belongs to it;
//  - the ECN bit and DATA_VALID are removed, and the fields that say nothing are zeroed;
//  - a superpacket that is one segment only becomes an ordinary packet.
// A kOk header may be handed to GsoSplitter, to encode_vnet(), and with it to a kernel.
// On any other verdict `header` is in an unspecified state and the packet should be dropped.
[[nodiscard]] VnetVerdict check_vnet(VnetHeader& header, MutableBytes packet,
                                     const VnetBounds& bounds);

// How many packets a checked superpacket stands for; 1 for an ordinary packet.
[[nodiscard]] size_t segments_of(const VnetHeader& header, size_t packet_size);

// A stable, lower-case name for counters: "unknown_flags".
[[nodiscard]] std::string_view name_of(VnetVerdict verdict);

}  // namespace culvert::net
