// Secret: bytes that are wiped when they go, cannot be copied by accident and have no way into a
// log (no conversion to string, no operator<<).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/base/bytes.h"

namespace culvert {

// Overwrites with zeros in a way the optimiser keeps.
void wipe(MutableBytes bytes) noexcept;

// Equal, in time that depends on the lengths alone.
[[nodiscard]] bool equal_constant_time(Bytes a, Bytes b) noexcept;

class Secret {
 public:
  Secret() = default;
  explicit Secret(size_t size) : bytes_(size) {}
  explicit Secret(Bytes bytes) : bytes_(bytes.begin(), bytes.end()) {}
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  Secret(Secret&& other) noexcept : bytes_(std::move(other.bytes_)) {}
  Secret& operator=(Secret&& other) noexcept {
    if (this != &other) {
      wipe(bytes_);
      bytes_ = std::move(other.bytes_);
    }
    return *this;
  }
  ~Secret() { wipe(bytes_); }

  [[nodiscard]] Secret clone() const { return Secret(Bytes(bytes_)); }
  [[nodiscard]] MutableBytes bytes() { return bytes_; }
  [[nodiscard]] Bytes bytes() const { return bytes_; }
  [[nodiscard]] bool empty() const { return bytes_.empty(); }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace culvert
