#include "common/loop/timer.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <utility>

#include "common/loop/handle_close.h"

namespace culvert::loop {
namespace {

using Milliseconds = std::chrono::milliseconds;

// Rounded up, at least 1: a timer of 0 ms that arms itself again would starve I/O, because libuv
// goes on until no timer is due.
uint64_t whole_milliseconds(Duration duration) {
  return static_cast<uint64_t>(
      std::max<int64_t>(1, std::chrono::ceil<Milliseconds>(duration).count()));
}

}  // namespace

struct Timer::Block {
  uv_timer_t uv{};
  bool initialised = true;  // uv_timer_init cannot fail
  CallbackSlot<void()> callback;
};

Timer::Timer(Loop& loop) : block_(new Block) {
  must(uv_timer_init(loop.raw(), &block_->uv));
  block_->uv.data = block_.get();
}

Timer::Timer(Timer&&) noexcept = default;
Timer& Timer::operator=(Timer&&) noexcept = default;
Timer::~Timer() = default;

void Timer::start(Duration after, Task on_expiry) {
  // libuv counts from its own time, which is rounded down to a millisecond: one more makes it never
  // early.
  arm(whole_milliseconds(after) + 1, 0, std::move(on_expiry));
}

void Timer::start_repeating(Duration every, Task on_expiry) {
  assert(every > Duration::zero());
  const uint64_t ms = whole_milliseconds(every);
  arm(ms + 1, ms, std::move(on_expiry));
}

void Timer::arm(uint64_t after_ms, uint64_t repeat_ms, Task on_expiry) {
  assert(on_expiry);
  block_->callback.set(std::move(on_expiry));
  // libuv's time is that of the start of the turn, and a long turn would shorten the wait.
  uv_update_time(block_->uv.loop);
  must(uv_timer_start(
      &block_->uv,
      [](uv_timer_t* handle) noexcept {
        auto& callback = static_cast<Block*>(handle->data)->callback;
        if (uv_timer_get_repeat(handle) != 0)
          callback.call();
        else
          callback.call_once();
      },
      after_ms, repeat_ms));
}

void Timer::stop() {
  uv_timer_stop(&block_->uv);
  block_->callback.clear();
}

bool Timer::active() const {
  return uv_is_active(reinterpret_cast<uv_handle_t*>(&block_->uv)) != 0;
}

}  // namespace culvert::loop
