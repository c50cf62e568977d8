// What the fuzz targets share: the entry point that libFuzzer and the plain runner call, and a
// check that stays on in every build.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "common/base/bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace culvert::fuzz {

// A property that must hold for every input.
inline void require(bool holds, const char* property) {
  if (holds) return;
  std::fprintf(stderr, "property violated: %s\n", property);
  std::abort();
}

inline Bytes input(const uint8_t* data, size_t size) {
  return std::as_bytes(std::span(data, size));
}

}  // namespace culvert::fuzz
