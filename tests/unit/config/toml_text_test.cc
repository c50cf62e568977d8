#include "common/config/toml_text.h"

#include <gtest/gtest.h>

#include "common/config/toml_file.h"

namespace culvert::config {
namespace {

std::optional<std::string> read_back(const std::string& literal) {
  const auto file = TomlFile::parse("value = " + literal + "\n", "test");
  if (!file) return std::nullopt;
  TomlReader reader(*file);
  return reader.string("value");
}

TEST(TomlText, EveryTextIsReadBackAsItWas) {
  for (const std::string text :
       {"", "plain", "with \"quotes\"", "back\\slash", "line\nbreak\r\n", "tab\t\x01\x1f\x7f",
        "\xc3\xa4\xe2\x82\xac", "\"\"\"", "ends with \\", "\n\nstarts with lines", "'''"}) {
    EXPECT_EQ(read_back(toml_quote(text)), text) << text;
    EXPECT_EQ(read_back(toml_multiline(text)), text) << text;
  }
}

TEST(TomlText, ReplacesWhatIsNotUtf8) {
  EXPECT_EQ(toml_quote("a\xff"
                       "b"),
            "\"a\xef\xbf\xbd"
            "b\"");
  EXPECT_TRUE(read_back(toml_quote("\xc3")));
}

TEST(TomlText, KeepsPemReadable) {
  EXPECT_EQ(toml_multiline("-----BEGIN X-----\nAA==\n-----END X-----\n"),
            "\"\"\"\n-----BEGIN X-----\nAA==\n-----END X-----\n\"\"\"");
}

TEST(TomlText, WritesLists) {
  EXPECT_EQ(toml_list(std::vector<std::string>{}), "[]");
  EXPECT_EQ(toml_list(std::vector<std::string>{"a", "b\""}), "[\"a\", \"b\\\"\"]");
}

}  // namespace
}  // namespace culvert::config
