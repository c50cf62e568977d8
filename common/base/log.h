// Logging: one line per event, as text or JSON, on standard error.
//
//   log::info("session", "session up", {{"session", id}, {"user", user}, {"address", address}});
//
// The message is a constant of ours; whatever comes from outside goes into fields, whose values are
// escaped, so that no peer can forge a line or drive a terminal. Never pass a Secret's bytes.
// Thread-safe. Not for the packet path: packets are counted, not logged.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace culvert::log {

enum class Level { kTrace, kDebug, kInfo, kWarning, kError };
enum class Format { kText, kJson };

struct Field {
  std::string_view key;
  std::string value;
  Field(std::string_view k, std::string_view v) : key(k), value(v) {}
  Field(std::string_view k, const char* v) : key(k), value(v) {}
  Field(std::string_view k, const std::string& v) : key(k), value(v) {}
  template <typename N>
  requires std::is_arithmetic_v<N> Field(std::string_view k, N number)
      : key(k), value(std::to_string(number)) {}
};
using Fields = std::initializer_list<Field>;

// Call once, first thing in main() and before any thread starts. Until then lines go out as text
// at level info.
void init(std::string_view program, Level level, Format format);

[[nodiscard]] bool enabled(Level level);
void write(Level level, std::string_view component, std::string_view message, Fields fields);

inline void trace(std::string_view c, std::string_view m, Fields f = {}) {
  if (enabled(Level::kTrace)) write(Level::kTrace, c, m, f);
}
inline void debug(std::string_view c, std::string_view m, Fields f = {}) {
  if (enabled(Level::kDebug)) write(Level::kDebug, c, m, f);
}
inline void info(std::string_view c, std::string_view m, Fields f = {}) {
  if (enabled(Level::kInfo)) write(Level::kInfo, c, m, f);
}
inline void warning(std::string_view c, std::string_view m, Fields f = {}) {
  if (enabled(Level::kWarning)) write(Level::kWarning, c, m, f);
}
inline void error(std::string_view c, std::string_view m, Fields f = {}) {
  if (enabled(Level::kError)) write(Level::kError, c, m, f);
}

// "debug", "info", …; nothing for an unknown word.
[[nodiscard]] std::optional<Level> parse_level(std::string_view word);
[[nodiscard]] std::optional<Format> parse_format(std::string_view word);

}  // namespace culvert::log
