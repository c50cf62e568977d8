#include "common/tunnel/key_life.h"

#include <gtest/gtest.h>

namespace culvert::tunnel {
namespace {

using namespace std::chrono_literals;

TEST(KeyLife, EndsByAgeBlocksOrRecordsWhicheverIsFirst) {
  struct Case {
    KeyUse use;
    KeyLimits limits;
    bool worn;
  };
  const KeyLimits usual;
  const KeyLimits stock{.records = kRecordsPerKey};
  for (const Case& c : {
           Case{{}, usual, false},
           Case{{.age = 24h - 1s, .blocks = kBlocksPerKey - 1, .records = UINT64_MAX - 1},
                usual,
                false},
           Case{{.age = 24h}, usual, true},
           Case{{.blocks = uint64_t{1} << 33}, usual, true},
           Case{{.records = kRecordsPerKey}, usual, false},
           Case{{.records = kRecordsPerKey - 1}, stock, false},
           Case{{.records = kRecordsPerKey}, stock, true},
           Case{{.age = 3s}, {.age = key_life(3s)}, true},
           Case{{.age = 2s}, {.age = key_life(3s)}, false},
       }) {
    EXPECT_EQ(worn(c.use, c.limits), c.worn);
  }
}

TEST(KeyLife, IsShortenedByTheServerAndNeverMadeLonger) {
  EXPECT_EQ(key_life(0s), 24h);
  EXPECT_EQ(key_life(90s), 90s);
  EXPECT_EQ(key_life(48h), 24h);
}

}  // namespace
}  // namespace culvert::tunnel
