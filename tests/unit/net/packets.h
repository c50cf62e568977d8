// Packets for the tests of this folder, built by hand and with an independent checksum.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "common/base/address.h"

namespace culvert::net::testing {

using Packet = std::vector<std::byte>;

inline Packet bytes_of(std::initializer_list<int> values) {
  Packet packet;
  for (const int value : values)
    packet.push_back(static_cast<std::byte>(value));
  return packet;
}

inline void append(Packet& packet, Bytes bytes) {
  packet.insert(packet.end(), bytes.begin(), bytes.end());
}

inline IpAddress address(const char* text) {
  return IpAddress::parse(text).value();
}

inline Prefix prefix(const char* text) {
  return Prefix::parse(text).value();
}

// RFC 1071 written again, byte by byte: the oracle for production code.
inline uint16_t plain_checksum(Bytes bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = std::to_integer<uint32_t>(bytes[i]);
    sum += i % 2 == 0 ? byte << 8 : byte;
    if (sum > 0xffff) sum -= 0xffff;
  }
  return static_cast<uint16_t>(~sum & 0xffff);
}

// An IPv4 packet without options. `flags` is the 16-bit field of flags and fragment offset.
inline Packet ipv4(const char* source, const char* destination, int protocol, const Packet& payload,
                   int flags = 0) {
  const size_t total = 20 + payload.size();
  Packet packet = bytes_of({0x45, 0, static_cast<int>(total >> 8), static_cast<int>(total & 255), 0,
                            1, flags >> 8, flags & 255, 64, protocol, 0, 0});
  append(packet, address(source).bytes());
  append(packet, address(destination).bytes());
  store_be16(MutableBytes(packet).subspan(10), plain_checksum(packet));
  append(packet, payload);
  return packet;
}

inline Packet ipv6(const char* source, const char* destination, int next, const Packet& payload) {
  Packet packet = bytes_of({0x60, 0, 0, 0, static_cast<int>(payload.size() >> 8),
                            static_cast<int>(payload.size() & 255), next, 64});
  append(packet, address(source).bytes());
  append(packet, address(destination).bytes());
  append(packet, payload);
  return packet;
}

// A UDP datagram without checksum.
inline Packet udp(int source_port, int destination_port, size_t data = 8) {
  Packet packet =
      bytes_of({source_port >> 8, source_port & 255, destination_port >> 8, destination_port & 255,
                static_cast<int>((data + 8) >> 8), static_cast<int>((data + 8) & 255), 0, 0});
  packet.resize(packet.size() + data, std::byte{0x5a});
  return packet;
}

}  // namespace culvert::net::testing
