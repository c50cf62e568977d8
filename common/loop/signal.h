// Signal: a process signal as an event of the loop. Several loops may watch the same signal, and
// each hears it.
#pragma once

#include "common/loop/handle.h"
#include "common/loop/loop.h"

namespace culvert::loop {

class Signal {
 public:
  // REQUIRES: a signal that can be caught.
  Signal(Loop& loop, int signum, Task on_signal);
  Signal(Signal&&) noexcept;
  Signal& operator=(Signal&&) noexcept;
  // The last one to go restores the default action.
  ~Signal();

 private:
  struct Block;
  Handle<Block> block_;
};

}  // namespace culvert::loop
