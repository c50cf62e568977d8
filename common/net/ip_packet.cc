#include "common/net/ip_packet.h"

#include <cstring>

namespace culvert::net {
namespace {

// IPv6 extension headers that are passed on the way to the transport header (RFC 8200 section 4).
// ESP is not among them: nothing behind it can be read.
constexpr uint8_t kHopByHop = 0;
constexpr uint8_t kRouting = 43;
constexpr uint8_t kFragment = 44;
constexpr uint8_t kAuthentication = 51;
constexpr uint8_t kDestinationOptions = 60;
constexpr int kMaxExtensionHeaders = 8;

constexpr uint8_t kProtocolDccp = 33;
constexpr uint8_t kProtocolSctp = 132;
constexpr uint8_t kProtocolUdpLite = 136;

uint8_t byte_at(Bytes bytes, size_t i) {
  return std::to_integer<uint8_t>(bytes[i]);
}

// Where the transport header begins and what it is.
struct Layout {
  size_t header_length = 0;
  size_t total_length = 0;
  uint8_t protocol = 0;
  bool fragment = false;
  uint16_t fragment_offset = 0;
};

// REQUIRES: family_of(packet) == kV4.
std::optional<Layout> layout_v4(Bytes packet) {
  Layout layout;
  layout.header_length = (byte_at(packet, 0) & 0x0fu) * size_t{4};
  layout.total_length = load_be16(packet.subspan(2));
  if (layout.header_length < kIpv4HeaderSize || layout.total_length < layout.header_length ||
      layout.total_length > packet.size()) {
    return std::nullopt;
  }
  const unsigned flags = load_be16(packet.subspan(6));
  layout.fragment_offset = static_cast<uint16_t>((flags & 0x1fffu) * 8);
  layout.fragment = (flags & 0x3fffu) != 0;  // "more fragments" or an offset
  layout.protocol = byte_at(packet, 9);
  return layout;
}

// Length of the extension header that begins `rest`; 0 if it is not one or not all there.
size_t extension_length(uint8_t type, Bytes rest) {
  if (rest.size() < 8) return 0;
  size_t length = 0;
  switch (type) {
    case kHopByHop:
    case kRouting:
    case kDestinationOptions:
      length = (byte_at(rest, 1) + size_t{1}) * 8;
      break;
    case kFragment:
      length = 8;
      break;
    case kAuthentication:
      length = (byte_at(rest, 1) + size_t{2}) * 4;
      break;
    default:
      return 0;
  }
  return length <= rest.size() ? length : 0;
}

// REQUIRES: family_of(packet) == kV6.
std::optional<Layout> layout_v6(Bytes packet) {
  Layout layout;
  layout.header_length = kIpv6HeaderSize;
  layout.total_length = kIpv6HeaderSize + load_be16(packet.subspan(4));
  if (layout.total_length > packet.size()) return std::nullopt;
  layout.protocol = byte_at(packet, 6);
  const Bytes whole = packet.first(layout.total_length);
  for (int i = 0; i < kMaxExtensionHeaders; ++i) {
    const Bytes rest = whole.subspan(layout.header_length);
    const size_t length = extension_length(layout.protocol, rest);
    if (length == 0) break;
    if (layout.protocol == kFragment) {
      const unsigned field = load_be16(rest.subspan(2));
      layout.fragment_offset = static_cast<uint16_t>(field & 0xfff8u);
      // An "atomic" fragment (offset 0, no more to come) is a whole packet (RFC 6946).
      layout.fragment = (field & 0xfff9u) != 0;
    }
    layout.protocol = byte_at(rest, 0);
    layout.header_length += length;
    // What follows in a later fragment is data, whatever the number says.
    if (layout.fragment_offset != 0) break;
  }
  return layout;
}

std::optional<Layout> layout_of(Bytes packet, Family family) {
  return family == Family::kV4 ? layout_v4(packet) : layout_v6(packet);
}

bool has_ports(uint8_t protocol) {
  return protocol == kProtocolTcp || protocol == kProtocolUdp || protocol == kProtocolDccp ||
         protocol == kProtocolSctp || protocol == kProtocolUdpLite;
}

__extension__ typedef unsigned __int128 Wide;

// One multiplication, both halves folded: every bit of the input reaches every bit of the result.
uint64_t mix(uint64_t a, uint64_t b) {
  const Wide product = Wide{a} * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t load_native64(Bytes bytes) {
  uint64_t value = 0;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

// Odd constants with mixed bits (from the fractional parts of the golden ratio and of pi).
constexpr uint64_t kSalt1 = 0x9e3779b97f4a7c15;
constexpr uint64_t kSalt2 = 0x243f6a8885a308d3;

// Source and destination stand side by side in both versions: 8 or 32 bytes.
uint64_t mix_addresses(Bytes packet, Family family, uint64_t state) {
  if (family == Family::kV4) return mix(state ^ load_native64(packet.subspan(12)), kSalt1);
  for (size_t at = 8; at < kIpv6HeaderSize; at += 8) {
    state = mix(state ^ load_native64(packet.subspan(at)), kSalt1 + at * 2);
  }
  return state;
}

}  // namespace

std::optional<Family> whole_ip_family(Bytes packet) {
  const auto family = family_of(packet);
  return family && layout_of(packet, *family) ? family : std::nullopt;
}

std::optional<IpView> parse_ip(Bytes packet) {
  const auto family = family_of(packet);
  if (!family) return std::nullopt;
  const auto layout = layout_of(packet, *family);
  if (!layout) return std::nullopt;

  IpView view;
  view.family = *family;
  view.source = source_of(packet, *family);
  view.destination = destination_of(packet, *family);
  view.protocol = layout->protocol;
  view.traffic_class = *family == Family::kV4
                           ? byte_at(packet, 1)
                           : static_cast<uint8_t>(load_be16(packet) >> 4 & 0xffu);
  view.fragment = layout->fragment;
  view.fragment_offset = layout->fragment_offset;
  view.header_length = layout->header_length;
  view.total_length = layout->total_length;
  view.payload =
      packet.subspan(layout->header_length, layout->total_length - layout->header_length);
  return view;
}

uint32_t flow_hash(Bytes packet, uint32_t seed) {
  const auto family = family_of(packet);
  if (!family) return seed;
  uint64_t state = mix_addresses(packet, *family, kSalt2 ^ seed);
  uint64_t rest = 0;
  if (const auto layout = layout_of(packet, *family)) {
    rest = layout->protocol;
    const bool ports_there = layout->total_length >= layout->header_length + 4;
    if (!layout->fragment && ports_there && has_ports(layout->protocol)) {
      rest |= uint64_t{load_be32(packet.subspan(layout->header_length))} << 8;
    }
  }
  state = mix(state ^ rest, kSalt1);
  return static_cast<uint32_t>(state ^ state >> 32);
}

}  // namespace culvert::net
