// What is behind a Loop. For the .cc files of this folder only.
#pragma once

#include <uv.h>

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "common/loop/deferred.h"
#include "common/loop/loop.h"

namespace culvert::loop {

// Where other threads leave tasks for a loop. Shared, so that a thread that cannot be stopped (a
// resolution) may outlive the loop: what it posts then is dropped.
class Mailbox {
 public:
  explicit Mailbox(uv_async_t& wake) : wake_(&wake) {}

  // Thread-safe. After close() the task is destroyed unrun, on the caller's thread.
  void post(Task task);
  // What was posted since the last call, in order.
  [[nodiscard]] std::vector<Task> take();
  // Touches the async handle no more. Returns what was left.
  [[nodiscard]] std::vector<Task> close();

 private:
  std::mutex mutex_;
  std::vector<Task> tasks_;  // guarded by mutex_
  uv_async_t* wake_;         // guarded by mutex_; null once closed
};

struct Deferred::Node {
  Loop::State* loop;
  Task work;
  bool armed = false;
};

struct Loop::State {
  State();
  ~State();
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  void run_posted();
  // Runs what was armed before the call; what is armed meanwhile stays for the next call.
  void run_deferred();
  void arm(Deferred::Node& node);
  void disarm(Deferred::Node& node) noexcept;
  // The node is about to die: forget it, also if it is running.
  void forget(Deferred::Node& node) noexcept;

  // One turn of libuv: timers, idle, prepare (before_wait), the wait and I/O, check (after_io),
  // close callbacks.
  uv_loop_t uv{};
  uv_prepare_t before_wait{};
  uv_check_t after_io{};
  uv_idle_t no_wait{};  // active while something is armed: makes the wait a look
  uv_async_t wake{};
  std::shared_ptr<Mailbox> mailbox;

  bool running = false;
  std::optional<TimePoint> turn_time;

  // Two vectors that change places, so that arming allocates nothing once warm.
  std::vector<Deferred::Node*> armed;
  std::vector<Deferred::Node*> batch;
  const Deferred::Node* running_node = nullptr;

  size_t abandoned_children = 0;  // killed and not yet gone; ~State waits for them
};

}  // namespace culvert::loop
