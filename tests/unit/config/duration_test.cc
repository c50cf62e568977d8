#include "common/config/duration.h"

#include <gtest/gtest.h>

namespace culvert::config {
namespace {

using namespace std::chrono_literals;

TEST(Duration, ReadsEveryUnitAndPrintsItBack) {
  struct {
    const char* text;
    Duration value;
  } const cases[] = {{"0s", 0s},   {"500ms", 500ms}, {"15s", 15s}, {"90s", 90s},
                     {"5m", 300s}, {"1h", 1h},       {"2d", 48h},  {"3650d", 24h * 3650}};
  for (const auto& c : cases) {
    const auto parsed = parse_duration(c.text);
    ASSERT_TRUE(parsed) << c.text;
    EXPECT_EQ(*parsed, c.value) << c.text;
    EXPECT_EQ(print_duration(c.value), c.text);
  }
}

TEST(Duration, PrintsTheLargestWholeUnit) {
  EXPECT_EQ(print_duration(60s), "1m");
  EXPECT_EQ(print_duration(24h), "1d");
  EXPECT_EQ(print_duration(25h), "25h");
  EXPECT_EQ(print_duration(1500us), "1500000ns");
}

TEST(Duration, RefusesEverythingElse) {
  for (const char* text : {"", "15", "s", "15 s", " 15s", "15s ", "-1s", "+1s", "1.5h", "1h30m",
                           "15S", "15sec", "3651d", "99999999999999999999s", "0x10s", "15us"}) {
    const auto parsed = parse_duration(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code, ErrorCode::kUsage);
    EXPECT_FALSE(parsed.error().hint.empty());
  }
}

}  // namespace
}  // namespace culvert::config
