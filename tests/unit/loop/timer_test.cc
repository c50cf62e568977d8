#include "common/loop/timer.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/loop/run_loop.h"

namespace culvert::loop {
namespace {

using std::chrono::milliseconds;

TEST(Timer, FiresOnceAndNeverEarly) {
  for (const auto after : {Duration(milliseconds(-5)), Duration(0), Duration(1),
                           Duration(1'500'000), Duration(milliseconds(7))}) {
    Loop loop;
    Timer timer(loop);
    int fired = 0;
    const TimePoint start = BootClock::now();
    timer.start(after, [&] {
      ++fired;
      EXPECT_GE(BootClock::now() - start, after);
      EXPECT_FALSE(timer.active());
    });
    EXPECT_TRUE(timer.active());
    ASSERT_TRUE(run_until(loop, [&] { return fired > 0; }));
    turn(loop);
    EXPECT_EQ(fired, 1);
  }
}

TEST(Timer, IsNotEarlyAfterALongTurn) {
  Loop loop;
  Timer timer(loop);
  TimePoint armed, fired;
  loop.post([&] {
    const TimePoint start = BootClock::now();
    while (BootClock::now() - start < milliseconds(20)) {
    }
    armed = BootClock::now();
    timer.start(milliseconds(10), [&] {
      fired = BootClock::now();
      loop.stop();
    });
  });
  loop.run();
  EXPECT_GE(fired - armed, milliseconds(10));
}

TEST(Timer, RepeatsUntilStoppedFromItsOwnCallback) {
  Loop loop;
  Timer timer(loop);
  int fired = 0;
  timer.start_repeating(milliseconds(1), [&] {
    EXPECT_TRUE(timer.active());
    if (++fired == 3) timer.stop();
  });
  ASSERT_TRUE(run_until(loop, [&] { return !timer.active(); }));
  EXPECT_EQ(fired, 3);
}

TEST(Timer, MayBeDestroyedInItsOwnCallback) {
  Loop loop;
  auto token = std::make_shared<int>(0);  // not const, or the closure would copy it
  for (const bool repeating : {false, true}) {
    auto timer = std::make_unique<Timer>(loop);
    auto callback = [&, token] {
      timer.reset();
      EXPECT_EQ(token.use_count(), 2) << "the closure lives until it returns";
      loop.stop();
    };
    if (repeating)
      timer->start_repeating(milliseconds(1), std::move(callback));
    else
      timer->start(milliseconds(1), std::move(callback));
    loop.run();
    EXPECT_EQ(token.use_count(), 1);
  }
}

TEST(Timer, MayStartAgainInItsOwnCallback) {
  Loop loop;
  Timer timer(loop);
  std::vector<int> order;
  timer.start(Duration(0), [&, owned = std::make_unique<int>(1)] {
    timer.start(Duration(0), [&] {
      order.push_back(2);
      loop.stop();
    });
    order.push_back(*owned);  // still alive after its slot was taken
  });
  loop.run();
  EXPECT_EQ(order, (std::vector{1, 2}));
}

TEST(Timer, StartingItselfWithoutDelayDoesNotStarveTasks) {
  Loop loop;
  Timer timer(loop);
  UniqueFunction<void()> spin = [&] { timer.start(Duration(0), [&] { spin(); }); };
  spin();
  int tasks = 0;
  UniqueFunction<void()> task = [&] {
    if (++tasks == 5)
      loop.stop();
    else
      loop.post([&] { task(); });
  };
  loop.post([&] { task(); });
  loop.run();
  EXPECT_EQ(tasks, 5);
}

TEST(Timer, MovesWhileArmedAndTheSourceMayGo) {
  Loop loop;
  int fired = 0;
  auto source = std::make_unique<Timer>(loop);
  source->start(milliseconds(1), [&] { ++fired; });
  Timer target(std::move(*source));
  source.reset();
  ASSERT_TRUE(run_until(loop, [&] { return fired == 1; }));

  target.start(milliseconds(1), [&] { FAIL() << "assigned over"; });
  target = Timer(loop);
  turn(loop, 20);
}

TEST(Timer, DropsWhatTheClosureOwnsWhenDone) {
  Loop loop;
  const auto token = std::make_shared<int>(0);
  Timer timer(loop);
  timer.start(milliseconds(1), [&, token] { loop.stop(); });
  loop.run();
  EXPECT_EQ(token.use_count(), 1) << "after it has fired";
  timer.start(milliseconds(1), [token] {});
  timer.stop();
  EXPECT_EQ(token.use_count(), 1) << "after stop()";
  timer.start(milliseconds(1), [token] {});
  { const Timer gone(std::move(timer)); }
  EXPECT_EQ(token.use_count(), 1) << "after destruction";
}

}  // namespace
}  // namespace culvert::loop
