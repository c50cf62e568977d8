#include "common/base/secret.h"

#include <cstring>

namespace culvert {

void wipe(MutableBytes bytes) noexcept {
  if (!bytes.empty()) explicit_bzero(bytes.data(), bytes.size());
}

bool equal_constant_time(Bytes a, Bytes b) noexcept {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i)
    difference |= std::to_integer<unsigned>(a[i]) ^ std::to_integer<unsigned>(b[i]);
  return difference == 0;
}

}  // namespace culvert
