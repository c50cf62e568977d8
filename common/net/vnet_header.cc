#include "common/net/vnet_header.h"

#include <algorithm>
#include <cassert>

#include "common/net/checksum.h"
#include "common/net/ip_packet.h"

namespace culvert::net {
namespace {

constexpr size_t kTcpHeaderSize = 20;
constexpr size_t kUdpHeaderSize = 8;
constexpr uint16_t kTcpChecksumOffset = 16;
constexpr uint16_t kUdpChecksumOffset = 6;

uint16_t load_le16(Bytes bytes) {
  return static_cast<uint16_t>(std::to_integer<unsigned>(bytes[0]) |
                               std::to_integer<unsigned>(bytes[1]) << 8);
}

void store_le16(MutableBytes bytes, uint16_t value) {
  bytes[0] = static_cast<std::byte>(value & 0xff);
  bytes[1] = static_cast<std::byte>(value >> 8);
}

// Length of the transport header that begins `transport`; 0 if it is not all there.
size_t transport_header_length(uint8_t protocol, Bytes transport) {
  if (protocol == kProtocolUdp) return transport.size() >= kUdpHeaderSize ? kUdpHeaderSize : 0;
  if (protocol != kProtocolTcp || transport.size() < kTcpHeaderSize) return 0;
  const size_t length = (std::to_integer<size_t>(transport[12]) >> 4) * 4;
  return length >= kTcpHeaderSize && length <= transport.size() ? length : 0;
}

uint16_t checksum_offset_of(uint8_t protocol) {
  return protocol == kProtocolTcp ? kTcpChecksumOffset : kUdpChecksumOffset;
}

// Does the packet carry what the type promises?
bool matches(GsoType type, const IpView& view) {
  switch (type) {
    case GsoType::kNone:
      return true;
    case GsoType::kTcpV4:
      return view.family == Family::kV4 && view.protocol == kProtocolTcp;
    case GsoType::kTcpV6:
      return view.family == Family::kV6 && view.protocol == kProtocolTcp;
    case GsoType::kUdpL4:
      return view.protocol == kProtocolUdp;
  }
  return false;
}

// From a peer nothing but 0 and NEEDS_CSUM and the plain types; the kernel may add its hints, which
// tell us nothing.
VnetVerdict strip_hints(VnetHeader& header, VnetOrigin origin) {
  auto type = static_cast<uint8_t>(header.type);
  if (origin == VnetOrigin::kKernel) {
    header.flags &= static_cast<uint8_t>(~kVnetDataValid);
    const auto plain = static_cast<uint8_t>(type & ~kGsoEcnBit);
    const auto as_type = static_cast<GsoType>(plain);
    if (as_type == GsoType::kTcpV4 || as_type == GsoType::kTcpV6) header.type = as_type;
  }
  if ((header.flags & ~kVnetNeedsChecksum) != 0) return VnetVerdict::kUnknownFlags;
  switch (header.type) {
    case GsoType::kNone:
    case GsoType::kTcpV4:
    case GsoType::kTcpV6:
    case GsoType::kUdpL4:
      return VnetVerdict::kOk;
  }
  return VnetVerdict::kUnknownType;
}

// What a kernel must have in one piece to find the checksum field: all that header_length says of
// an ordinary packet.
uint16_t end_of_checksum(const VnetHeader& header) {
  return static_cast<uint16_t>(header.checksum_start + header.checksum_offset + 2);
}

// The kernel may leave the checksum of a packet inside the packet to us, so that nothing but the
// bounds can be checked: behind the fixed IP header, within the packet.
VnetVerdict check_place_of_kernel(VnetHeader& header, Bytes packet) {
  const auto family = family_of(packet);
  if (!family) return VnetVerdict::kNotIp;
  const size_t ip_header = *family == Family::kV4 ? kIpv4HeaderSize : kIpv6HeaderSize;
  const size_t field = size_t{header.checksum_start} + header.checksum_offset;
  if (header.checksum_start < ip_header || field + 2 > packet.size())
    return VnetVerdict::kBadChecksumPlace;
  header.header_length = end_of_checksum(header);
  return VnetVerdict::kOk;
}

// A peer may leave only the sum of TCP or UDP directly in the packet.
VnetVerdict check_place_of_peer(VnetHeader& header, Bytes packet) {
  const auto view = parse_ip(packet);
  if (!view) return VnetVerdict::kNotIp;
  if (view->total_length != packet.size()) return VnetVerdict::kWrongLength;
  if (view->fragment) return VnetVerdict::kFragment;
  if (view->protocol != kProtocolTcp && view->protocol != kProtocolUdp)
    return VnetVerdict::kWrongProtocol;
  if (transport_header_length(view->protocol, view->payload) == 0)
    return VnetVerdict::kBadTransport;
  if (header.checksum_start != view->header_length ||
      header.checksum_offset != checksum_offset_of(view->protocol)) {
    return VnetVerdict::kBadChecksumPlace;
  }
  header.header_length = end_of_checksum(header);
  return VnetVerdict::kOk;
}

VnetVerdict check_ordinary(VnetHeader& header, Bytes packet, const VnetBounds& bounds) {
  if (packet.empty()) return VnetVerdict::kNotIp;
  if (packet.size() > bounds.max_packet) return VnetVerdict::kPacketTooLarge;
  if (!header.needs_checksum()) {
    // Nothing is left to do for it; whether it is IP is the router's question.
    header = VnetHeader{};
    return VnetVerdict::kOk;
  }
  header.gso_size = 0;
  return bounds.origin == VnetOrigin::kKernel ? check_place_of_kernel(header, packet)
                                              : check_place_of_peer(header, packet);
}

VnetVerdict check_size(const VnetHeader& header, size_t payload, const VnetBounds& bounds) {
  if (payload == 0 || header.gso_size == 0) return VnetVerdict::kNoSegments;
  const size_t segments = (payload + header.gso_size - 1) / header.gso_size;
  if (segments > bounds.max_segments) return VnetVerdict::kTooManySegments;
  const size_t largest = header.header_length + std::min<size_t>(header.gso_size, payload);
  if (largest > bounds.max_packet) return VnetVerdict::kPacketTooLarge;
  return VnetVerdict::kOk;
}

// Puts the sum of the pseudo-header where a packet with NEEDS_CSUM has it.
void make_checksum_partial(MutableBytes packet, const IpView& view, const VnetHeader& header) {
  const auto length = static_cast<uint32_t>(packet.size() - header.checksum_start);
  const ChecksumSum sum = pseudo_header_sum(view.source, view.destination, view.protocol, length);
  const size_t field = size_t{header.checksum_start} + header.checksum_offset;
  store_be16(packet.subspan(field), sum.folded());
}

VnetVerdict check_superpacket(VnetHeader& header, MutableBytes packet, const VnetBounds& bounds) {
  const auto view = parse_ip(packet);
  if (!view) return VnetVerdict::kNotIp;
  if (view->total_length != packet.size()) return VnetVerdict::kWrongLength;
  if (view->fragment) return VnetVerdict::kFragment;
  if (!matches(header.type, *view)) return VnetVerdict::kWrongProtocol;
  const size_t transport = transport_header_length(view->protocol, view->payload);
  if (transport == 0) return VnetVerdict::kBadTransport;
  const size_t header_length = view->header_length + transport;
  if (header_length > kMaxGsoHeader) return VnetVerdict::kHeaderTooLong;
  const bool partial = header.needs_checksum();
  if (!partial && bounds.origin == VnetOrigin::kPeer) return VnetVerdict::kMissingChecksum;

  header.flags = kVnetNeedsChecksum;
  header.header_length = static_cast<uint16_t>(header_length);
  header.checksum_start = static_cast<uint16_t>(view->header_length);
  header.checksum_offset = checksum_offset_of(view->protocol);
  // Linux may leave the flag out for what was merged and verified on the way in.
  if (!partial) make_checksum_partial(packet, *view, header);
  const size_t payload = packet.size() - header_length;
  const VnetVerdict verdict = check_size(header, payload, bounds);
  if (verdict == VnetVerdict::kOk && payload <= header.gso_size) {
    header.type = GsoType::kNone;
    header.gso_size = 0;
    header.header_length = end_of_checksum(header);
  }
  return verdict;
}

}  // namespace

std::optional<VnetHeader> decode_vnet(Bytes bytes) {
  if (bytes.size() < kVnetHeaderSize) return std::nullopt;
  VnetHeader header;
  header.flags = std::to_integer<uint8_t>(bytes[0]);
  header.type = static_cast<GsoType>(bytes[1]);
  header.header_length = load_le16(bytes.subspan(2));
  header.gso_size = load_le16(bytes.subspan(4));
  header.checksum_start = load_le16(bytes.subspan(6));
  header.checksum_offset = load_le16(bytes.subspan(8));
  return header;
}

void encode_vnet(MutableBytes at, const VnetHeader& header) {
  assert(at.size() == kVnetHeaderSize || at.size() == kVnetHeaderSizeLong);
  at[0] = static_cast<std::byte>(header.flags);
  at[1] = static_cast<std::byte>(header.type);
  store_le16(at.subspan(2), header.header_length);
  store_le16(at.subspan(4), header.gso_size);
  store_le16(at.subspan(6), header.checksum_start);
  store_le16(at.subspan(8), header.checksum_offset);
  if (at.size() == kVnetHeaderSizeLong) store_le16(at.subspan(10), 0);
}

VnetVerdict check_vnet(VnetHeader& header, MutableBytes packet, const VnetBounds& bounds) {
  const VnetVerdict verdict = strip_hints(header, bounds.origin);
  if (verdict != VnetVerdict::kOk) return verdict;
  return header.is_superpacket() ? check_superpacket(header, packet, bounds)
                                 : check_ordinary(header, packet, bounds);
}

size_t segments_of(const VnetHeader& header, size_t packet_size) {
  if (!header.is_superpacket()) return 1;
  assert(header.gso_size > 0 && packet_size > header.header_length);
  return (packet_size - header.header_length + header.gso_size - 1) / header.gso_size;
}

std::string_view name_of(VnetVerdict verdict) {
  switch (verdict) {
    case VnetVerdict::kOk:
      return "ok";
    case VnetVerdict::kUnknownFlags:
      return "unknown_flags";
    case VnetVerdict::kUnknownType:
      return "unknown_type";
    case VnetVerdict::kNotIp:
      return "not_ip";
    case VnetVerdict::kWrongLength:
      return "wrong_length";
    case VnetVerdict::kFragment:
      return "fragment";
    case VnetVerdict::kWrongProtocol:
      return "wrong_protocol";
    case VnetVerdict::kBadTransport:
      return "bad_transport";
    case VnetVerdict::kHeaderTooLong:
      return "header_too_long";
    case VnetVerdict::kMissingChecksum:
      return "missing_checksum";
    case VnetVerdict::kBadChecksumPlace:
      return "bad_checksum_place";
    case VnetVerdict::kNoSegments:
      return "no_segments";
    case VnetVerdict::kTooManySegments:
      return "too_many_segments";
    case VnetVerdict::kPacketTooLarge:
      return "packet_too_large";
  }
  return "unknown";
}

}  // namespace culvert::net
