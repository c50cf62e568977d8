// Racer: TCP to the first of several addresses that answers (RFC 8305, "happy eyeballs"). An
// address that is silent costs a head start, one that refuses costs nothing. What is spoken on the
// connection, and how long all this may take, is decided elsewhere.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "common/base/address.h"
#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/base/unique_function.h"
#include "common/loop/deferred.h"
#include "common/loop/loop.h"
#include "common/loop/poll.h"
#include "common/loop/timer.h"

namespace culvert::client {

// How long an attempt is alone before the next one begins beside it.
constexpr Duration kHeadStart = std::chrono::milliseconds(250);

// The families take turns, so that one that is broken holds nobody up; the first stays the first,
// and within a family the order stays (RFC 8305, section 4). Pure.
[[nodiscard]] std::vector<Endpoint> interleaved(const std::vector<Endpoint>& endpoints);

class Racer {
 public:
  struct Winner {
    Endpoint endpoint;
    UniqueFd socket;  // connected
  };
  // A socket for start_connecting().
  using OpenSocket = std::function<Result<UniqueFd>(Family)>;
  using OnAttempt = UniqueFunction<void(const Endpoint& endpoint)>;
  using OnDone = UniqueFunction<void(Result<Winner>)>;
  struct Course {
    std::vector<Endpoint> endpoints;         // at least one
    Duration first_head_start = kHeadStart;  // of the first; those behind it have kHeadStart
    OpenSocket open_socket;
    OnAttempt on_attempt;  // an attempt begins
    // Once, as the last call; it may destroy the racer. All have failed: kNetwork with what became
    // of each, or the error of a socket that cannot be opened for another reason.
    OnDone on_done;
  };

  // Begins in one of the loop's next turns; all calls come from the loop. Destroying the racer
  // closes what has not won. `loop` must outlive it.
  Racer(loop::Loop& loop, Course course);
  ~Racer();
  Racer(const Racer&) = delete;
  Racer& operator=(const Racer&) = delete;

 private:
  struct Runner {
    Endpoint endpoint;
    UniqueFd socket;
    loop::Poll poll;
  };

  void start_next();
  Status start(const Endpoint& endpoint);
  void on_ready(Runner& runner, int error);
  void out(const Runner& runner, Error error);
  void lost(const Error& error);
  [[nodiscard]] Error summary() const;

  loop::Loop& loop_;
  Course course_;
  size_t next_ = 0;                               // of course_.endpoints
  std::vector<std::unique_ptr<Runner>> runners_;  // under way
  std::vector<Error> errors_;                     // of those that are out
  loop::Timer head_start_;
  loop::Deferred begin_;
};

}  // namespace culvert::client
