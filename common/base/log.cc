// The only file that includes the logging library (four seconds to compile) and, for the JSON form,
// the JSON library.
#include "common/base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "common/base/clock.h"
#include "common/base/text.h"

namespace culvert::log {
namespace {

// The logger is one of the two globals we allow (the other is the CPU probe): a line must be
// possible from anywhere, before and after everything else.
std::atomic<Format> g_format{Format::kText};
std::atomic<Level> g_level{Level::kInfo};
std::string g_program = "culvert";  // written by init() before any thread starts

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kTrace:
      return spdlog::level::trace;
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarning:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = std::make_shared<spdlog::logger>("culvert",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_level(spdlog::level::trace);  // filtered by enabled()
    made->set_pattern("%v");                // the line is complete when it gets here
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return *instance;
}

std::string_view word_for(Level level) {
  switch (level) {
    case Level::kTrace:
      return "trace";
    case Level::kDebug:
      return "debug";
    case Level::kInfo:
      return "info";
    case Level::kWarning:
      return "warning";
    case Level::kError:
      return "error";
  }
  return "info";
}

std::string timestamp() {
  const auto now = std::chrono::system_clock::now();
  const auto seconds = std::chrono::time_point_cast<std::chrono::seconds>(now);
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now - seconds).count();
  std::string text = to_iso8601(seconds);
  text.pop_back();
  return fmt::format("{}.{:03}Z", text, ms);
}

bool needs_quotes(std::string_view value) {
  return value.empty() || value.find_first_of(" =\"\\") != std::string_view::npos;
}

std::string text_line(Level level, std::string_view component, std::string_view message,
                      Fields fields) {
  std::string line = fmt::format("{} {:<7} {}: {}", timestamp(), word_for(level), component,
                                 escape_for_display(message));
  for (const auto& field : fields) {
    const std::string value = escape_for_display(field.value);
    const char* quote = needs_quotes(field.value) || value != field.value ? "\"" : "";
    line += fmt::format(" {}={}{}{}", field.key, quote, value, quote);
  }
  return line;
}

std::string json_line(Level level, std::string_view component, std::string_view message,
                      Fields fields) {
  nlohmann::ordered_json line;
  line["time"] = timestamp();
  line["level"] = word_for(level);
  line["program"] = g_program;
  line["component"] = component;
  line["message"] = message;
  for (const auto& field : fields)
    line[std::string(field.key)] = field.value;
  // Invalid UTF-8 from a peer is replaced, not thrown about.
  return line.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

}  // namespace

void init(std::string_view program, Level level, Format format) {
  g_program = program;
  g_level = level;
  g_format = format;
}

bool enabled(Level level) {
  return level >= g_level.load(std::memory_order_relaxed);
}

void write(Level level, std::string_view component, std::string_view message, Fields fields) {
  const bool json = g_format.load(std::memory_order_relaxed) == Format::kJson;
  const std::string line = json ? json_line(level, component, message, fields)
                                : text_line(level, component, message, fields);
  logger().log(to_spdlog(level), spdlog::string_view_t(line));
}

std::optional<Level> parse_level(std::string_view word) {
  for (const Level level :
       {Level::kTrace, Level::kDebug, Level::kInfo, Level::kWarning, Level::kError})
    if (word == word_for(level)) return level;
  return std::nullopt;
}

std::optional<Format> parse_format(std::string_view word) {
  if (word == "text") return Format::kText;
  if (word == "json") return Format::kJson;
  return std::nullopt;
}

}  // namespace culvert::log
