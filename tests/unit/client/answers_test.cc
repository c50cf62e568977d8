#include "client/answers.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <string>

#include "tests/unit/loop/run_loop.h"

namespace culvert::client {
namespace {

using loop::run_until;

class AnswersTest : public testing::Test {
 protected:
  // The answer, or the error's code and text.
  std::string ask(Answers& answers, const char* field = "password") {
    std::optional<Result<Secret>> got;
    answers.ask({field, "Password: "}, [&](Result<Secret> answer) { got = std::move(answer); });
    EXPECT_TRUE(run_until(loop_, [&] { return got.has_value(); }));
    if (!got) return "nothing";
    if (*got) return std::string(as_text(std::as_const(**got).bytes()));
    EXPECT_EQ(got->error().code, ErrorCode::kNeedsInteraction);
    return "error: " + got->error().message();
  }

  loop::Loop loop_;
};

TEST_F(AnswersTest, ACommandsFirstLineCounts) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"echo secret", "secret"},
      {"printf 'no line end'", "no line end"},
      {"printf 'first\\nsecond\\n'", "first"},
      {"printf ' two spaces  \\r\\n'", " two spaces  "},
      {"read field; echo \"for $field\"", "for password"}};
  for (const auto& [command, expected] : cases) {
    const auto answers = answers_from_command(loop_, command);
    EXPECT_FALSE(answers->can_try_again());
    EXPECT_EQ(ask(*answers), expected) << command;
  }
}

TEST_F(AnswersTest, ACommandThatFailsIsNoAnswer) {
  for (const auto& [command, expected] : std::vector<std::pair<const char*, const char*>>{
           {"echo secret; echo locked >&2; exit 1", "locked"},
           {"true", "no answer"},
           {"echo", "no answer"},
           {"head -c 2000 /dev/zero | tr '\\0' x", "too long"}}) {
    const auto answers = answers_from_command(loop_, command);
    const std::string got = ask(*answers);
    EXPECT_NE(got.find(expected), std::string::npos) << got;
    EXPECT_EQ(got.find("secret"), std::string::npos) << got;
  }
}

TEST_F(AnswersTest, LinesComeFromTheOtherSide) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  UniqueFd other(ends[1]);
  std::string put;
  int taken = 0;
  const auto answers = answers_from_line(
      loop_, UniqueFd(ends[0]),
      [&](const Question& question) {
        put = question.prompt;
        EXPECT_EQ(::write(other.get(), "sec", 3), 3);
        EXPECT_EQ(::write(other.get(), "ret\n", 4), 4);
      },
      [&] { ++taken; });
  EXPECT_TRUE(answers->can_try_again());
  EXPECT_EQ(ask(*answers), "secret");
  EXPECT_EQ(put, "Password: ");
  EXPECT_EQ(ask(*answers), "secret") << "and once more";
  EXPECT_EQ(taken, 2);
}

TEST_F(AnswersTest, AnEndWithoutALineIsNobody) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  UniqueFd other(ends[1]);
  const auto answers = answers_from_line(
      loop_, UniqueFd(ends[0]), [&](const Question&) { other.reset(); }, [] {});
  EXPECT_NE(ask(*answers).find("nobody"), std::string::npos);
}

TEST_F(AnswersTest, ALineThatIsTooLongIsRefused) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  UniqueFd other(ends[1]);
  const auto answers = answers_from_line(
      loop_, UniqueFd(ends[0]),
      [&](const Question&) {
        const std::string line(3000, 'x');
        EXPECT_EQ(::write(other.get(), line.data(), line.size()), 3000);
      },
      [] {});
  EXPECT_NE(ask(*answers).find("too long"), std::string::npos);
}

}  // namespace
}  // namespace culvert::client
