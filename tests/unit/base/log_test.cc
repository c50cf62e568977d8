#include "common/base/log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "common/base/text.h"

namespace culvert::log {
namespace {

// What `action` writes to standard error.
template <typename Action>
std::string logged(Level level, Format format, Action action) {
  init("culvert-test", level, format);
  testing::internal::CaptureStderr();
  action();
  std::string text = testing::internal::GetCapturedStderr();
  init("culvert-test", Level::kInfo, Format::kText);
  return text;
}

std::string after_time(const std::string& line) {
  return line.substr(line.find(' ') + 1);
}

TEST(Log, TextLineHasTimeLevelComponentMessageAndFields) {
  const std::string text = logged(Level::kInfo, Format::kText, [] {
    info("session", "session up", {{"session", 7}, {"user", "alice"}, {"ok", true}});
  });
  EXPECT_EQ(after_time(text), "info    session: session up session=7 user=alice ok=1\n");
  // 2026-03-01T12:00:00.123Z
  EXPECT_EQ(text.find('Z'), 23U);
  EXPECT_EQ(text[10], 'T');
  EXPECT_EQ(text[19], '.');
}

TEST(Log, TextFieldCannotForgeALineOrAField) {
  const struct {
    std::string value;
    std::string shown;
  } cases[] = {
      {"plain", "plain"},
      {"", "\"\""},
      {"two words", "\"two words\""},
      {"a=b", "\"a=b\""},
      {"x\n2026-01-01T00:00:00.000Z error   tls: forged",
       "\"x\\n2026-01-01T00:00:00.000Z error   tls: forged\""},
      {"\" user=root", "\"\\\" user=root\""},
      {"\x1b[2J", "\"\\x1b[2J\""},
      {"bad \xff", "\"bad \\xff\""},
  };
  for (const auto& test : cases) {
    const std::string text = logged(Level::kInfo, Format::kText, [&] {
      info("test", "m", {{"f", test.value}});
    });
    EXPECT_EQ(after_time(text), "info    test: m f=" + test.shown + "\n");
  }
}

TEST(Log, JsonLineIsValidWhateverTheFieldHolds) {
  std::vector<std::string> values{"plain",    "",         "a\nb",
                                  "\"",       "\\",       "\x1b[2J",
                                  "\x7f",     "Büro",     std::string("\0", 1),
                                  "\xff\xfe", "cut \xc3", "\xed\xa0\x80"};
  for (int byte = 0; byte < 256; ++byte)
    values.emplace_back(1, static_cast<char>(byte));
  for (const auto& value : values) {
    const std::string text = logged(Level::kInfo, Format::kJson, [&] {
      warning("tls", "message", {{"value", value}, {"session", 7}});
    });
    ASSERT_EQ(text.back(), '\n');
    ASSERT_EQ(text.find('\n'), text.size() - 1) << "one line";
    for (const char c : text.substr(0, text.size() - 1))
      ASSERT_TRUE(c >= 0x20 && c < 0x7f) << "printable ASCII only: " << text;
    const auto line = nlohmann::json::parse(text, nullptr, false);
    ASSERT_TRUE(line.is_object()) << text;
    EXPECT_EQ(line["level"], "warning");
    EXPECT_EQ(line["program"], "culvert-test");
    EXPECT_EQ(line["component"], "tls");
    EXPECT_EQ(line["message"], "message");
    if (valid_utf8_prefix(value) == value.size()) {
      EXPECT_EQ(line["value"], value);
    }
  }
}

TEST(Log, AFieldCannotReplaceAStandardMember) {
  const std::string text = logged(Level::kInfo, Format::kJson, [] {
    error("tls", "message", {{"reason", "level"}});
  });
  EXPECT_EQ(nlohmann::json::parse(text)["level"], "error");
}

TEST(Log, WritesNothingBelowItsLevel) {
  const std::string text = logged(Level::kWarning, Format::kText, [] {
    trace("t", "no");
    debug("t", "no");
    info("t", "no");
    warning("t", "yes");
    error("t", "yes");
  });
  EXPECT_EQ(text.find("no"), std::string::npos);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

TEST(Log, LinesOfManyThreadsDoNotMix) {
  constexpr int kThreads = 4, kLines = 100;
  const std::string text = logged(Level::kInfo, Format::kJson, [] {
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int t = 0; t < kThreads; ++t)
      threads.emplace_back([t] {
        for (int i = 0; i < kLines; ++i)
          info("t", "m", {{"thread", t}, {"line", i}});
      });
    for (auto& thread : threads)
      thread.join();
  });
  int lines = 0;
  for (const auto line : split(text, '\n')) {
    if (line.empty()) continue;
    ++lines;
    EXPECT_TRUE(nlohmann::json::parse(line, nullptr, false).is_object()) << line;
  }
  EXPECT_EQ(lines, kThreads * kLines);
}

TEST(Log, LevelsAndFormatsHaveNames) {
  EXPECT_EQ(parse_level("trace"), Level::kTrace);
  EXPECT_EQ(parse_level("debug"), Level::kDebug);
  EXPECT_EQ(parse_level("info"), Level::kInfo);
  EXPECT_EQ(parse_level("warning"), Level::kWarning);
  EXPECT_EQ(parse_level("error"), Level::kError);
  for (const char* bad : {"", "INFO", "loud", "info "})
    EXPECT_FALSE(parse_level(bad)) << bad;
  EXPECT_EQ(parse_format("text"), Format::kText);
  EXPECT_EQ(parse_format("json"), Format::kJson);
  EXPECT_FALSE(parse_format("xml"));
}

}  // namespace
}  // namespace culvert::log
