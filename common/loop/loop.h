// The event loop of one thread, over libuv.
//
// common/loop is the only place that includes <uv.h>, and only in its .cc files: everybody else
// sees the classes of this folder, which own what they stand for. The rule for all of them: the
// wrapper may be moved and destroyed at any time on the loop's thread, also inside its own
// callback; the libuv struct behind it stays where it is until libuv's close callback frees it. A
// wrapper must not outlive its Loop. Callbacks must not throw.
#pragma once

#include <memory>

#include "common/base/clock.h"
#include "common/base/unique_function.h"

struct uv_loop_s;

namespace culvert::loop {

using Task = UniqueFunction<void()>;

// Everything but post() belongs to one thread: the one that calls run(), or before that the one
// that builds it. Ignores SIGPIPE for the process: a peer that is gone is an error to handle.
class Loop {
 public:
  Loop();
  // Destroys the tasks that were posted and never ran, waits for killed children, and asserts that
  // nothing else is left open.
  // REQUIRES: not running; no wrapper of this loop is alive; no other thread posts any more.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Turns until stop(), also when there is nothing to wait for. May be called again afterwards.
  void run();
  // Ends run() after this turn; before run(), makes the next run() return at once. From the loop's
  // own thread: others post([&] { loop.stop(); }).
  void stop();

  // The time of this turn: the clock is read at the first call after the loop has waited, and once
  // more for timers. Outside run() it is read at every call.
  [[nodiscard]] TimePoint now() const;

  // Runs `task` on the loop's thread in one of the next turns, after what was posted before it.
  // Thread-safe. A task that is posted by a task waits for the next turn.
  void post(Task task);

  // For this folder only.
  [[nodiscard]] uv_loop_s* raw();
  struct State;
  [[nodiscard]] State& state() { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

}  // namespace culvert::loop
