// Liveness: dead-peer detection and keepalive of one channel. Pure: events in, due actions out.
//
// The rules are openconnect's (and so every peer's): silence of D asks, an unanswered question is
// repeated every D/2, and a channel from which nothing came for `dead_after` is dead. Any valid
// frame counts as life, not only answers.
#pragma once

#include <optional>

#include "common/base/clock.h"

namespace culvert::tunnel {

class Liveness {
 public:
  struct Options {
    Duration dpd{};         // 0: never ask, never dead
    Duration dead_after{};  // 0: twice the dpd
    Duration keepalive{};   // send something after that much silence of our own; 0: never
  };
  enum class Action { kNone, kSendDpd, kSendKeepalive, kDead };

  Liveness(const Options& options, TimePoint now);

  // Reported once per batch by the packet path.
  void received(TimePoint now) {
    last_received_ = now;
    asked_.reset();
  }
  void sent(TimePoint now) { last_sent_ = now; }
  [[nodiscard]] TimePoint last_received() const { return last_received_; }

  // What is due now; kSendDpd counts as asked from here on.
  [[nodiscard]] Action due(TimePoint now);

  // Asks at the next due(), whatever the silence was: used to prove a channel.
  void ask_now() { ask_now_ = true; }

 private:
  Options options_;
  TimePoint last_received_;
  TimePoint last_sent_;
  std::optional<TimePoint> asked_;
  bool ask_now_ = false;
};

}  // namespace culvert::tunnel
