// NetworkWatch: tells when the network around this host may have become another one: cables, radio,
// addresses, routes, and the time after the machine has slept.
#pragma once

#include <optional>
#include <string>

#include "common/base/clock.h"
#include "common/base/unique_function.h"
#include "common/loop/loop.h"
#include "common/loop/poll.h"
#include "common/loop/timer.h"
#include "common/net/network_events.h"

namespace culvert::client {

class NetworkWatch {
 public:
  enum class Why : uint8_t {
    kChanged,  // the kernel said so
    kSlept,    // this process, or the whole machine, has stood still for a while
  };

  // The loop must outlive the watch.
  explicit NetworkWatch(loop::Loop& loop);
  NetworkWatch(const NetworkWatch&) = delete;
  NetworkWatch& operator=(const NetworkWatch&) = delete;

  // Calls `on_change` a fifth of a second after the first of several changes that come together, as
  // those of a cable that is plugged in do; and within a second after a sleep. What happens to
  // `own_device` is no change. An error: nothing is watched but sleep.
  Status start(const std::string& own_device, UniqueFunction<void(Why)> on_change);

 private:
  void on_readable(bool lost);
  void on_tick();

  loop::Loop& loop_;
  std::optional<net::NetworkEvents> events_;
  loop::Poll poll_;
  loop::Timer settling_;
  loop::Timer ticking_;
  TimePoint last_tick_{};
  UniqueFunction<void(Why)> on_change_;
};

[[nodiscard]] std::string_view name_of(NetworkWatch::Why why);

}  // namespace culvert::client
