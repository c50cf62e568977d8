#include "common/tunnel/mtu_prober.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "common/tunnel/path_mtu.h"

namespace culvert::tunnel {
namespace {

using namespace std::chrono_literals;
const TimePoint kStart{1000s};
constexpr int kFloor = 1200;    // the default
constexpr uint16_t kUdp4 = 28;  // IPv4 and UDP header

// The path from us to the peer and back, in simulated time.
struct Path {
  int mtu = 1500;  // outer; what is larger vanishes without a word
  Duration round_trip = 20ms;
  double loss = 0;           // of question and answer together
  int kernel_limit = 65535;  // outer; larger is refused with EMSGSIZE
};

class Simulation {
 public:
  explicit Simulation(const Path& path, MtuProber::Options options = {})
      : path(path), prober(options, kStart) {}

  // Until `end`, or until confirmed() is `stop_at`. The peer answers each probe that it gets.
  void run(Duration length, int stop_at = -1) {
    const TimePoint end = now + length;
    while (prober.confirmed() != stop_at) {
      if (in_use) prober.sent(now);
      step();
      EXPECT_LE(prober.confirmed(), std::max(proven_, kFloor)) << "never proven";
      TimePoint next = prober.next_due();
      if (!answers_.empty()) next = std::min(next, answers_.begin()->first);
      if (next > end) {
        now = end;
        return;
      }
      now = std::max(now, next);
    }
  }
  void run_until_settled() {
    const TimePoint limit = now + 20s;
    do {
      run(1ms);
    } while (prober.searching() && now < limit);
  }
  [[nodiscard]] Duration elapsed() const { return now - kStart; }
  [[nodiscard]] int outer() const { return prober.confirmed() + kUdp4; }

  Path path;
  MtuProber prober;
  TimePoint now = kStart;
  bool in_use = false;
  std::vector<uint16_t> asked;

 private:
  void step() {
    while (!answers_.empty() && answers_.begin()->first <= now) {
      proven_ = std::max<int>(proven_, answers_.begin()->second);
      prober.answered(answers_.begin()->second, now);
      answers_.erase(answers_.begin());
    }
    while (const auto size = prober.due(now)) {
      asked.push_back(*size);
      const int outer = *size + kUdp4;
      if (outer > path.kernel_limit) {
        prober.too_large(*size, now);
      } else if (outer <= path.mtu && !lost()) {
        answers_.emplace(now + path.round_trip, *size);
      }
    }
    EXPECT_GT(prober.next_due(), now) << "nothing was due, yet it wants to be asked";
  }

  std::multimap<TimePoint, uint16_t> answers_;
  [[nodiscard]] bool lost() { return std::bernoulli_distribution(path.loss)(random_); }

