#include "common/tunnel/liveness.h"

#include <gtest/gtest.h>

namespace culvert::tunnel {
namespace {

using namespace std::chrono_literals;
const TimePoint kBegin{1000s};

TEST(Liveness, AsksAfterSilenceAndRepeatsAtHalfTheTime) {
  Liveness liveness({10s, 0s, 0s}, kBegin);
  EXPECT_EQ(liveness.due(kBegin + 9s), Liveness::Action::kNone);
  EXPECT_EQ(liveness.due(kBegin + 10s), Liveness::Action::kSendDpd);
  EXPECT_EQ(liveness.due(kBegin + 14s), Liveness::Action::kNone);
  EXPECT_EQ(liveness.due(kBegin + 15s), Liveness::Action::kSendDpd);
}

TEST(Liveness, DeclaresDeathAfterTwiceTheTime) {
  Liveness liveness({10s, 0s, 0s}, kBegin);
  EXPECT_NE(liveness.due(kBegin + 20s), Liveness::Action::kDead);
  EXPECT_EQ(liveness.due(kBegin + 20s + 1ms), Liveness::Action::kDead);
}

TEST(Liveness, DeathHasItsOwnTimeWhereGiven) {
  Liveness liveness({10s, 30s, 0s}, kBegin);
  EXPECT_NE(liveness.due(kBegin + 30s), Liveness::Action::kDead);
  EXPECT_EQ(liveness.due(kBegin + 31s), Liveness::Action::kDead);
}

TEST(Liveness, AnyFrameIsASignOfLife) {
  Liveness liveness({10s, 0s, 0s}, kBegin);
  EXPECT_EQ(liveness.due(kBegin + 10s), Liveness::Action::kSendDpd);
  liveness.received(kBegin + 19s);
  EXPECT_EQ(liveness.due(kBegin + 21s), Liveness::Action::kNone);
  EXPECT_EQ(liveness.due(kBegin + 29s), Liveness::Action::kSendDpd);
}

TEST(Liveness, NeverDiesWithoutDpd) {
  Liveness liveness({}, kBegin);
  EXPECT_EQ(liveness.due(kBegin + 1000h), Liveness::Action::kNone);
}

TEST(Liveness, KeepaliveFollowsOwnSilenceOnly) {
  Liveness liveness({0s, 0s, 30s}, kBegin);
  liveness.received(kBegin + 29s);
  EXPECT_EQ(liveness.due(kBegin + 30s), Liveness::Action::kSendKeepalive);
  liveness.sent(kBegin + 30s);
  EXPECT_EQ(liveness.due(kBegin + 59s), Liveness::Action::kNone);
}

TEST(Liveness, AskNowDoesNotWaitForSilence) {
  Liveness liveness({10s, 0s, 0s}, kBegin);
  liveness.ask_now();
  EXPECT_EQ(liveness.due(kBegin + 1s), Liveness::Action::kSendDpd);
  EXPECT_EQ(liveness.due(kBegin + 2s), Liveness::Action::kNone);
}

}  // namespace
}  // namespace culvert::tunnel
