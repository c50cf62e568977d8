// Backoff: how long to wait before the next attempt. Pure.
#pragma once

#include "common/base/clock.h"

namespace culvert::client {

class Backoff {
 public:
  // 1, 2, 4, 8, 16, 30, 30, … seconds, one step a call.
  [[nodiscard]] Duration after_failure();

  // A tunnel that was up for `up_time` is gone. At once if it had lived for a while (a restarted
  // server, a changed network); a tunnel that keeps dying young goes on with the growing steps.
  [[nodiscard]] Duration after_loss(Duration up_time);

 private:
  static constexpr Duration kFirst = std::chrono::seconds(1);
  static constexpr Duration kLongest = std::chrono::seconds(30);
  static constexpr Duration kLivedAWhile = std::chrono::seconds(10);
  Duration next_ = kFirst;
};

}  // namespace culvert::client
