// TCP and UDP packets and superpackets for the tests of the offloads, and a second, slow opinion on
// what they mean: everything here is written from the RFCs and shares no code with common/net.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "tests/unit/net/packets.h"

namespace culvert::net::testing {

constexpr int kFin = 0x01, kSyn = 0x02, kRst = 0x04, kPsh = 0x08, kAck = 0x10, kUrg = 0x20,
              kEce = 0x40, kCwr = 0x80;

struct TcpFields {
  int source_port = 4000;
  int destination_port = 443;
  uint32_t sequence = 1000;
  uint32_t acknowledgement = 77;
  int flags = kAck;
  int window = 501;
  Packet options = bytes_of({1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6});  // timestamps
};

inline void append_be32(Packet& packet, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8)
    packet.push_back(static_cast<std::byte>(value >> shift & 255));
}

inline Packet pattern(size_t size, unsigned seed) {
  std::minstd_rand random(seed + 1);
  Packet packet(size);
  for (auto& byte : packet)
    byte = static_cast<std::byte>(random() >> 8);
  return packet;
}

// Without a checksum: see seal().
inline Packet tcp(const TcpFields& fields, const Packet& payload) {
  Packet packet = bytes_of({fields.source_port >> 8, fields.source_port & 255,
                            fields.destination_port >> 8, fields.destination_port & 255});
  append_be32(packet, fields.sequence);
  append_be32(packet, fields.acknowledgement);
  const int words = static_cast<int>(5 + fields.options.size() / 4);
  append(packet,
         bytes_of({words << 4, fields.flags, fields.window >> 8, fields.window & 255, 0, 0, 0, 0}));
  append(packet, fields.options);
  append(packet, payload);
  return packet;
}

inline int number_at(Bytes packet, size_t at) {
  return std::to_integer<int>(packet[at]) << 8 | std::to_integer<int>(packet[at + 1]);
}
inline bool is_v4(Bytes packet) {
  return std::to_integer<int>(packet[0]) >> 4 == 4;
}

// Where the transport header is and what it is. Extension headers: hop-by-hop, routing,
// destination.
struct Place {
  size_t at = 0;
  int protocol = 0;
};
inline Place transport_of(Bytes packet) {
  if (is_v4(packet))
    return {std::to_integer<size_t>(packet[0]) % 16 * 4, std::to_integer<int>(packet[9])};
  Place place{40, std::to_integer<int>(packet[6])};
  while (place.protocol == 0 || place.protocol == 43 || place.protocol == 60) {
    place.protocol = std::to_integer<int>(packet[place.at]);
    place.at += (std::to_integer<size_t>(packet[place.at + 1]) + 1) * 8;
  }
  return place;
}
inline size_t checksum_field(const Place& place) {
  return place.at + (place.protocol == 6 ? 16 : 6);
}
inline size_t headers_of(Bytes packet) {
  const Place place = transport_of(packet);
  return place.at +
         (place.protocol == 6 ? std::to_integer<size_t>(packet[place.at + 12]) / 16 * 4 : 8);
}

// The pseudo-header as a block of bytes, as the RFCs draw it.
inline Packet pseudo_header(Bytes packet) {
  const Place place = transport_of(packet);
  Packet block;
  append(block, is_v4(packet) ? packet.subspan(12, 8) : packet.subspan(8, 32));
  append_be32(block, static_cast<uint32_t>(packet.size() - place.at));
  append_be32(block, static_cast<uint32_t>(place.protocol));
  return block;
}

inline uint16_t transport_checksum(Bytes packet) {
  Packet block = pseudo_header(packet);
  append(block, packet.subspan(transport_of(packet).at));
  return plain_checksum(block);
}

// Fills in lengths and checksums of a complete packet.
inline Packet seal(Packet packet) {
  const MutableBytes bytes(packet);
  const Place place = transport_of(packet);
  if (place.protocol == 17)
    store_be16(bytes.subspan(place.at + 4), static_cast<uint16_t>(packet.size() - place.at));
  if (is_v4(packet)) {
    store_be16(bytes.subspan(2), static_cast<uint16_t>(packet.size()));
    store_be16(bytes.subspan(10), 0);
    store_be16(bytes.subspan(10), plain_checksum(bytes.first(place.at)));
  } else {
    store_be16(bytes.subspan(4), static_cast<uint16_t>(packet.size() - 40));
  }
  const MutableBytes field = bytes.subspan(checksum_field(place), 2);
  store_be16(field, 0);
  const uint16_t sum = transport_checksum(packet);
  store_be16(field, sum != 0 ? sum : 0xffff);
  return packet;
}

// As the kernel hands it out: the checksum field holds the sum of the pseudo-header.
inline Packet seal_partially(Packet packet) {
  packet = seal(std::move(packet));
  const auto partial = static_cast<uint16_t>(~plain_checksum(pseudo_header(packet)));
  store_be16(MutableBytes(packet).subspan(checksum_field(transport_of(packet))), partial);
  return packet;
}

inline bool checksums_are_right(Bytes packet) {
  if (is_v4(packet) && plain_checksum(packet.first(transport_of(packet).at)) != 0) return false;
  return transport_checksum(packet) == 0;
}

// What a superpacket stands for, built packet by packet from its fields.
inline std::vector<Packet> plain_split(Bytes superpacket, size_t segment_size) {
  const Place place = transport_of(superpacket);
  const size_t headers = headers_of(superpacket);
  const size_t total = superpacket.size() - headers;
  std::vector<Packet> packets;
  for (size_t done = 0; done < total; done += segment_size) {
    const size_t size = std::min(segment_size, total - done);
    Packet packet(superpacket.begin(), superpacket.begin() + static_cast<ptrdiff_t>(headers));
    append(packet, superpacket.subspan(headers + done, size));
    const MutableBytes bytes(packet);
    if (is_v4(packet)) {
      const int id = number_at(packet, 4) + static_cast<int>(packets.size());
      store_be16(bytes.subspan(4), static_cast<uint16_t>(id));
    }
    if (place.protocol == 6) {
      const uint32_t sequence = load_be32(bytes.subspan(place.at + 4));
      store_be32(bytes.subspan(place.at + 4), static_cast<uint32_t>(sequence + done));
      auto& flags = packet[place.at + 13];
      if (done + size < total) flags &= ~std::byte{kFin | kPsh};
      if (done > 0) flags &= ~std::byte{kCwr};
    }
    packets.push_back(seal(std::move(packet)));
  }
  return packets;
}

}  // namespace culvert::net::testing
