#include "common/base/text.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace culvert {
namespace {

using namespace std::string_literals;

TEST(Hex, GoesThereAndBack) {
  std::array<std::byte, 256> all;
  for (size_t i = 0; i < all.size(); ++i)
    all[i] = static_cast<std::byte>(i);
  const std::string text = to_hex(all);
  EXPECT_EQ(text.substr(0, 8), "00010203");
  EXPECT_EQ(text.substr(504), "fcfdfeff");
  const auto back = from_hex(text);
  ASSERT_TRUE(back);
  EXPECT_TRUE(std::equal(back->begin(), back->end(), all.begin(), all.end()));
}

TEST(Hex, TakesEitherCaseAndNothingElse) {
  EXPECT_EQ(to_hex(*from_hex("aBCdeF09")), "abcdef09");
  EXPECT_TRUE(from_hex("")->empty());
  for (const char* bad : {"a", "abc", "0x", "g0", " a", "a ", "-1", "a\n"})
    EXPECT_FALSE(from_hex(bad)) << bad;
  EXPECT_FALSE(from_hex("0\0"s));
}

TEST(EscapeForDisplay, LeavesOrdinaryTextAlone) {
  for (const char* text :
       {"", "alice", "CN=vpn.example.com, O=Büro", "日本語", "🙂", "~ !#$%&'()"})
    EXPECT_EQ(escape_for_display(text), text);
}

TEST(EscapeForDisplay, EscapesWhatCouldForgeALineOrDriveATerminal) {
  const struct {
    std::string raw;
    std::string escaped;
  } cases[] = {
      {"a\nb", R"(a\nb)"},
      {"a\r\tb", R"(a\r\tb)"},
      {"\"quoted\"", R"(\"quoted\")"},
      {"back\\slash", R"(back\\slash)"},
      {"\x1b[31mred", R"(\x1b[31mred)"},
      {"nul\0byte"s, R"(nul\x00byte)"},
      {"\x7f", R"(\x7f)"},
      {"\xc2\x9b", R"(\xc2\x9b)"},          // C1: another way to say ESC [
      {"\xe2\x80\xae", R"(\xe2\x80\xae)"},  // right-to-left override
      {"\xe2\x81\xa6", R"(\xe2\x81\xa6)"},  // left-to-right isolate
      {"\xe2\x80\xa8", R"(\xe2\x80\xa8)"},  // line separator
      {"\xef\xbb\xbf", R"(\xef\xbb\xbf)"},  // byte order mark
  };
  for (const auto& test : cases)
    EXPECT_EQ(escape_for_display(test.raw), test.escaped);
}

TEST(EscapeForDisplay, EscapesBytesThatAreNotUtf8) {
  const struct {
    std::string raw;
    std::string escaped;
  } cases[] = {
      {"\xff", R"(\xff)"},
      {"\x80", R"(\x80)"},                                  // continuation without a lead
      {"\xc3", R"(\xc3)"},                                  // cut off
      {"\xc3z", R"(\xc3z)"},                                // lead without a continuation
      {"\xe2\x82", R"(\xe2\x82)"},                          // cut off after two of three
      {"\xc0\xaf", R"(\xc0\xaf)"},                          // overlong "/"
      {"\xe0\x80\xaf", R"(\xe0\x80\xaf)"},                  // overlong in three
      {"\xf0\x80\x80\xaf", R"(\xf0\x80\x80\xaf)"},          // overlong in four
      {"\xed\xa0\x80", R"(\xed\xa0\x80)"},                  // surrogate
      {"\xf4\x90\x80\x80", R"(\xf4\x90\x80\x80)"},          // beyond U+10FFFF
      {"\xf8\x88\x80\x80\x80", R"(\xf8\x88\x80\x80\x80)"},  // five bytes
  };
  for (const auto& test : cases) {
    EXPECT_EQ(escape_for_display(test.raw), test.escaped);
    EXPECT_LT(valid_utf8_prefix(test.raw), test.raw.size());
  }
}

TEST(EscapeForDisplay, NeverLetsAControlByteThrough) {
  for (unsigned a = 0; a < 256; ++a)
    for (unsigned b = 0; b < 256; ++b) {
      const std::string raw{static_cast<char>(a), static_cast<char>(b)};
      const std::string shown = escape_for_display(raw);
      ASSERT_TRUE(has_no_control_characters(shown)) << a << ' ' << b;
      ASSERT_EQ(valid_utf8_prefix(shown), shown.size()) << a << ' ' << b;
    }
}

TEST(ValidUtf8Prefix, CountsTheBytesBeforeTheFirstBadOne) {
  EXPECT_EQ(valid_utf8_prefix(""), 0U);
  EXPECT_EQ(valid_utf8_prefix("abc"), 3U);
  EXPECT_EQ(valid_utf8_prefix("a\xc3\xa4\xff z"), 3U);
  EXPECT_EQ(valid_utf8_prefix("ab\xe2\x82"), 2U);
  EXPECT_EQ(valid_utf8_prefix("\xf0\x9f\x99\x82"), 4U);
  EXPECT_EQ(valid_utf8_prefix("\xf4\x8f\xbf\xbf"), 4U) << "U+10FFFF is the last";
}

TEST(ControlCharacters, AreBelow0x20And0x7f) {
  EXPECT_TRUE(has_no_control_characters("X-CSTP-Address: 10.0.0.1 ~"));
  EXPECT_TRUE(has_no_control_characters("Büro"));
  for (const std::string& bad : {"\r"s, "a\nb"s, "\t"s, "\0"s, "\x1f"s, "\x7f"s})
    EXPECT_FALSE(has_no_control_characters(bad));
}

TEST(ParseDecimal, TakesWholeNumbersWithinTheRangeOnly) {
  EXPECT_EQ(parse_decimal("0", 0, 10), 0U);
  EXPECT_EQ(parse_decimal("10", 0, 10), 10U);
  EXPECT_EQ(parse_decimal("007", 0, 10), 7U);
  EXPECT_EQ(parse_decimal("18446744073709551615", 0, UINT64_MAX), UINT64_MAX);
  for (const char* bad : {"", "11", "-1", "+1", " 1", "1 ", "1x", "x", "0x1", "1.0", "1e1",
                          "18446744073709551616", "99999999999999999999999"})
    EXPECT_FALSE(parse_decimal(bad, 0, 10)) << bad;
  EXPECT_FALSE(parse_decimal("1\0"s, 0, 10));
  EXPECT_FALSE(parse_decimal("4", 5, 10));
}

TEST(Nearest, FindsATypoAndNothingFarAway) {
  constexpr std::array<std::string_view, 4> kKeys{"address", "certificate", "dpd", "idle_timeout"};
  EXPECT_EQ(nearest("adress", kKeys), "address");
  EXPECT_EQ(nearest("certificat", kKeys), "certificate");
  EXPECT_EQ(nearest("idle-timeout", kKeys), "idle_timeout");
  EXPECT_EQ(nearest("dbd", kKeys), "dpd");
  EXPECT_EQ(nearest("pdd", kKeys), "dpd");
  EXPECT_EQ(nearest("dpd", kKeys), "dpd");
  EXPECT_FALSE(nearest("banana", kKeys));
  EXPECT_FALSE(nearest("", kKeys));
  EXPECT_FALSE(nearest("x", {}));
}

TEST(Trim, TakesSpaceOffBothEnds) {
  EXPECT_EQ(trim(" \t a b \r\n"), "a b");
  EXPECT_EQ(trim("a"), "a");
  EXPECT_EQ(trim(" \n "), "");
  EXPECT_EQ(trim(""), "");
}

TEST(Split, KeepsEmptyParts) {
  using Parts = std::vector<std::string_view>;
  EXPECT_EQ(split("a,b", ','), (Parts{"a", "b"}));
  EXPECT_EQ(split(",a,,", ','), (Parts{"", "a", "", ""}));
  EXPECT_EQ(split("", ','), (Parts{""}));
}

}  // namespace
}  // namespace culvert
