// When a connection's keys have done enough: AES-GCM has limits, and mbedTLS knows no KeyUpdate, so
// that new keys mean a new connection. Pure.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/base/clock.h"

namespace culvert::tunnel {

// Blocks of 16 bytes in both directions together: 137 GB.
inline constexpr uint64_t kBlocksPerKey = uint64_t{1} << 33;
// Records in one direction, towards peers that might send a KeyUpdate of their own soon (GnuTLS at
// 2^24), which ends the connection without a warning.
inline constexpr uint64_t kRecordsPerKey = uint64_t{1} << 23;
inline constexpr Duration kLongestKeyLife = std::chrono::hours(24);

struct KeyUse {
  Duration age{};
  uint64_t blocks = 0;   // both directions
  uint64_t records = 0;  // the busier direction
};

struct KeyLimits {
  Duration age = kLongestKeyLife;
  uint64_t blocks = kBlocksPerKey;
  uint64_t records = UINT64_MAX;
};

[[nodiscard]] constexpr bool worn(const KeyUse& use, const KeyLimits& limits) {
  return use.age >= limits.age || use.blocks >= limits.blocks || use.records >= limits.records;
}

// What the server granted (0: nothing) shortens the life, and never makes it longer.
[[nodiscard]] constexpr Duration key_life(Duration granted) {
  return granted > Duration{} ? std::min(granted, kLongestKeyLife) : kLongestKeyLife;
}

// Of a tls::TlsSession or tls::DtlsSession.
template <typename S>
[[nodiscard]] KeyUse use_of(const S& session, Duration age) {
  return {.age = age,
          .blocks = session.blocks_sent() + session.blocks_received(),
          .records = std::max(session.records_sent(), session.records_received())};
}

}  // namespace culvert::tunnel
