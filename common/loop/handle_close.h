// The part of handle.h that knows libuv, and the slot that a handle's callback sits in. Included by
// this folder's .cc files only.
#pragma once

#include <uv.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "common/base/unique_function.h"
#include "common/loop/handle.h"

namespace culvert::loop {

// A callback that may replace or drop itself while it runs. The slot must outlive the call (a block
// does: it is freed in a later phase of the turn), the function need not.
template <typename Signature>
class CallbackSlot;

template <typename... Args>
class CallbackSlot<void(Args...)> {
 public:
  void set(UniqueFunction<void(Args...)> function) {
    ++generation_;
    function_ = std::move(function);
  }
  void clear() { set(nullptr); }
  // Does nothing if the slot is empty.
  void call(Args... args) {
    if (!function_) return;
    const unsigned generation = generation_;
    auto running = std::move(function_);
    running(std::forward<Args>(args)...);
    if (generation == generation_) function_ = std::move(running);
  }
  // As call(), and the slot is empty afterwards unless the function has set another one.
  void call_once(Args... args) {
    if (auto running = std::exchange(function_, nullptr)) running(std::forward<Args>(args)...);
  }

 private:
  UniqueFunction<void(Args...)> function_;
  unsigned generation_ = 0;
};

// What the closure of a closed handle owns is released at once (unless it is running), the block
// itself when libuv is done with it.
template <typename Block>
void CloseHandle<Block>::operator()(Block* block) const noexcept {
  block->callback.clear();
  if (!block->initialised) {
    delete block;
    return;
  }
  uv_close(reinterpret_cast<uv_handle_t*>(&block->uv),
           [](uv_handle_t* handle) { delete static_cast<Block*>(handle->data); });
}

// libuv returns negative errno values on Linux; a failure here is a broken invariant.
inline void must(int uv_result) noexcept {
  if (uv_result == 0) return;
  std::fprintf(stderr, "culvert: libuv: %s\n", uv_strerror(uv_result));
  std::abort();
}

}  // namespace culvert::loop
