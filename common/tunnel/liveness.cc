#include "common/tunnel/liveness.h"

namespace culvert::tunnel {

Liveness::Liveness(const Options& options, TimePoint now)
    : options_(options), last_received_(now), last_sent_(now) {
  if (options_.dead_after == Duration{}) options_.dead_after = 2 * options_.dpd;
}

Liveness::Action Liveness::due(TimePoint now) {
  const bool watching = options_.dpd > Duration{};
  if (watching && now > last_received_ + options_.dead_after) return Action::kDead;
  const bool silent = watching && now >= last_received_ + options_.dpd;
  const bool repeat = !asked_ || now >= *asked_ + options_.dpd / 2;
  if (ask_now_ || (silent && repeat)) {
    ask_now_ = false;
    asked_ = now;
    return Action::kSendDpd;
  }
  const bool keep = options_.keepalive > Duration{} && now >= last_sent_ + options_.keepalive;
  return keep ? Action::kSendKeepalive : Action::kNone;
}

}  // namespace culvert::tunnel
