// Time. TimePoint counts from boot and goes on during suspend (CLOCK_BOOTTIME), so that a laptop
// that slept knows how long. Only loop::Loop and main() call now(); everybody else is told.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace culvert {

using Duration = std::chrono::nanoseconds;

struct BootClock {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<BootClock>;
  static constexpr bool is_steady = true;
  static time_point now() noexcept;
};

using TimePoint = BootClock::time_point;

// Seconds since 1970, for certificates and for people.
using WallTime = std::chrono::sys_seconds;
[[nodiscard]] WallTime wall_now();
// "2026-03-01T12:00:00Z"
[[nodiscard]] std::string to_iso8601(WallTime time);

}  // namespace culvert
