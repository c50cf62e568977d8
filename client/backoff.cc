#include "client/backoff.h"

#include <algorithm>
#include <utility>

namespace culvert::client {

Duration Backoff::after_failure() {
  const Duration doubled = std::min(next_ * 2, kLongest);
  return std::exchange(next_, doubled);
}

Duration Backoff::after_loss(Duration up_time) {
  if (up_time < kLivedAWhile) return after_failure();
  next_ = kFirst;
  return Duration::zero();
}

}  // namespace culvert::client
