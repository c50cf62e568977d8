// How many blocks of its cipher a record takes: what wears a key of AES-GCM out. Pure.
#pragma once

#include <cstddef>
#include <cstdint>

namespace culvert::tls {

// Counter mode: a block for each 16 bytes begun, one for the tag.
[[nodiscard]] constexpr uint64_t blocks_of(size_t plaintext) {
  return (plaintext + 15) / 16 + 1;
}

}  // namespace culvert::tls
