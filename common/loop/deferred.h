// Deferred: work gathered during a turn and done once at its end, such as one flush for all that
// was queued for a socket.
#pragma once

#include <memory>

#include "common/loop/loop.h"

namespace culvert::loop {

class Deferred {
 public:
  // `work` is kept and runs once for each time it was armed.
  Deferred(Loop& loop, Task work);
  Deferred(Deferred&&) noexcept;
  Deferred& operator=(Deferred&&) noexcept;
  ~Deferred();

  // Runs the work once at the end of this turn: after all I/O callbacks or all timers of the turn,
  // and in any case before the loop waits again. Armed from its own work it runs again after the
  // next look at I/O, without waiting: so long work can be cut into turns. Idempotent; allocates
  // nothing once as many have been armed before.
  void arm();
  // Forgets it.
  void disarm();
  [[nodiscard]] bool armed() const;

 private:
  friend struct Loop::State;
  struct Node;
  void detach() noexcept;
  std::unique_ptr<Node> node_;
};

}  // namespace culvert::loop
