#include "common/net/checksum.h"

#include <bit>
#include <cassert>
#include <cstring>

namespace culvert::net {
namespace {

uint16_t fold(uint64_t sum) {
  while (sum >> 16 != 0)
    sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

// Sums in the machine's byte order, four bytes a step, and swaps once at the end: the sum does not
// care about byte order (RFC 1071 section 2 (B)).
uint16_t sum_of(Bytes bytes) {
  uint64_t sum = 0;
  size_t at = 0;
  for (; at + 4 <= bytes.size(); at += 4) {
    uint32_t word = 0;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    sum += word;
  }
  uint32_t last = 0;
  if (at < bytes.size()) std::memcpy(&last, bytes.data() + at, bytes.size() - at);
  const uint16_t folded = fold(sum + last);
  if constexpr (std::endian::native == std::endian::big) return folded;
  return static_cast<uint16_t>(folded << 8 | folded >> 8);
}

}  // namespace

void ChecksumSum::add(Bytes bytes) {
  sum_ += sum_of(bytes);
}

uint16_t ChecksumSum::folded() const {
  return fold(sum_);
}

uint16_t internet_checksum(Bytes bytes) {
  ChecksumSum sum;
  sum.add(bytes);
  return sum.checksum();
}

ChecksumSum pseudo_header_sum(const IpAddress& source, const IpAddress& destination,
                              uint8_t protocol, uint32_t length) {
  assert(source.family() == destination.family());
  ChecksumSum sum;
  sum.add(source.bytes());
  sum.add(destination.bytes());
  sum.add_word(protocol);
  sum.add_word(static_cast<uint16_t>(length >> 16));
  sum.add_word(static_cast<uint16_t>(length & 0xffff));
  return sum;
}

}  // namespace culvert::net
