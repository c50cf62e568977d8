#include "common/loop/poll.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>

#include "common/base/unique_fd.h"
#include "common/loop/signal.h"
#include "tests/unit/loop/run_loop.h"

namespace culvert::loop {
namespace {

struct Pair {
  Pair() {
    std::array<int, 2> fds{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    a = UniqueFd(fds[0]);
    b = UniqueFd(fds[1]);
  }
  UniqueFd a, b;
};

void put(int fd, std::string_view text) {
  ASSERT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

std::string take(int fd) {
  std::array<char, 64> buffer{};
  const ssize_t size = read(fd, buffer.data(), buffer.size());
  return size > 0 ? std::string(buffer.data(), static_cast<size_t>(size)) : std::string();
}

TEST(Poll, SaysReadableAsLongAsSomethingIsThere) {
  Loop loop;
  const Pair pair;
  Poll poll(loop, pair.a.get());
  int calls = 0;
  put(pair.b.get(), "x");
  ASSERT_TRUE(poll.start(
      [&](unsigned ready, int error) {
        EXPECT_EQ(ready, kReadable);
        EXPECT_EQ(error, 0);
        if (++calls == 3) {
          EXPECT_EQ(take(pair.a.get()), "x");
          loop.stop();
        }
      },
      kReadable));
  loop.run();
  turn(loop);
  EXPECT_EQ(calls, 3);
}

TEST(Poll, FollowsItsInterest) {
  Loop loop;
  const Pair pair;
  Poll poll(loop, pair.a.get());
  unsigned seen = 0;
  ASSERT_TRUE(poll.start([&](unsigned ready, int) { seen |= ready; }, 0));
  put(pair.b.get(), "x");
  turn(loop);
  EXPECT_EQ(seen, 0U) << "paused";

  poll.set_interest(kReadable);
  turn(loop);
  EXPECT_EQ(std::exchange(seen, 0), unsigned{kReadable});

  poll.set_interest(kWritable);
  EXPECT_EQ(poll.interest(), unsigned{kWritable});
  turn(loop);
  EXPECT_EQ(std::exchange(seen, 0), unsigned{kWritable});

  poll.set_interest(kReadable | kWritable);
  turn(loop);
  EXPECT_EQ(std::exchange(seen, 0), kReadable | kWritable);

  poll.set_interest(0);
  turn(loop);
  EXPECT_EQ(seen, 0U);
}

TEST(Poll, CanWatchAnotherDescriptorOfTheSameNumberAfterStop) {
  Loop loop;
  Pair first;
  Poll poll(loop, first.a.get());
  ASSERT_TRUE(poll.start([](unsigned, int) { FAIL(); }, kReadable));
  poll.stop();
  const int number = first.a.get();
  first.a.reset();
  const Pair second;
  ASSERT_EQ(second.a.get(), number);
  bool readable = false;
  put(second.b.get(), "x");
  ASSERT_TRUE(poll.start([&](unsigned, int) { readable = true; }, kReadable));
  EXPECT_TRUE(run_until(loop, [&] { return readable; }));
}

TEST(Poll, MayBeDestroyedOrStartedAgainInItsOwnCallback) {
  Loop loop;
  const Pair pair;
  put(pair.b.get(), "x");
  auto poll = std::make_unique<Poll>(loop, pair.a.get());
  const auto token = std::make_shared<int>(0);
  int again = 0;
  ASSERT_TRUE(poll->start(
      [&, token](unsigned, int) {
        ASSERT_TRUE(poll->start(
            [&](unsigned, int) {
              ++again;
              poll.reset();
            },
            kReadable));
        EXPECT_EQ(token.use_count(), 2) << "the closure lives until it returns";
      },
      kReadable));
  EXPECT_TRUE(run_until(loop, [&] { return poll == nullptr; }));
  EXPECT_EQ(token.use_count(), 1);
  turn(loop);
  EXPECT_EQ(again, 1);
}

TEST(Poll, MovesWhileWatching) {
  Loop loop;
  const Pair pair;
  int calls = 0;
  Poll source(loop, pair.a.get());
  ASSERT_TRUE(source.start([&](unsigned, int) { ++calls; }, kReadable));
  Poll target(std::move(source));
  put(pair.b.get(), "x");
  EXPECT_TRUE(run_until(loop, [&] { return calls > 0; }));
  target = Poll(loop, pair.b.get());
  calls = 0;
  turn(loop);
  EXPECT_EQ(calls, 0);
}

TEST(Poll, GivesASocketsErrorAndLeavesEarlierDataReadable) {
  Loop loop;
  // A connection over loopback that the other side resets after it has sent something.
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  ASSERT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const UniqueFd mine(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(connect(mine.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  UniqueFd theirs(accept(listener.get(), nullptr, nullptr));
  put(theirs.get(), "bye");
  const linger reset{1, 0};
  ASSERT_EQ(setsockopt(theirs.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
  theirs.reset();

  Poll poll(loop, mine.get());
  int calls = 0;
  ASSERT_TRUE(poll.start(
      [&](unsigned ready, int error) {
        ++calls;
        EXPECT_EQ(error, ECONNRESET);
        EXPECT_EQ(ready, unsigned{kReadable});
        EXPECT_EQ(poll.interest(), 0U) << "the watch is off";
        EXPECT_EQ(take(mine.get()), "bye");
      },
      kReadable));
  ASSERT_TRUE(run_until(loop, [&] { return calls > 0; }));
  turn(loop);
  EXPECT_EQ(calls, 1);
}

TEST(Poll, RefusesWhatCannotBeWatched) {
  Loop loop;
  const UniqueFd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(Poll(loop, file.get()).start([](unsigned, int) {}, kReadable));
  EXPECT_FALSE(Poll(loop, -1).start([](unsigned, int) {}, kReadable));

  const Pair pair;
  Poll first(loop, pair.a.get());
  ASSERT_TRUE(first.start([](unsigned, int) {}, kReadable));
  EXPECT_FALSE(Poll(loop, pair.a.get()).start([](unsigned, int) {}, kReadable));
}

TEST(Signal, ArrivesAsAnEventInEveryLoopThatAsked) {
  Loop loop;
  int heard = 0;
  const Signal first(loop, SIGUSR1, [&] { ++heard; });
  Signal second(loop, SIGUSR1, [&] { ++heard; });
  const Signal moved(std::move(second));
  ASSERT_EQ(raise(SIGUSR1), 0);
  EXPECT_TRUE(run_until(loop, [&] { return heard == 2; }));
}

TEST(Signal, MayBeDestroyedInItsOwnCallback) {
  Loop loop;
  std::unique_ptr<Signal> signal;
  signal = std::make_unique<Signal>(loop, SIGUSR2, [&] { signal.reset(); });
  ASSERT_EQ(raise(SIGUSR2), 0);
  EXPECT_TRUE(run_until(loop, [&] { return signal == nullptr; }));
}

TEST(Loop, SurvivesAWriteToAPeerThatIsGone) {
  const Loop loop;
  Pair pair;
  pair.b.reset();
  EXPECT_EQ(write(pair.a.get(), "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
}

}  // namespace
}  // namespace culvert::loop
