#include "common/config/duration.h"

#include <algorithm>
#include <array>

#include "common/base/text.h"

namespace culvert::config {
namespace {

constexpr Duration kMaxDuration = std::chrono::hours(24) * 3650;

struct Unit {
  std::string_view name;
  Duration length;
};
constexpr std::array kUnits = {
    // largest first
    Unit{"d", std::chrono::hours(24)},        Unit{"h", std::chrono::hours(1)},
    Unit{"m", std::chrono::minutes(1)},       Unit{"s", std::chrono::seconds(1)},
    Unit{"ms", std::chrono::milliseconds(1)},
};

const Unit* find_unit(std::string_view name) {
  for (const Unit& unit : kUnits)
    if (unit.name == name) return &unit;
  return nullptr;
}

Error bad(std::string_view text, std::string hint) {
  return fail(ErrorCode::kUsage, "\"" + escape_for_display(text) + "\" is not a duration", {},
              std::move(hint));
}

}  // namespace

Result<Duration> parse_duration(std::string_view text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const Unit* unit = find_unit(text.substr(digits));
  if (digits == 0 || unit == nullptr)
    return bad(text, "write a whole number and a unit: 500ms, 15s, 5m, 1h, 2d");
  const auto count =
      parse_decimal(text.substr(0, digits), 0, static_cast<uint64_t>(kMaxDuration / unit->length));
  if (!count) return bad(text, "3650d is the most");
  return unit->length * static_cast<int64_t>(*count);
}

std::string print_duration(Duration duration) {
  if (duration.count() == 0) return "0s";
  for (const Unit& unit : kUnits)
    if (duration % unit.length == Duration::zero())
      return std::to_string(duration / unit.length) + std::string(unit.name);
  return std::to_string(duration.count()) + "ns";
}

}  // namespace culvert::config
