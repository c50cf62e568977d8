// ReplayWindow: which numbers have been seen, for as many of the last ones as a fast and disorderly
// path may mix up (RFC 6347 section 4.1.2.6, with the ring of RFC 6479). mbedTLS remembers 64
// records: two trains, or a fifth of a millisecond at some Gbit/s. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace culvert::tls {

class ReplayWindow {
 public:
  static constexpr uint64_t kSize = 4096;  // numbers; a power of two

  // Neither seen nor so old that nobody knows.
  [[nodiscard]] bool is_new(uint64_t number) const {
    if (number >= end_) return number >= begin_;
    return number >= begin_ && end_ - number <= kSize && (word(number) >> number % kBits & 1) == 0;
  }

  void mark(uint64_t number) {
    if (number >= end_) {
      // The words between the old end and the number are about others now.
      const uint64_t last = number / kBits;
      uint64_t next = (end_ + kBits - 1) / kBits;
      if (last >= kWords && next + kWords <= last) next = last - kWords + 1;
      for (; next <= last; ++next)
        words_[next % kWords] = 0;
      end_ = number + 1;
    }
    if (end_ - number <= kSize) words_[number / kBits % kWords] |= uint64_t{1} << number % kBits;
  }

  // Nothing up to this number is new from here on.
  void close_up_to(uint64_t number) { begin_ = number + 1; }

 private:
  static constexpr uint64_t kBits = 64;
  static constexpr uint64_t kWords = kSize / kBits + 1;  // one more: the newest word is never full

  [[nodiscard]] uint64_t word(uint64_t number) const { return words_[number / kBits % kWords]; }

  uint64_t begin_ = 0;
  uint64_t end_ = 0;  // one more than the largest that was marked
  std::array<uint64_t, kWords> words_{};
};

}  // namespace culvert::tls
