#include "common/loop/loop.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "common/loop/deferred.h"
#include "common/loop/timer.h"
#include "tests/unit/loop/run_loop.h"

namespace culvert::loop {
namespace {

using std::chrono::milliseconds;

TEST(Loop, ClosesCleanWithNothingInIt) {
  const Loop loop;
}

TEST(Loop, RunsPostedTasksInOrder) {
  Loop loop;
  std::vector<int> order;
  for (int i = 0; i < 5; ++i)
    loop.post([&order, i] { order.push_back(i); });
  loop.post([&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(order, (std::vector{0, 1, 2, 3, 4}));
}

TEST(Loop, TaskPostedByATaskWaitsForTheNextTurn) {
  Loop loop;
  std::vector<std::string> order;
  loop.post([&] {
    order.emplace_back("first");
    loop.post([&] {
      order.emplace_back("posted by first");
      loop.stop();
    });
  });
  loop.post([&] { order.emplace_back("second"); });
  loop.run();
  EXPECT_EQ(order, (std::vector<std::string>{"first", "second", "posted by first"}));
}

TEST(Loop, TasksMayOwnMoveOnlyThings) {
  Loop loop;
  int seen = 0;
  loop.post([&, value = std::make_unique<int>(7)] {
    seen = *value;
    loop.stop();
  });
  loop.run();
  EXPECT_EQ(seen, 7);
}

TEST(Loop, DestroysUnrunTasksWithWhatTheyOwn) {
  const auto token = std::make_shared<int>(1);
  {
    Loop loop;
    loop.post([token] { FAIL() << "the loop never ran"; });
    // A wrapper of the loop itself, and a task that posts when it dies.
    auto timer = std::make_unique<Timer>(loop);
    timer->start(milliseconds(1), [] {});
    loop.post([timer = std::move(timer)] {});
    const std::shared_ptr<void> posts_at_death(nullptr, [&loop](void*) { loop.post([] {}); });
    loop.post([posts_at_death] {});
    EXPECT_EQ(token.use_count(), 2);
  }
  EXPECT_EQ(token.use_count(), 1);
}

TEST(Loop, StopBeforeRunMakesRunReturnAtOnce) {
  Loop loop;
  loop.stop();
  loop.run();
  bool ran = false;
  loop.post([&] {
    ran = true;
    loop.stop();
  });
  loop.run();  // and it may run again
  EXPECT_TRUE(ran);
}

TEST(Loop, TimeStandsStillWithinATurn) {
  Loop loop;
  TimePoint first, second;
  loop.post([&] { first = loop.now(); });
  loop.post([&] {
    while (BootClock::now() - first < milliseconds(2)) {
    }
    second = loop.now();
    loop.stop();
  });
  loop.run();
  EXPECT_EQ(first, second);
  EXPECT_GT(loop.now(), second) << "outside run() the clock is read each time";
}

TEST(Loop, TimeAfterAWaitIsTheTimeAfterTheWait) {
  Loop loop;
  TimePoint before, after;
  Timer timer(loop);
  loop.post([&] {
    before = loop.now();
    timer.start(milliseconds(5), [&] {
      after = loop.now();
      loop.stop();
    });
  });
  loop.run();
  EXPECT_GE(after - before, milliseconds(5));
}

// Meant for ThreadSanitizer as much as for its own assertions.
TEST(Loop, TakesPostsFromManyThreadsAndKeepsEachThreadsOrder) {
  constexpr int kThreads = 4, kPosts = 2000;
  Loop loop;
  std::vector<int> next(kThreads, 0);  // touched on the loop's thread only
  int total = 0;
  bool in_order = true;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i)
        loop.post([&, t, owned = std::make_unique<int>(i)] {
          in_order = in_order && next[t] == *owned;
          ++next[t];
          if (++total == kThreads * kPosts) loop.stop();
        });
    });
  loop.run();
  for (auto& thread : threads)
    thread.join();
  EXPECT_EQ(total, kThreads * kPosts);
  EXPECT_TRUE(in_order);
}

TEST(Loop, TwoLoopsOnTwoThreadsPassABallBackAndForth) {
  constexpr int kPasses = 2000;
  Loop here, there;
  int passes = 0;
  UniqueFunction<void()> ping, pong;
  ping = [&] {
    if (++passes == kPasses) {
      there.post([&] { there.stop(); });
      here.stop();
      return;
    }
    there.post([&] { pong(); });
  };
  pong = [&] { here.post([&] { ping(); }); };
  std::thread other([&] { there.run(); });
  here.post([&] { ping(); });
  here.run();
  other.join();
  EXPECT_EQ(passes, kPasses);
}

TEST(Loop, PostsRacingWithTheEndOfRunAreDestroyedNotLost) {
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> born = 0, dead = 0;
    struct Counted {
      std::atomic<int>& count;
      ~Counted() { ++count; }
    };
    {
      Loop loop;
      std::thread poster([&] {
        for (int i = 0; i < 20; ++i) {
          ++born;
          loop.post([owned = std::make_unique<Counted>(Counted{dead})] {});
        }
      });
      loop.post([&] { loop.stop(); });
      loop.run();
      poster.join();
    }
    // make_unique moves a temporary, which counts too.
    EXPECT_EQ(dead, 2 * born);
  }
}

