#include "common/loop/local_socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <vector>

#include "tests/unit/loop/run_loop.h"

namespace culvert::loop {
namespace {

// A folder of its own for each test; gone afterwards.
class Folder {
 public:
  Folder() {
    std::string name = testing::TempDir() + "culvert_socket_XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    unlink(socket().c_str());
    EXPECT_EQ(rmdir(path_.c_str()), 0) << "something was left behind";
  }
  [[nodiscard]] std::string socket() const { return path_ + "/s"; }

 private:
  std::string path_;
};

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

UniqueFd connect_to(const std::string& path) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(path);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    fd.reset();
  return fd;
}

void put(const UniqueFd& fd, std::string_view text) {
  ASSERT_EQ(send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(text.size()));
}

// A stream of the loop with a plain descriptor at the other end, and what came of it.
struct Fixture {
  explicit Fixture(size_t max_line = 100) {
    std::array<int, 2> fds{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    peer = UniqueFd(fds[1]);
    stream = std::make_unique<LocalStream>(loop, UniqueFd(fds[0]));
    stream->on_line(
        [this](std::string_view line) {
          lines.emplace_back(line);
          if (then) then();
        },
        [this] { ++closes; }, max_line);
  }
  // What the peer can read now.
  [[nodiscard]] std::string received() const {
    std::string text;
    std::array<char, 65536> buffer;
    for (;;) {
      const ssize_t size = recv(peer.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (size <= 0) return text;
      text.append(buffer.data(), static_cast<size_t>(size));
    }
  }

  Loop loop;
  UniqueFd peer;
  std::unique_ptr<LocalStream> stream;
  std::vector<std::string> lines;
  std::function<void()> then;
  int closes = 0;
};

using Lines = std::vector<std::string>;

TEST(LocalStream, GivesLinesHoweverTheyWereCut) {
  const struct {
    Lines pieces;
    Lines lines;
  } cases[] = {
      {{"a\n"}, {"a"}},
      {{"a\nb\n"}, {"a", "b"}},
      {{"a", "b", "c\n"}, {"abc"}},
      {{"a\nb", "c\n\n"}, {"a", "bc", ""}},
      {{"no end"}, {}},
  };
  for (const auto& test : cases) {
    Fixture fixture;
    for (const auto& piece : test.pieces) {
      put(fixture.peer, piece);
      turn(fixture.loop);
    }
    EXPECT_EQ(fixture.lines, test.lines);
    EXPECT_EQ(fixture.closes, 0);
  }
}

TEST(LocalStream, TakesALineOfExactlyTheLimitAndClosesOnALongerOne) {
  for (const bool with_end : {true, false}) {
    Fixture fixture(10);
    put(fixture.peer, "0123456789\n");
    turn(fixture.loop);
    EXPECT_EQ(fixture.lines, Lines{"0123456789"});
    put(fixture.peer, with_end ? "0123456789a\nx\n" : "0123456789a");
    EXPECT_TRUE(run_until(fixture.loop, [&] { return fixture.closes == 1; }));
    EXPECT_EQ(fixture.lines.size(), 1U);
  }
}

TEST(LocalStream, TellsOnceThatThePeerHasClosed) {
  Fixture fixture;
  put(fixture.peer, "last\nunfinished");
  fixture.peer.reset();
  EXPECT_TRUE(run_until(fixture.loop, [&] { return fixture.closes > 0; }));
  turn(fixture.loop);
  EXPECT_EQ(fixture.lines, Lines{"last"});
  EXPECT_EQ(fixture.closes, 1);
  fixture.stream->write_line("into the void");
  fixture.stream->pause(true);
  fixture.stream->close_after_write();
  turn(fixture.loop);
  EXPECT_EQ(fixture.closes, 1);
}

TEST(LocalStream, HoldsLinesBackWhilePaused) {
  Fixture fixture;
  fixture.then = [&] { fixture.stream->pause(true); };
  put(fixture.peer, "1\n2\n3\n");
  turn(fixture.loop);
  EXPECT_EQ(fixture.lines, Lines{"1"});
  fixture.stream->pause(false);
  EXPECT_EQ(fixture.lines, Lines{"1"}) << "not from inside pause()";
  turn(fixture.loop);
  EXPECT_EQ(fixture.lines, (Lines{"1", "2"}));
  fixture.then = [&] {  // paused and resumed within the call: goes on by itself
    fixture.stream->pause(true);
    fixture.stream->pause(false);
  };
  fixture.stream->pause(false);
  turn(fixture.loop);
  put(fixture.peer, "4\n");
  turn(fixture.loop);
  EXPECT_EQ(fixture.lines, (Lines{"1", "2", "3", "4"}));
}

TEST(LocalStream, WritesWhatAPeerReadsLateAndClosesAfterwards) {
  Fixture fixture;
  const std::string line(300'000, 'x');
  for (int i = 0; i < 4; ++i)
    fixture.stream->write_line(line);
  fixture.stream->close_after_write();
  std::string text;
  EXPECT_TRUE(run_until(fixture.loop, [&] {
    text += fixture.received();
    return fixture.closes == 1;
  }));
  text += fixture.received();
  EXPECT_EQ(text.size(), 4 * (line.size() + 1));
}

TEST(LocalStream, ClosesAPeerThatNeverReads) {
  Fixture fixture;
  for (int i = 0; i < 70 && fixture.closes == 0; ++i) {
    fixture.stream->write_line(std::string(size_t{1} << 20, 'x'));
    EXPECT_EQ(fixture.closes, 0) << "never from inside write_line()";
    turn(fixture.loop);
  }
  EXPECT_EQ(fixture.closes, 1);
}

TEST(LocalStream, MayBeDestroyedInItsCallbacks) {
  {
    Fixture fixture;
    fixture.then = [&] { fixture.stream.reset(); };
    put(fixture.peer, "1\n2\n");
    turn(fixture.loop);
    EXPECT_EQ(fixture.lines, Lines{"1"});
    EXPECT_EQ(fixture.closes, 0);
  }
  Loop loop;
  std::array<int, 2> fds{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
  auto stream = std::make_unique<LocalStream>(loop, UniqueFd(fds[0]));
  stream->on_line([](std::string_view) {}, [&] { stream.reset(); }, 10);
  close(fds[1]);
  EXPECT_TRUE(run_until(loop, [&] { return stream == nullptr; }));
}

TEST(LocalStream, KnowsWhoIsThere) {
  const Fixture fixture;
  EXPECT_EQ(fixture.stream->peer_uid(), geteuid());
}

TEST(LocalServer, AcceptsAndSpeaksBothWays) {
  const Folder folder;
  Loop loop;
  std::vector<std::unique_ptr<LocalStream>> streams;
  std::string got;
  const auto server =
      LocalServer::listen(loop, folder.socket(), 0600, [&](std::unique_ptr<LocalStream> stream) {
        stream->on_line(
            [&, raw = stream.get()](std::string_view line) {
              got = line;
              raw->write_line("you said " + got);
            },
            [] {}, 100);
        streams.push_back(std::move(stream));
      });
  ASSERT_TRUE(server) << server.error().message();
  const UniqueFd client = connect_to(folder.socket());
  ASSERT_TRUE(client.valid());
  put(client, "hello\n");
  std::array<char, 100> buffer{};
  ssize_t size = 0;
  ASSERT_TRUE(run_until(loop, [&] {
    size = recv(client.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    return size > 0;
  }));
  EXPECT_EQ(std::string_view(buffer.data(), static_cast<size_t>(size)), "you said hello\n");
}

TEST(LocalServer, FileHasExactlyTheModeAndGoesWithTheServer) {
  const Folder folder;
  Loop loop;
  const mode_t before = umask(0);
  for (const mode_t mask : {0000U, 0077U}) {
    umask(mask);
    for (const mode_t mode : {0600U, 0660U}) {
      const auto server = LocalServer::listen(loop, folder.socket(), mode, [](auto) {});
      ASSERT_TRUE(server) << server.error().message();
      struct stat info {};
      ASSERT_EQ(lstat(folder.socket().c_str(), &info), 0);
      EXPECT_EQ(info.st_mode & 07777U, mode);
    }
    EXPECT_NE(access(folder.socket().c_str(), F_OK), 0);
  }
  umask(before);
}

TEST(LocalServer, ReplacesAStaleSocketButNotALiveOneOrAFile) {
  const Folder folder;
  Loop loop;
  {  // what a killed process leaves: bound, nobody listens
    const UniqueFd dead(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = address_of(folder.socket());
    ASSERT_EQ(bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  const auto first = LocalServer::listen(loop, folder.socket(), 0600, [](auto) {});
  ASSERT_TRUE(first) << first.error().message();
  const auto second = LocalServer::listen(loop, folder.socket(), 0600, [](auto) {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kAlreadyUp);
  EXPECT_TRUE(connect_to(folder.socket()).valid()) << "the first is unharmed";

  const std::string file = folder.socket() + "f";
  std::ofstream(file) << "precious";
  const auto third = LocalServer::listen(loop, file, 0600, [](auto) {});
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code, ErrorCode::kFailure);
  EXPECT_EQ(unlink(file.c_str()), 0) << "the file is still there";
}

TEST(LocalServer, LeavesASocketThatHasTakenItsPlace) {
  const Folder folder;
  Loop loop;
  auto first = LocalServer::listen(loop, folder.socket(), 0600, [](auto) {});
  ASSERT_TRUE(first);
  ASSERT_EQ(unlink(folder.socket().c_str()), 0);
  const auto second = LocalServer::listen(loop, folder.socket(), 0600, [](auto) {});
  ASSERT_TRUE(second);
  first->reset();
  EXPECT_TRUE(connect_to(folder.socket()).valid());
}

TEST(LocalServer, SaysWhyItCannotListen) {
  Loop loop;
  const auto nowhere = LocalServer::listen(loop, "/nonexistent/s", 0600, [](auto) {});
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().code, ErrorCode::kFailure);
  EXPECT_EQ(nowhere.error().where, "/nonexistent");
  for (const auto& path : {std::string(), "/tmp/" + std::string(103, 'x')}) {
    const auto bad = LocalServer::listen(loop, path, 0600, [](auto) {});
    ASSERT_FALSE(bad);
    EXPECT_EQ(bad.error().code, ErrorCode::kUsage);
  }
}

TEST(LocalServer, MayBeDestroyedWhenAConnectionComes) {
  const Folder folder;
  Loop loop;
  std::unique_ptr<LocalServer> server;
  std::vector<std::unique_ptr<LocalStream>> streams;
  auto made =
      LocalServer::listen(loop, folder.socket(), 0600, [&](std::unique_ptr<LocalStream> stream) {
        streams.push_back(std::move(stream));
        server.reset();
      });
  ASSERT_TRUE(made);
  server = std::move(*made);
  const UniqueFd first = connect_to(folder.socket()), second = connect_to(folder.socket());
  EXPECT_TRUE(run_until(loop, [&] { return server == nullptr; }));
  turn(loop);
  EXPECT_EQ(streams.size(), 1U);
}

// Of many that start at the same moment over a stale socket, one wins and the others hear of it.
TEST(LocalServer, OneOfManyStartersWins) {
  for (int round = 0; round < 20; ++round) {
    const Folder folder;
    {
      const UniqueFd dead(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const sockaddr_un address = address_of(folder.socket());
      ASSERT_EQ(bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    }
    constexpr int kStarters = 4;
    std::vector<std::unique_ptr<Loop>> loops(kStarters);
    std::vector<std::unique_ptr<LocalServer>> servers(kStarters);
    std::vector<ErrorCode> codes(kStarters, ErrorCode::kFailure);
    std::vector<std::thread> threads;
    threads.reserve(kStarters);
    for (auto& loop : loops)
      loop = std::make_unique<Loop>();
    for (int i = 0; i < kStarters; ++i)
      threads.emplace_back([&, i] {
        auto made = LocalServer::listen(*loops[i], folder.socket(), 0600, [](auto) {});
        if (made)
          servers[i] = std::move(*made);
        else
          codes[i] = made.error().code;
      });
    for (auto& thread : threads)
      thread.join();
    int winners = 0;
    for (int i = 0; i < kStarters; ++i) {
      if (servers[i])
        ++winners;
      else
        EXPECT_EQ(codes[i], ErrorCode::kAlreadyUp);
    }
    EXPECT_EQ(winners, 1);
    servers.clear();
  }
}

}  // namespace
}  // namespace culvert::loop
