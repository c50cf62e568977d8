// IP addresses, prefixes and endpoints: parse, print, compare. No I/O.
// In base, because the wire codecs, TLS (names in certificates), the configuration and the kernel
// interface all speak of addresses and don't include each other.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/result.h"

namespace culvert {

enum class Family : uint8_t { kV4, kV6 };

class IpAddress {
 public:
  // 0.0.0.0
  constexpr IpAddress() = default;
  static IpAddress v4(std::array<std::byte, 4> bytes);
  static IpAddress v4(uint32_t host_order);
  static IpAddress v6(std::array<std::byte, 16> bytes);
  // REQUIRES: 4 or 16 bytes, network order.
  static IpAddress from_bytes(Bytes bytes);
  // Textual form as inet_pton(3) takes it; no brackets, no zone.
  static Result<IpAddress> parse(std::string_view text);

  [[nodiscard]] Family family() const { return family_; }
  [[nodiscard]] bool is_v4() const { return family_ == Family::kV4; }
  [[nodiscard]] bool is_v6() const { return family_ == Family::kV6; }
  // 4 or 16 bytes, network order; valid as long as this object.
  [[nodiscard]] Bytes bytes() const { return Bytes(bytes_).first(is_v4() ? 4 : 16); }
  [[nodiscard]] uint8_t bits() const { return is_v4() ? 32 : 128; }
  // REQUIRES: is_v4(). Host order.
  [[nodiscard]] uint32_t v4_value() const { return load_be32(bytes_); }

  [[nodiscard]] bool is_unspecified() const;
  [[nodiscard]] bool is_multicast() const;
  [[nodiscard]] bool is_link_local() const;
  [[nodiscard]] bool is_loopback() const;

  // The address `offset` places further on; wraps within the family.
  [[nodiscard]] IpAddress plus(uint64_t offset) const;
  [[nodiscard]] std::string to_string() const;

  friend constexpr auto operator<=>(const IpAddress&, const IpAddress&) = default;

 private:
  Family family_ = Family::kV4;
  std::array<std::byte, 16> bytes_{};
};

// An address with a length; host bits may be set (the address of an interface) or not (a network).
struct Prefix {
  IpAddress address;
  uint8_t length = 0;  // 0..32 or 0..128

  // "10.0.0.0/8", "fd00::/64"; a bare address is a host prefix. Host bits are kept.
  static Result<Prefix> parse(std::string_view text);
  static Prefix host(const IpAddress& address) { return {address, address.bits()}; }

  [[nodiscard]] bool contains(const IpAddress& other) const;
  [[nodiscard]] bool overlaps(const Prefix& other) const;
  // The same prefix with the host bits cleared.
  [[nodiscard]] Prefix network() const;
  // IPv4: "255.255.0.0". REQUIRES: address.is_v4().
  [[nodiscard]] std::string netmask() const;
  [[nodiscard]] std::string to_string() const;

  friend auto operator<=>(const Prefix&, const Prefix&) = default;
};

// "255.255.0.0" to 16. Fails unless the mask is contiguous.
Result<uint8_t> length_of_netmask(std::string_view mask);

struct Endpoint {
  IpAddress address;
  uint16_t port = 0;

  // "192.0.2.1:443", "[2001:db8::1]:443". The port is required.
  static Result<Endpoint> parse(std::string_view text);
  // REQUIRES: family AF_INET or AF_INET6. A v4-mapped IPv6 address becomes IPv4.
  static Endpoint from_sockaddr(const sockaddr_storage& storage);
  // Returns the length to pass to connect(2) or bind(2).
  socklen_t to_sockaddr(sockaddr_storage& storage) const;
  [[nodiscard]] std::string to_string() const;

  friend auto operator<=>(const Endpoint&, const Endpoint&) = default;
};

}  // namespace culvert

template <>
struct std::hash<culvert::IpAddress> {
  size_t operator()(const culvert::IpAddress& address) const noexcept {
    return std::hash<std::string_view>{}(culvert::as_text(address.bytes()));
  }
};
