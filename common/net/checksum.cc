#include "common/net/checksum.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace culvert::net {
namespace {

// Fixed steps instead of a loop: a mispredicted branch costs more than all of them.
uint16_t fold(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);  // at most 33 bits
  sum = (sum & 0xffff) + (sum >> 16);      // at most 18
  sum = (sum & 0xffff) + (sum >> 16);      // at most 17
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

// From a sum of words in the machine's order. The sum does not care about byte order (RFC 1071
// section 2 (B)), so everything below adds as it loads and swaps once at the end.
uint16_t fold_native(uint64_t sum) {
  const uint16_t folded = fold(sum);
  if constexpr (std::endian::native == std::endian::big) return folded;
  return static_cast<uint16_t>(folded << 8 | folded >> 8);
}

template <typename Word>
uint64_t load(const std::byte* at) {
  Word word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// Two halves into two sums, 16 bytes a step: the upper 32 bits collect carries (no overflow before
// 2^34 bytes), so that no step waits for the one before, as a chain of additions with carry would.
uint64_t native_sum(const std::byte* at, size_t size) {
  uint64_t low = 0;
  uint64_t high = 0;
  for (; size >= 16; at += 16, size -= 16) {
    const uint64_t first = load<uint64_t>(at);
    const uint64_t second = load<uint64_t>(at + 8);
    low += (first & 0xffffffff) + (second & 0xffffffff);
    high += (first >> 32) + (second >> 32);
  }
  for (; size >= 4; at += 4, size -= 4)
    low += load<uint32_t>(at);
  uint32_t last = 0;
  if (size != 0) std::memcpy(&last, at, size);  // an empty span may have no address
  return low + high + last;
}

#if defined(__x86_64__)
constexpr size_t kWideBlock = 128;  // bytes a step
// Each step adds less than 2^17 to a 32-bit lane: 2^13 steps are far from overflow.
constexpr size_t kWideStretch = kWideBlock << 13;
// Below this the set-up costs what the wide steps save.
constexpr size_t kWideWorthwhile = kWideBlock;

__attribute__((target("avx2"))) __m256i add_lanes(__m256i sum, const std::byte* at) {
  // The only instruction that multiplies and adds neighbouring words takes them as signed. With the
  // top bit flipped a word w is w - 2^15, and the sum of that many 2^15 is added at the end.
  const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  const __m256i flipped = _mm256_xor_si256(words, _mm256_set1_epi16(INT16_MIN));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(flipped, _mm256_set1_epi16(1)));
}

// REQUIRES: size is a multiple of kWideBlock and at most kWideStretch.
__attribute__((target("avx2"))) uint64_t wide_sum(const std::byte* at, size_t size) {
  __m256i sums[4] = {};
  for (const std::byte* const end = at + size; at != end; at += kWideBlock) {
    sums[0] = add_lanes(sums[0], at);
    sums[1] = add_lanes(sums[1], at + 32);
    sums[2] = add_lanes(sums[2], at + 64);
    sums[3] = add_lanes(sums[3], at + 96);
  }
  const __m256i sum =
      _mm256_add_epi32(_mm256_add_epi32(sums[0], sums[1]), _mm256_add_epi32(sums[2], sums[3]));
  alignas(32) int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sum);
  int64_t total = static_cast<int64_t>(size / 2) << 15;
  for (const int32_t lane : lanes)
    total += lane;
  return static_cast<uint64_t>(total);
}
#endif

uint16_t folded_sum(Bytes bytes) {
#if defined(__x86_64__)
  if (bytes.size() >= kWideWorthwhile && detail::has_wide_sum())
    return detail::folded_sum_wide(bytes);
#endif
  return detail::folded_sum_portable(bytes);
}

}  // namespace

namespace detail {

uint16_t folded_sum_portable(Bytes bytes) {
  return fold_native(native_sum(bytes.data(), bytes.size()));
}

#if defined(__x86_64__)
// Reads a word that the compiler's run-time library filled in at start: cheap enough to ask for
// every block, and no state of ours.
bool has_wide_sum() {
  return __builtin_cpu_supports("avx2") != 0;
}

uint16_t folded_sum_wide(Bytes bytes) {
  uint64_t sum = 0;
  while (bytes.size() >= kWideBlock) {
    const size_t stretch = std::min(bytes.size() & ~(kWideBlock - 1), kWideStretch);
    sum += wide_sum(bytes.data(), stretch);
    bytes = bytes.subspan(stretch);
  }
  return fold_native(sum + native_sum(bytes.data(), bytes.size()));
}
#else
bool has_wide_sum() {
  return false;
}

uint16_t folded_sum_wide(Bytes bytes) {
  return folded_sum_portable(bytes);
}
#endif

}  // namespace detail

void ChecksumSum::add(Bytes bytes) {
  sum_ += folded_sum(bytes);
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

ChecksumSum pseudo_header_sum(Bytes addresses, uint8_t protocol, uint32_t length) {
  assert(addresses.size() == 8 || addresses.size() == 32);
  ChecksumSum sum;
  sum.add(addresses);
  sum.add_word(protocol);
  sum.add_word(static_cast<uint16_t>(length >> 16));
  sum.add_word(static_cast<uint16_t>(length & 0xffff));
  return sum;
}

}  // namespace culvert::net
