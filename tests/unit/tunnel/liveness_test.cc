#include "common/tunnel/liveness.h"

#include <gtest/gtest.h>

namespace culvert::tunnel {
namespace {

using namespace std::chrono_literals;
using Action = Liveness::Action;
const TimePoint kStart{1000s};

TEST(Liveness, AsksAfterSilenceAndRepeatsAtHalfTheTime) {
  Liveness liveness({10s, 0s, 0s}, kStart);
  EXPECT_EQ(liveness.due(kStart + 9s), Action::kNone);
  EXPECT_EQ(liveness.due(kStart + 10s), Action::kSendDpd);
  EXPECT_EQ(liveness.due(kStart + 14s), Action::kNone);
  EXPECT_EQ(liveness.due(kStart + 15s), Action::kSendDpd);
}

TEST(Liveness, DeclaresDeathAfterTwiceTheTime) {
  Liveness liveness({10s, 0s, 0s}, kStart);
  EXPECT_NE(liveness.due(kStart + 20s), Action::kDead);
  EXPECT_EQ(liveness.due(kStart + 20s + 1ms), Action::kDead);
}

TEST(Liveness, DeathHasItsOwnTimeWhereGiven) {
  Liveness liveness({10s, 30s, 0s}, kStart);
  EXPECT_NE(liveness.due(kStart + 30s), Action::kDead);
  EXPECT_EQ(liveness.due(kStart + 31s), Action::kDead);
}

TEST(Liveness, AnyFrameIsASignOfLife) {
  Liveness liveness({10s, 0s, 0s}, kStart);
  EXPECT_EQ(liveness.due(kStart + 10s), Action::kSendDpd);
  liveness.received(kStart + 19s);
  EXPECT_EQ(liveness.due(kStart + 21s), Action::kNone);
  EXPECT_EQ(liveness.due(kStart + 29s), Action::kSendDpd);
}

TEST(Liveness, NeverDiesWithoutDpd) {
  Liveness liveness({}, kStart);
  EXPECT_EQ(liveness.due(kStart + 1000h), Action::kNone);
}

TEST(Liveness, KeepaliveFollowsOwnSilenceOnly) {
  Liveness liveness({0s, 0s, 30s}, kStart);
  liveness.received(kStart + 29s);
  EXPECT_EQ(liveness.due(kStart + 30s), Action::kSendKeepalive);
  liveness.sent(kStart + 30s);
  EXPECT_EQ(liveness.due(kStart + 59s), Action::kNone);
}

TEST(Liveness, AskNowDoesNotWaitForSilence) {
  Liveness liveness({10s, 0s, 0s}, kStart);
  liveness.ask_now();
  EXPECT_EQ(liveness.due(kStart + 1s), Action::kSendDpd);
  EXPECT_EQ(liveness.due(kStart + 2s), Action::kNone);
}

}  // namespace
}  // namespace culvert::tunnel