  std::mt19937 random_{11};
  int proven_ = 0;
};

TEST(MtuProber, FindsTheSizeOfEachPathInTime) {
  struct Case {
    const char* what;
    int ceiling, mtu;
    Duration round_trip;
    Duration limit;
    size_t max_probes;
  };
  const Case cases[] = {
      {"as the link says", 1500, 1500, 20ms, 20ms, 1},
      {"as the link says, far away", 1500, 1500, 600ms, 601ms, 12},
      {"jumbo", 9000, 9000, 1ms, 1ms, 1},
      {"PPPoE", 1500, 1492, 20ms, 1500ms, 25},
      {"IPv6's least", 1500, 1280, 20ms, 1500ms, 25},
      {"mobile", 1500, 1400, 20ms, 1500ms, 25},
      {"no common size", 1500, 1387, 20ms, 2s, 35},
      {"no common size, far away", 1500, 1387, 230ms, 3s, 35},
      {"between floor and 1280", 1500, 1250, 20ms, 2s, 35},
      {"the floor itself", 1500, 1228, 20ms, 1500ms, 25},
      {"jumbo link, ordinary path", 9000, 1500, 20ms, 1500ms, 30},
      {"jumbo link, odd path", 9000, 4470, 20ms, 3s, 60},
      {"small link", 1400, 1400, 20ms, 20ms, 1},
      {"small link, smaller path", 1400, 1380, 20ms, 2s, 35},
  };
  for (const Case& c : cases) {
    Simulation simulation({.mtu = c.mtu, .round_trip = c.round_trip},
                          {.ceiling = static_cast<uint16_t>(c.ceiling - kUdp4)});
    EXPECT_EQ(simulation.prober.confirmed(), 1200) << c.what;
    EXPECT_TRUE(simulation.prober.next_due() <= kStart) << c.what;
    simulation.run_until_settled();
    EXPECT_LE(simulation.elapsed(), c.limit) << c.what;
    EXPECT_LE(simulation.outer(), c.mtu) << c.what;
    EXPECT_GT(simulation.outer(), c.mtu - 4) << c.what;
    EXPECT_LE(simulation.asked.size(), c.max_probes) << c.what;
  }
}

TEST(MtuProber, EverySizeIsFoundWithinItsGranularity) {
  for (int mtu = 1228; mtu <= 1500; ++mtu) {
    Simulation simulation({.mtu = mtu});
    simulation.run_until_settled();
    EXPECT_LE(simulation.outer(), mtu);
    EXPECT_GT(simulation.outer(), mtu - 4);
    EXPECT_LE(simulation.elapsed(), 2s) << mtu;
  }
}

TEST(MtuProber, AsksForTheCeilingFirst) {
  MtuProber prober({.ceiling = 1472}, kStart);
  EXPECT_EQ(prober.due(kStart), 1472);
  EXPECT_EQ(prober.due(kStart), std::nullopt);
  EXPECT_EQ(prober.next_due(), kStart + 250ms);
}

TEST(MtuProber, CommonSizesDependOnTheOuterFamily) {
  MtuProber prober({.ceiling = 1452, .outer = Family::kV6}, kStart);
  EXPECT_EQ(prober.due(kStart), 1452);
  std::vector<int> ladder;
  while (const auto size = prober.due(kStart + 250ms))
    ladder.push_back(*size);
  EXPECT_EQ(ladder, (std::vector<int>{1452, 1444, 1432, 1412, 1402, 1372, 1352, 1232, 1200}));
}

TEST(MtuProber, KernelsRefusalIsAnUpperBoundAtOnce) {
  Simulation simulation({.mtu = 1400, .kernel_limit = 1400});
  simulation.run_until_settled();
  EXPECT_EQ(simulation.outer(), 1400);
  EXPECT_LE(simulation.elapsed(), 500ms);
}

TEST(MtuProber, KernelsRefusalOfDataTakesTheSizeBackAtOnce) {
  Simulation simulation({});
  simulation.run_until_settled();
  ASSERT_EQ(simulation.outer(), 1500);
  simulation.path.mtu = simulation.path.kernel_limit = 1420;
  simulation.prober.too_large(1472, simulation.now);
  EXPECT_EQ(simulation.prober.confirmed(), 1200);
  simulation.run(20ms);
  EXPECT_EQ(simulation.outer(), 1420);
}

TEST(MtuProber, RefusalBelowTheFloorChangesNothing) {
  Simulation simulation({});
  simulation.run_until_settled();
  simulation.prober.too_large(1200, simulation.now);
  EXPECT_EQ(simulation.outer(), 1500);
}

TEST(MtuProber, ShrinkIsNoticedSoonAfterASuspicion) {
  for (const int mtu : {1499, 1492, 1400, 1281, 1250, 1228}) {
    Simulation simulation({.round_trip = 50ms});
    simulation.run_until_settled();
    simulation.run(10s);
    simulation.path.mtu = mtu;
    simulation.prober.suspect(simulation.now);
    const TimePoint suspected = simulation.now;
    while (simulation.outer() > mtu && simulation.now < suspected + 10s)
      simulation.run(1ms);
    EXPECT_LE(simulation.now - suspected, 1s) << mtu;
    simulation.run_until_settled();
    EXPECT_LE(simulation.now - suspected, 2s) << mtu;
    EXPECT_LE(simulation.outer(), mtu);
    EXPECT_GT(simulation.outer(), mtu - 4);
  }
}

TEST(MtuProber, ShrinkIsNoticedWithoutASuspicionWhileInUse) {
  Simulation simulation({});
  simulation.in_use = true;
  simulation.run(10s);
  ASSERT_EQ(simulation.outer(), 1500);
  simulation.path.mtu = 1400;
  simulation.run(4s);
  EXPECT_EQ(simulation.outer(), 1400);
}

TEST(MtuProber, UnfoundedSuspicionCostsOneProbe) {
  Simulation simulation({});
  simulation.run(10s);
  const size_t before = simulation.asked.size();
  for (int i = 0; i < 100; ++i)
    simulation.prober.suspect(simulation.now);
  simulation.run(900ms);
  EXPECT_EQ(simulation.asked.size(), before + 1);
  for (int i = 0; i < 100; ++i) {
    simulation.prober.suspect(simulation.now);
    simulation.run(100ms);
  }
  EXPECT_LE(simulation.asked.size(), before + 12) << "one a second";
  EXPECT_EQ(simulation.outer(), 1500);
}

TEST(MtuProber, GrowthIsFollowedWhileInUse) {
  Simulation simulation({.mtu = 1400});
  simulation.in_use = true;
  simulation.run(20min);
  EXPECT_EQ(simulation.outer(), 1400);
  simulation.path.mtu = 1500;
  simulation.run(5min + 1s);
  EXPECT_EQ(simulation.outer(), 1500);
}

TEST(MtuProber, AnotherPathIsSoughtFromTheFloorAtOnce) {
  Simulation simulation({.mtu = 1400});
  simulation.run_until_settled();
  simulation.path.mtu = 9000;
  simulation.prober.path_changed(9000 - kUdp4, simulation.now);
  EXPECT_EQ(simulation.prober.confirmed(), 1200);
  const TimePoint changed = simulation.now;
  simulation.run_until_settled();
  EXPECT_EQ(simulation.outer(), 9000);
  EXPECT_LE(simulation.now - changed, 25ms);
}

TEST(MtuProber, AnswersFromBeforeTheChangeOfPathDoNotCount) {
  MtuProber prober({.ceiling = 1472}, kStart);
  ASSERT_EQ(prober.due(kStart), 1472);
  prober.path_changed(1472, kStart + 10ms);
  prober.answered(1472, kStart + 20ms);
  EXPECT_EQ(prober.confirmed(), 1200);
}

TEST(MtuProber, AnswersToWhatWasNotAskedDoNotCount) {
  MtuProber prober({.ceiling = 1472}, kStart);
  ASSERT_EQ(prober.due(kStart), 1472);
  for (const uint16_t size : {uint16_t{0}, uint16_t{1400}, uint16_t{1473}, uint16_t{65535}})
    prober.answered(size, kStart + 1ms);
  EXPECT_EQ(prober.confirmed(), 1200);
}

TEST(MtuProber, RandomLossDoesNotHoldItDown) {
  for (const int mtu : {1280, 1400, 1471, 1500}) {
    Simulation simulation({.mtu = mtu, .loss = 0.1});  // 5% in each direction
    simulation.in_use = true;
    simulation.run(5s);
    Duration low{};
    constexpr Duration kStep = 100ms;
    for (int i = 0; i < 36000; ++i) {  // an hour
      if (i % 50 == 0) simulation.prober.suspect(simulation.now);
      simulation.run(kStep);
      if (simulation.outer() <= mtu - 4) low += kStep;
    }
    EXPECT_LE(low, 60s) << mtu;
    EXPECT_LE(simulation.outer(), mtu);
  }
}

TEST(MtuProber, SilentPathSaysNothingAboutSizes) {
  Simulation simulation({});
  simulation.run_until_settled();
  simulation.path.loss = 1;
  simulation.prober.suspect(simulation.now);
  const size_t before = simulation.asked.size();
  simulation.run(10min);
  EXPECT_EQ(simulation.outer(), 1500);
  EXPECT_LE(simulation.asked.size(), before + 400) << "hunts are 30 s apart";
  simulation.path.loss = 0;
  simulation.path.mtu = 1400;
  simulation.run(33s);
  EXPECT_EQ(simulation.outer(), 1400);
}

TEST(MtuProber, SearchGoesOnWhenASilentPathComesBack) {
  Simulation simulation({.loss = 1});
  simulation.run(5s);
  EXPECT_EQ(simulation.prober.confirmed(), 1200);
  simulation.path.loss = 0;
  simulation.run(9s);
  EXPECT_EQ(simulation.outer(), 1500);
}

TEST(MtuProber, SettledAndUnusedItAsksNothing) {
  Simulation simulation({.mtu = 1400});
  simulation.run_until_settled();
  const size_t before = simulation.asked.size();
  simulation.run(24h);
  EXPECT_EQ(simulation.asked.size(), before);
  EXPECT_EQ(simulation.prober.next_due(), TimePoint::max());
}

TEST(MtuProber, UsedForAnHourItAsksLittle) {
  Simulation right({});
  right.in_use = true;
  right.run(1h);
  EXPECT_LE(right.asked.size(), 1250U);  // one in 3 s
  EXPECT_EQ(right.prober.probes_sent(), right.asked.size());

  Simulation smaller({.mtu = 1400});
  smaller.in_use = true;
  smaller.run(1h);
  EXPECT_LE(smaller.asked.size(), 1600U);  // and a look for growth in 5 min
  EXPECT_EQ(smaller.outer(), 1400);
}

TEST(MtuProber, CeilingBelowTheFloorLeavesNothingToFind) {
  MtuProber prober({.floor = 1200, .ceiling = 1000}, kStart);
  EXPECT_EQ(prober.due(kStart), std::nullopt);
  EXPECT_EQ(prober.confirmed(), 1000);
  EXPECT_FALSE(prober.searching());
}

}  // namespace
}  // namespace culvert::tunnel
