#include "client/backoff.h"

#include <gtest/gtest.h>

namespace culvert::client {
namespace {

using namespace std::chrono_literals;

TEST(Backoff, GrowsToHalfAMinuteAndStartsAnewAfterALongLife) {
  Backoff backoff;
  for (const Duration expected : {1s, 2s, 4s, 8s, 16s, 30s, 30s})
    EXPECT_EQ(backoff.after_failure(), expected);
  EXPECT_EQ(backoff.after_loss(9s), 30s);
  EXPECT_EQ(backoff.after_loss(10s), 0s);
  EXPECT_EQ(backoff.after_failure(), 1s);
}

}  // namespace
}  // namespace culvert::client
