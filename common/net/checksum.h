// The Internet checksum (RFC 1071): sums that can be continued, and the pseudo-header (RFC 9293
// section 3.1, RFC 8200 section 8.1). Pure; no packet formats beyond that.
#pragma once

#include <cstdint>

#include "common/base/address.h"
#include "common/base/bytes.h"

namespace culvert::net {

// The checksum of a packet's TCP or UDP.
enum class Sums : uint8_t {
  kDone,  // is its sender's affair: as it should be, or not
  kLeft,  // is left to whoever takes the packet on; its field holds anything (unsummed.h)
};

// An unfolded one's-complement sum of 16-bit big-endian words.
class ChecksumSum {
 public:
  // Continues with `bytes`. A block of odd length counts as padded with a zero byte, so that only
  // the last block may be odd.
  void add(Bytes bytes);
  void add_word(uint16_t word) { sum_ += word; }
  // The value for the checksum field, host order: the complement of the folded sum.
  [[nodiscard]] uint16_t checksum() const { return static_cast<uint16_t>(~folded()); }
  // The same for a field where 0 means "no checksum" (UDP, RFC 768): 0xffff stands in for it, which
  // is the same number in one's complement and so serves every other protocol too.
  [[nodiscard]] uint16_t checksum_or_ones() const {
    const uint16_t value = checksum();
    return value != 0 ? value : 0xffff;
  }
  // The folded sum itself: what a partial checksum (virtio NEEDS_CSUM) wants in the field.
  [[nodiscard]] uint16_t folded() const;

 private:
  uint64_t sum_ = 0;  // each block adds at most 16 bits: no overflow before 2^48 blocks
};

// The checksum of one block; 0 for a block that carries its own correct checksum.
[[nodiscard]] uint16_t internet_checksum(Bytes bytes);

// The sum over the pseudo-header of a TCP, UDP or ICMPv6 segment of `length` bytes.
// REQUIRES: both addresses of one family.
[[nodiscard]] ChecksumSum pseudo_header_sum(const IpAddress& source, const IpAddress& destination,
                                            uint8_t protocol, uint32_t length);
// The same for the addresses where they stand, side by side, in an IP header (8 or 32 bytes).
[[nodiscard]] ChecksumSum pseudo_header_sum(Bytes addresses, uint8_t protocol, uint32_t length);

// What ChecksumSum::add() is made of, apart for the tests: two ways to the folded sum of a block,
// and which of them this machine takes.
namespace detail {
[[nodiscard]] uint16_t folded_sum_portable(Bytes bytes);
[[nodiscard]] bool has_wide_sum();
// REQUIRES: has_wide_sum().
[[nodiscard]] uint16_t folded_sum_wide(Bytes bytes);
}  // namespace detail

}  // namespace culvert::net
