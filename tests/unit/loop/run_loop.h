// Helpers for tests that turn a loop: run until something holds, with a time limit.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>

#include "common/loop/loop.h"
#include "common/loop/timer.h"

namespace culvert::loop {

// Turns the loop until `condition` holds, which is asked about every millisecond. False if that
// takes longer than `limit`.
inline bool run_until(Loop& loop, const std::function<bool()>& condition,
                      Duration limit = std::chrono::seconds(20)) {
  const TimePoint deadline = BootClock::now() + limit;
  bool held = condition();
  if (held) return true;
  Timer tick(loop);
  tick.start_repeating(std::chrono::milliseconds(1), [&] {
    held = condition();
    if (held || BootClock::now() >= deadline) loop.stop();
  });
  loop.run();
  return held;
}

// Lets everything happen that can happen without waiting: a few turns.
inline void turn(Loop& loop, int turns = 4) {
  int left = turns;
  UniqueFunction<void()> again = [&] {
    if (--left == 0)
      loop.stop();
    else
      loop.post([&] { again(); });
  };
  loop.post([&] { again(); });
  loop.run();
}

}  // namespace culvert::loop
