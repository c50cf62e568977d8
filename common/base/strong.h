// Strong types: quantities that could be mixed up get a type each.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace culvert {

// A number with a name. Explicit on the way in and out; ordered and hashable.
template <typename Tag, typename Rep>
class Strong {
 public:
  constexpr Strong() = default;
  constexpr explicit Strong(Rep value) : value_(value) {}
  [[nodiscard]] constexpr Rep value() const { return value_; }
  // clang-tidy 14 takes the zero that the compiler writes here for a null pointer.
  // NOLINTNEXTLINE(modernize-use-nullptr)
  friend constexpr auto operator<=>(const Strong&, const Strong&) = default;

 private:
  Rep value_{};
};

// One authenticated peer, for logs and commands. Not a secret, never reused within one run.
using SessionId = Strong<struct SessionIdTag, uint64_t>;
// Bytes of the largest inner packet, IP header included.
using Mtu = Strong<struct MtuTag, uint16_t>;

}  // namespace culvert

template <typename Tag, typename Rep>
struct std::hash<culvert::Strong<Tag, Rep>> {
  size_t operator()(const culvert::Strong<Tag, Rep>& strong) const noexcept {
    return std::hash<Rep>{}(strong.value());
  }
};
