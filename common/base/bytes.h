// Bytes: span aliases, big-endian access, and bounds-checked reading and writing.
// Wire formats are read through these, never by casting a struct over bytes.
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

namespace culvert {

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

[[nodiscard]] inline Bytes as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
[[nodiscard]] inline std::string_view as_text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// REQUIRES for all four: at least 2 (4) bytes.
[[nodiscard]] inline uint16_t load_be16(Bytes b) {
  assert(b.size() >= 2);
  return static_cast<uint16_t>(std::to_integer<unsigned>(b[0]) << 8 |
                               std::to_integer<unsigned>(b[1]));
}
[[nodiscard]] inline uint32_t load_be32(Bytes b) {
  assert(b.size() >= 4);
  return uint32_t{load_be16(b)} << 16 | load_be16(b.subspan(2));
}
[[nodiscard]] inline uint64_t load_be64(Bytes b) {
  assert(b.size() >= 8);
  return uint64_t{load_be32(b)} << 32 | load_be32(b.subspan(4));
}
inline void store_be16(MutableBytes b, uint16_t value) {
  assert(b.size() >= 2);
  b[0] = static_cast<std::byte>(value >> 8);
  b[1] = static_cast<std::byte>(value & 0xff);
}
inline void store_be32(MutableBytes b, uint32_t value) {
  assert(b.size() >= 4);
  store_be16(b, static_cast<uint16_t>(value >> 16));
  store_be16(b.subspan(2), static_cast<uint16_t>(value & 0xffff));
}

// Reads forward through a span. After a read past the end, failed() is true, every further read
// gives nothing, and the position stays where it was.
class ByteReader {
 public:
  explicit ByteReader(Bytes bytes) : rest_(bytes) {}

  std::optional<uint8_t> u8() {
    const auto b = take(1);
    if (!b) return std::nullopt;
    return std::to_integer<uint8_t>((*b)[0]);
  }
  std::optional<uint16_t> be16() {
    const auto b = take(2);
    if (!b) return std::nullopt;
    return load_be16(*b);
  }
  std::optional<uint32_t> be32() {
    const auto b = take(4);
    if (!b) return std::nullopt;
    return load_be32(*b);
  }
  std::optional<Bytes> take(size_t count) {
    if (failed_ || count > rest_.size()) {
      failed_ = true;
      return std::nullopt;
    }
    const Bytes taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  [[nodiscard]] Bytes rest() const { return rest_; }
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  Bytes rest_;
  bool failed_ = false;
};

}  // namespace culvert