TEST(Deferred, RunsOnceAfterAllIoOfATurn) {
  Loop loop;
  std::vector<std::string> order;
  Deferred flush(loop, [&] {
    order.emplace_back("flush");
    loop.stop();
  });
  for (int i = 0; i < 3; ++i)
    loop.post([&] {
      order.emplace_back("work");
      flush.arm();
    });
  loop.run();
  EXPECT_EQ(order, (std::vector<std::string>{"work", "work", "work", "flush"}));
  EXPECT_FALSE(flush.armed());
}

TEST(Deferred, ArmedByATimerDoesNotWaitForIo) {
  Loop loop;
  Timer timer(loop);
  TimePoint armed_at, ran_at;
  Deferred deferred(loop, [&] {
    ran_at = BootClock::now();
    loop.stop();
  });
  timer.start(milliseconds(1), [&] {
    armed_at = BootClock::now();
    deferred.arm();
  });
  Timer far_away(loop);
  far_away.start(std::chrono::seconds(30), [&] { loop.stop(); });
  loop.run();
  ASSERT_NE(ran_at, TimePoint{});
  EXPECT_LT(ran_at - armed_at, std::chrono::seconds(10));
}

TEST(Deferred, ArmedBeforeRunRuns) {
  Loop loop;
  Deferred deferred(loop, [&] { loop.stop(); });
  deferred.arm();
  loop.run();
  EXPECT_FALSE(deferred.armed());
}

TEST(Deferred, ArmingItselfYieldsToIoAndGoesOn) {
  Loop loop;
  int slices = 0, tasks = 0;
  Deferred* self = nullptr;
  Deferred work(loop, [&] {
    loop.post([&] { ++tasks; });
    if (++slices < 100)
      self->arm();
    else
      loop.stop();
  });
  self = &work;
  work.arm();
  loop.run();
  EXPECT_EQ(slices, 100);
  EXPECT_GT(tasks, 10) << "posted tasks got their turn in between";
}

TEST(Deferred, DisarmForgetsIt) {
  Loop loop;
  Deferred never(loop, [] { FAIL(); });
  never.arm();
  never.disarm();
  EXPECT_FALSE(never.armed());
  turn(loop);
}

TEST(Deferred, MayDestroyItselfAndOthersWhileItRuns) {
  Loop loop;
  int ran = 0;
  std::unique_ptr<Deferred> first, second;
  const auto token = std::make_shared<int>(0);
  first = std::make_unique<Deferred>(loop, [&, token] {
    ++ran;
    first.reset();
    second.reset();
    EXPECT_GE(token.use_count(), 2) << "the running closure is alive";
  });
  second = std::make_unique<Deferred>(loop, [&, token] { FAIL() << "destroyed before it ran"; });
  first->arm();
  second->arm();
  turn(loop);
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(token.use_count(), 1);
}

TEST(Deferred, MovesWhileArmed) {
  Loop loop;
  int ran = 0;
  Deferred source(loop, [&] { ++ran; });
  source.arm();
  const Deferred target(std::move(source));
  turn(loop);
  EXPECT_EQ(ran, 1);
}

}  // namespace
}  // namespace culvert::loop
