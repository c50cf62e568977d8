// Timer: calls back once, or again and again.
// Counts time awake (CLOCK_MONOTONIC), while Loop::now() counts suspend as well: who keeps
// deadlines compares now() with them when the timer fires, instead of trusting that it fired on
// time.
#pragma once

#include <cstdint>
#include <memory>

#include "common/loop/handle.h"
#include "common/loop/loop.h"

namespace culvert::loop {

class Timer {
 public:
  explicit Timer(Loop& loop);
  Timer(Timer&&) noexcept;
  Timer& operator=(Timer&&) noexcept;
  ~Timer();

  // Calls `on_expiry` once, no earlier than `after` from now (rounded up to milliseconds, never
  // early). What was armed before is forgotten. Zero or less means in a millisecond: "as soon as
  // possible" is Loop::post or Deferred.
  void start(Duration after, Task on_expiry);
  // First after `every`, then again and again. Turns that were missed are not made up for.
  // REQUIRES: every > 0.
  void start_repeating(Duration every, Task on_expiry);
  void stop();
  // Armed and not yet expired; inside the callback true for a repeating one only.
  [[nodiscard]] bool active() const;

 private:
  struct Block;
  void arm(uint64_t after_ms, uint64_t repeat_ms, Task on_expiry);
  Handle<Block> block_;
};

}  // namespace culvert::loop
