// Handle<Block>: how a wrapper of this folder owns its libuv struct. The wrapper moves, the block
// stays where it is. On destruction the block is closed and deletes itself from libuv's close
// callback: "memory can only be reclaimed from inside uv_close_cb or afterwards" (libuv's design
// page). Not for use outside this folder; the .cc files include handle_close.h for the rest.
#pragma once

#include <memory>

namespace culvert::loop {

// A Block has the members `uv` (the libuv handle, whose `data` points to the block), `callback` (a
// CallbackSlot) and `bool initialised` (uv_…_init succeeded, so that uv_close() must be called).
template <typename Block>
struct CloseHandle {
  void operator()(Block* block) const noexcept;
};

template <typename Block>
using Handle = std::unique_ptr<Block, CloseHandle<Block>>;

}  // namespace culvert::loop
