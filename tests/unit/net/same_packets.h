// Comparing many packets without printing them all.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/unit/net/packets.h"

namespace culvert::net::testing {

// On failure it says where they differ.
inline ::testing::AssertionResult same_packets(const std::vector<Packet>& got,
                                               const std::vector<Packet>& wanted) {
  for (size_t i = 0; i < std::min(got.size(), wanted.size()); ++i) {
    if (got[i] == wanted[i]) continue;
    const auto at = std::mismatch(got[i].begin(), got[i].end(), wanted[i].begin(), wanted[i].end());
    return ::testing::AssertionFailure()
           << "packet " << i << " (" << got[i].size() << " bytes, wanted " << wanted[i].size()
           << ") differs at byte " << at.first - got[i].begin();
  }
  if (got.size() == wanted.size()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << got.size() << " packets, wanted " << wanted.size();
}

}  // namespace culvert::net::testing
