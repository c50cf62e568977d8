// Poll: readiness of a descriptor that somebody else owns (TCP, UDP, TUN).
// Level-triggered: as long as there is something to read, every turn says so.
#pragma once

#include "common/base/result.h"
#include "common/base/unique_function.h"
#include "common/loop/handle.h"
#include "common/loop/loop.h"

namespace culvert::loop {

enum Interest : unsigned { kReadable = 1, kWritable = 2 };

class Poll {
 public:
  // `ready`: a set of Interest. `error`: 0, or an errno: the kernel reports an error condition on
  // the descriptor (a socket's SO_ERROR, which is thereby cleared; else EIO). Then `ready` is all
  // of the interest, because data that came before the error can still be read, and the watch is
  // off until set_interest() asks for it again.
  using OnReady = UniqueFunction<void(unsigned ready, int error)>;

  // Does nothing yet. `fd` is borrowed: stop() or destroy this object before closing the descriptor
  // or watching it from another loop.
  Poll(Loop& loop, int fd);
  Poll(Poll&&) noexcept;
  Poll& operator=(Poll&&) noexcept;
  ~Poll();

  // Starts watching and makes the descriptor non-blocking. Fails if it cannot be watched (a plain
  // file, a closed descriptor) or is watched already in this loop.
  [[nodiscard]] Status start(OnReady on_ready, unsigned interest);
  // What to wait for from now on; 0 pauses. Allocates nothing, and does nothing if unchanged. A
  // change costs two system calls. REQUIRES: start() succeeded.
  void set_interest(unsigned interest);
  // What is being waited for; 0 before start() and after an error.
  [[nodiscard]] unsigned interest() const;
  // Forgets the descriptor, which may then be closed. No callback comes after it.
  void stop();

 private:
  struct Block;
  Loop* loop_;
  int fd_;
  Handle<Block> block_;
};

}  // namespace culvert::loop
