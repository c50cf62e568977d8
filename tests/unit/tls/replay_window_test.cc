#include "common/tls/replay_window.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace culvert::tls {
namespace {

constexpr uint64_t kSize = ReplayWindow::kSize;

TEST(ReplayWindow, KnowsNothingAtFirst) {
  const ReplayWindow window;
  for (const uint64_t number : {uint64_t{0}, uint64_t{1}, kSize, uint64_t{1} << 47})
    EXPECT_TRUE(window.is_new(number));
}

// Against a set of all numbers, with steps of every size.
TEST(ReplayWindow, RemembersExactlyTheLastOnes) {
  for (const uint64_t step : {uint64_t{1}, uint64_t{3}, uint64_t{64}, uint64_t{500}, 3 * kSize}) {
    ReplayWindow window;
    std::set<uint64_t> seen;
    std::minstd_rand random(static_cast<unsigned>(step));
    uint64_t end = 0;
    for (int i = 0; i < 20000; ++i) {
      const uint64_t back = random() % (kSize + 100);
      const uint64_t number = random() % 3 == 0 ? end + random() % step : end - std::min(end, back);
      const bool known = number >= end || end - number <= kSize;
      ASSERT_EQ(known && !seen.contains(number), window.is_new(number)) << step << ' ' << number;
      if (!window.is_new(number)) continue;
      window.mark(number);
      seen.insert(number);
      end = std::max(end, number + 1);
    }
  }
}

TEST(ReplayWindow, ClosesUpToANumber) {
  ReplayWindow window;
  window.mark(10);
  window.close_up_to(20);
  EXPECT_FALSE(window.is_new(9));
  EXPECT_FALSE(window.is_new(20));
  EXPECT_TRUE(window.is_new(21));
  window.mark(30);
  EXPECT_FALSE(window.is_new(20));
  EXPECT_TRUE(window.is_new(29));
}

}  // namespace
}  // namespace culvert::tls
