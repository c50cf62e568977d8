#include "common/base/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/base/text.h"

namespace culvert {
namespace {

Error bad(std::string_view what, std::string_view text, std::string_view hint) {
  return fail(ErrorCode::kUsage, "\"" + escape_for_display(text) + "\" is not " + std::string(what),
              {}, std::string(hint));
}

// The bytes of `address` with everything after the first `length` bits cleared.
IpAddress masked(const IpAddress& address, uint8_t length) {
  std::array<std::byte, 16> bytes{};
  std::copy(address.bytes().begin(), address.bytes().end(), bytes.begin());
  for (size_t i = 0; i < address.bytes().size(); ++i) {
    const int keep = std::clamp<int>(length - static_cast<int>(i) * 8, 0, 8);
    bytes[i] &= static_cast<std::byte>(0xff00U >> keep & 0xffU);
  }
  return IpAddress::from_bytes(Bytes(bytes).first(address.bytes().size()));
}

}  // namespace

IpAddress IpAddress::v4(std::array<std::byte, 4> bytes) {
  return from_bytes(bytes);
}

IpAddress IpAddress::v4(uint32_t host_order) {
  std::array<std::byte, 4> bytes;
  store_be32(bytes, host_order);
  return from_bytes(bytes);
}

IpAddress IpAddress::v6(std::array<std::byte, 16> bytes) {
  return from_bytes(bytes);
}

IpAddress IpAddress::from_bytes(Bytes bytes) {
  assert(bytes.size() == 4 || bytes.size() == 16);
  IpAddress address;
  address.family_ = bytes.size() == 4 ? Family::kV4 : Family::kV6;
  std::copy(bytes.begin(), bytes.end(), address.bytes_.begin());
  return address;
}

Result<IpAddress> IpAddress::parse(std::string_view text) {
  const std::string terminated(text);
  std::array<std::byte, 16> bytes{};
  if (text.find('\0') == std::string_view::npos) {
    if (inet_pton(AF_INET, terminated.c_str(), bytes.data()) == 1)
      return from_bytes(Bytes(bytes).first(4));
    if (inet_pton(AF_INET6, terminated.c_str(), bytes.data()) == 1) return from_bytes(bytes);
  }
  return bad("an IP address", text, "write it like 192.0.2.1 or 2001:db8::1");
}

bool IpAddress::is_unspecified() const {
  return std::all_of(bytes_.begin(), bytes_.end(), [](std::byte b) { return b == std::byte{0}; });
}

bool IpAddress::is_multicast() const {
  return is_v4() ? (v4_value() >> 28) == 0xe : bytes_[0] == std::byte{0xff};
}

bool IpAddress::is_link_local() const {
  if (is_v4()) return (v4_value() >> 16) == 0xa9fe;
  return bytes_[0] == std::byte{0xfe} && (bytes_[1] & std::byte{0xc0}) == std::byte{0x80};
}

bool IpAddress::is_loopback() const {
  if (is_v4()) return (v4_value() >> 24) == 127;
  return *this == from_bytes(std::array<std::byte, 16>{}).plus(1);
}

IpAddress IpAddress::plus(uint64_t offset) const {
  std::array<std::byte, 16> out = bytes_;
  uint64_t rest = offset;
  unsigned carry = 0;  // apart from `rest`, which may have no room for it
  for (size_t i = bytes().size(); i-- > 0 && (rest != 0 || carry != 0);) {
    const unsigned sum =
        std::to_integer<unsigned>(out[i]) + static_cast<unsigned>(rest & 0xff) + carry;
    out[i] = static_cast<std::byte>(sum & 0xff);
    carry = sum >> 8;
    rest >>= 8;
  }
  return from_bytes(Bytes(out).first(bytes().size()));
}

std::string IpAddress::to_string() const {
  char text[INET6_ADDRSTRLEN];
  inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes_.data(), text, sizeof text);
  return text;
}

Result<Prefix> Prefix::parse(std::string_view text) {
  const size_t slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return bad("a network", text, "write it like 10.0.0.0/8 or fd00::/64");
  if (slash == std::string_view::npos) return host(*address);
  const auto length = parse_decimal(text.substr(slash + 1), 0, address->bits());
  if (!length)
    return bad("a network", text,
               address->is_v4() ? "the length goes from 0 to 32" : "the length goes from 0 to 128");
  return Prefix{*address, static_cast<uint8_t>(*length)};
}

// Asked for the source of each packet, so it compares whole bytes at once.
bool Prefix::contains(const IpAddress& other) const {
  if (other.family() != address.family()) return false;
  const Bytes ours = address.bytes();
  const Bytes theirs = other.bytes();
  const size_t whole = length / 8;
  if (std::memcmp(ours.data(), theirs.data(), whole) != 0) return false;
  const unsigned rest = length % 8U;
  if (rest == 0) return true;
  const auto mask = static_cast<std::byte>(0xff00U >> rest & 0xffU);
  return (ours[whole] & mask) == (theirs[whole] & mask);
}

bool Prefix::overlaps(const Prefix& other) const {
  return length <= other.length ? contains(other.address) : other.contains(address);
}

Prefix Prefix::network() const {
  return {masked(address, length), length};
}

std::string Prefix::netmask() const {
  assert(address.is_v4());
  return masked(IpAddress::v4(0xffffffffU), length).to_string();
}

std::string Prefix::to_string() const {
  return address.to_string() + "/" + std::to_string(length);
}

Result<uint8_t> length_of_netmask(std::string_view mask) {
  const auto address = IpAddress::parse(mask);
  if (address && address->is_v4()) {
    const uint32_t value = address->v4_value();
    const int ones = std::countl_one(value);
    if (std::popcount(value) == ones) return static_cast<uint8_t>(ones);
  }
  return bad("a netmask", mask, "write it like 255.255.255.0");
}

Result<Endpoint> Endpoint::parse(std::string_view text) {
  constexpr std::string_view kHint = "write it like 192.0.2.1:443 or [2001:db8::1]:443";
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return bad("an address and port", text, kHint);
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  const auto address = IpAddress::parse(host);
  const auto port = parse_decimal(text.substr(colon + 1), 1, 65535);
  if (!address || !port || address->is_v6() != bracketed)
    return bad("an address and port", text, kHint);
  return Endpoint{*address, static_cast<uint16_t>(*port)};
}

Endpoint Endpoint::from_sockaddr(const sockaddr_storage& storage) {
  if (storage.ss_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &storage, sizeof in);
    return {IpAddress::v4(ntohl(in.sin_addr.s_addr)), ntohs(in.sin_port)};
  }
  sockaddr_in6 in6{};
  std::memcpy(&in6, &storage, sizeof in6);
  const Bytes bytes = std::as_bytes(std::span(in6.sin6_addr.s6_addr));
  const bool mapped = IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr);
  return {IpAddress::from_bytes(mapped ? bytes.last(4) : bytes), ntohs(in6.sin6_port)};
}

socklen_t Endpoint::to_sockaddr(sockaddr_storage& storage) const {
  storage = {};
  if (address.is_v4()) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    in.sin_addr.s_addr = htonl(address.v4_value());
    std::memcpy(&storage, &in, sizeof in);
    return sizeof in;
  }
  sockaddr_in6 in6{};
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(port);
  std::memcpy(&in6.sin6_addr, address.bytes().data(), 16);
  std::memcpy(&storage, &in6, sizeof in6);
  return sizeof in6;
}

std::string Endpoint::to_string() const {
  const std::string host = address.to_string();
  return (address.is_v6() ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

}  // namespace culvert
