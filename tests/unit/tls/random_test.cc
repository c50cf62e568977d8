// Random bytes: different each time and on each thread, of any length.

#include "common/tls/random.h"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <thread>
#include <vector>

namespace culvert::tls {
namespace {

TEST(RandomBytes, AreNeverTheSameTwice) {
  std::set<std::array<std::byte, 16>> seen;
  const auto draw = [&seen] {
    std::array<std::byte, 16> one{};
    random_bytes(one);
    EXPECT_TRUE(seen.insert(one).second);
  };
  for (int i = 0; i < 100; ++i)
    draw();
  std::thread(draw).join();
  std::thread(draw).join();
}

TEST(RandomBytes, FillAllThatWasAskedFor) {
  std::vector<std::byte> large(5000);  // more than the generator gives at once
  random_bytes(large);
  size_t zeros = 0;
  for (const std::byte one : large)
    zeros += one == std::byte{0} ? 1 : 0;
  EXPECT_LT(zeros, 80u);
  random_bytes({});
}

}  // namespace
}  // namespace culvert::tls
