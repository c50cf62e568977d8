// Durations as people write them: a whole number and a unit, "500ms", "15s", "5m", "1h", "2d".
// Pure; a bare number is refused, because nobody remembers which unit was meant.
#pragma once

#include <string>
#include <string_view>

#include "common/base/clock.h"
#include "common/base/result.h"

namespace culvert::config {

// Not negative, at most 3650 days.
Result<Duration> parse_duration(std::string_view text);

// In the largest unit that leaves a whole number: 90 s is "90s", 3600 s "1h", 0 "0s".
[[nodiscard]] std::string print_duration(Duration duration);

}  // namespace culvert::config
