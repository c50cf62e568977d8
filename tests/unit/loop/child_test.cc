#include "common/loop/child.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <optional>

#include "tests/unit/loop/run_loop.h"

namespace culvert::loop {
namespace {

using std::chrono::seconds;
using Answer = std::optional<Result<ChildResult>>;

Answer run_program(std::vector<std::string> argv, std::string input = {},
                   Duration limit = seconds(20)) {
  Loop loop;
  Answer answer;
  auto child = Child::run(loop, std::move(argv), std::move(input), limit,
                          [&](Result<ChildResult> result) { answer = std::move(result); });
  EXPECT_TRUE(child.has_value());
  if (child) run_until(loop, [&] { return answer.has_value(); });
  EXPECT_TRUE(answer.has_value());
  return answer;
}

TEST(Child, CollectsBothOutputsAndTheStatus) {
  const auto answer = run_program({"sh", "-c", "echo out; echo err >&2; exit 3"});
  ASSERT_TRUE(answer && *answer);
  EXPECT_EQ((*answer)->out, "out\n");
  EXPECT_EQ((*answer)->err, "err\n");
  EXPECT_EQ((*answer)->exit_status, 3);
  EXPECT_FALSE((*answer)->succeeded());
}

TEST(Child, FeedsMoreInputThanAPipeHoldsAndReadsItBack) {
  const std::string text(1'000'000, 'x');
  const auto answer = run_program({"cat"}, text);
  ASSERT_TRUE(answer && *answer);
  EXPECT_EQ((*answer)->out, text);
  EXPECT_TRUE((*answer)->succeeded());
}

TEST(Child, ToleratesAProgramThatDoesNotReadItsInput) {
  const auto answer = run_program({"true"}, std::string(1'000'000, 'x'));
  ASSERT_TRUE(answer && *answer);
  EXPECT_TRUE((*answer)->succeeded());
}

TEST(Child, PassesArgumentsWithoutAShell) {
  const auto answer = run_program({"printf", "%s|", "a b", "$HOME", "; echo x"});
  ASSERT_TRUE(answer && *answer);
  EXPECT_EQ((*answer)->out, "a b|$HOME|; echo x|");
}

TEST(Child, HasACleanEnvironmentAndSignalsAsByDefault) {
  ASSERT_EQ(setenv("CULVERT_TEST_SECRET", "1", 1), 0);
  const auto environment = run_program({"env"});
  ASSERT_TRUE(environment && *environment);
  EXPECT_EQ((*environment)->out, "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nLC_ALL=C\n");
  // We ignore SIGPIPE; a child that inherits that does not end when its reader does.
  const auto ignored = run_program({"grep", "SigIgn", "/proc/self/status"});
  ASSERT_TRUE(ignored && *ignored);
  EXPECT_EQ((*ignored)->out, "SigIgn:\t0000000000000000\n");
}

TEST(Child, ReportsTheSignalThatEndedIt) {
  const auto answer = run_program({"sh", "-c", "kill -TERM $$"});
  ASSERT_TRUE(answer && *answer);
  EXPECT_EQ((*answer)->signal, SIGTERM);
  EXPECT_FALSE((*answer)->succeeded());
}

TEST(Child, FailsWhenTheProgramDoesNotExist) {
  Loop loop;
  const auto child = Child::run(loop, {"culvert-no-such-program"}, "", seconds(1),
                                [](Result<ChildResult>) { FAIL(); });
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().where, "culvert-no-such-program");
  turn(loop);
}

TEST(Child, IsKilledWithItsGroupWhenItTakesTooLong) {
  // The grandchild holds the output open; only killing the group ends this before its minute.
  const TimePoint start = BootClock::now();
  const auto answer =
      run_program({"sh", "-c", "sleep 60 & sleep 60"}, "", std::chrono::milliseconds(50));
  ASSERT_TRUE(answer);
  ASSERT_FALSE(*answer);
  EXPECT_EQ(answer->error().what, "took too long");
  EXPECT_LT(BootClock::now() - start, seconds(20));
}

TEST(Child, GivesUpOnAGrandchildThatKeepsTheOutputOpen) {
  // The program itself ends at once, its background process in another session does not.
  const auto answer =
      run_program({"sh", "-c", "setsid sleep 3 & exit 0"}, "", std::chrono::milliseconds(50));
  ASSERT_TRUE(answer);
  EXPECT_FALSE(*answer);
}

TEST(Child, IsKilledWhenItSaysTooMuch) {
  const auto answer = run_program({"yes"});
  ASSERT_TRUE(answer);
  ASSERT_FALSE(*answer);
  EXPECT_EQ(answer->error().what, "wrote more than we take");
}

TEST(Child, DestructionKillsTheProgramAndForgetsTheResult) {
  const std::string file = testing::TempDir() + "child_pid_" + std::to_string(getpid());
  unlink(file.c_str());
  pid_t pid = 0;
  {
    Loop loop;
    auto child = Child::run(
        loop,
        {"sh", "-c", "echo $$ > " + file + ".new; mv " + file + ".new " + file + "; exec sleep 60"},
        "", seconds(60), [](Result<ChildResult>) { FAIL(); });
    ASSERT_TRUE(child);
    ASSERT_TRUE(run_until(loop, [&] { return (std::ifstream(file) >> pid) && pid > 0; }));
    EXPECT_EQ(kill(pid, 0), 0);
    *child = Child();
  }  // the loop waits until it is reaped
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
  unlink(file.c_str());
}

TEST(Child, MayBeDestroyedInItsOwnCallback) {
  Loop loop;
  Child child;
  bool done = false;
  auto started = Child::run(loop, {"true"}, "", seconds(20), [&](Result<ChildResult> result) {
    EXPECT_TRUE(result && result->succeeded());
    child = Child();
    done = true;
  });
  ASSERT_TRUE(started);
  child = std::move(*started);
  EXPECT_TRUE(run_until(loop, [&] { return done; }));
}

}  // namespace
}  // namespace culvert::loop
