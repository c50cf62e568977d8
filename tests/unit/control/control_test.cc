// Both ends of the control socket together: the server on this thread, callers on others.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/unique_fd.h"
#include "common/control/control_client.h"
#include "common/control/control_server.h"
#include "common/control/protocol.h"
#include "common/loop/timer.h"

namespace culvert::control {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using namespace std::string_literals;

class ControlTest : public testing::Test {
 protected:
  ControlTest() {
    std::string name = testing::TempDir() + "culvert_control_XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    path_ = name + "/s";
  }
  ~ControlTest() override {
    server_.reset();
    EXPECT_EQ(rmdir(folder_.c_str()), 0) << "the socket was left behind";
  }

  void listen(ControlServer::Handler handler, mode_t mode = 0600) {
    auto server = ControlServer::listen(loop_, path_, mode, std::move(handler));
    ASSERT_TRUE(server) << server.error().message();
    server_ = std::move(*server);
  }

  // Runs the loop while `client` does its work on another thread.
  void serve(const std::function<void()>& client) {
    std::thread thread([&] {
      client();
      loop_.post([&] { loop_.stop(); });
    });
    loop_.run();
    thread.join();
  }

  Result<Json> call_once(const Request& request, Duration timeout = seconds(20)) {
    Result<Json> answer = fail(ErrorCode::kFailure, "not called");
    serve([&] { answer = call(path_, request, timeout); });
    return answer;
  }

  [[nodiscard]] UniqueFd connect() const {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return fd;
  }

  std::string folder_, path_;
  loop::Loop loop_;
  std::unique_ptr<ControlServer> server_;
};

std::string read_all(int fd) {
  std::string text;
  std::array<char, 4096> buffer;
  for (ssize_t size = 0; (size = read(fd, buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<size_t>(size));
  return text;
}

void echo(const Request& request, Responder responder) {
  responder.answer(Json{{"command", request.command}, {"arguments", request.arguments}});
}

TEST_F(ControlTest, AnswersARequest) {
  listen(echo);
  const auto answer = call_once({"status", {{"verbose", true}}});
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_EQ((*answer)["command"], "status");
  EXPECT_EQ((*answer)["arguments"], (Json{{"verbose", true}}));
}

TEST_F(ControlTest, CarriesMoreThanSocketBuffersHold) {
  listen([](const Request& request, Responder responder) {
    std::string text = *request.text("text");
    for (int i = 0; i < 4; ++i)
      text += text;
    responder.answer(Json(text));
  });
  const std::string text(800'000, 'x');
  const auto answer = call_once({"echo", {{"text", text}}});
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_EQ(answer->get<std::string>().size(), 16 * text.size());
}

TEST_F(ControlTest, CarriesErrorsWithTheirCode) {
  listen([](const Request&, Responder responder) {
    responder.answer(fail(ErrorCode::kAlreadyUp, "it is up", "office", "leave it"));
  });
  const auto answer = call_once({"connect"});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kAlreadyUp);
  EXPECT_EQ(answer.error().message(), "office: it is up (leave it)");
}

TEST_F(ControlTest, AnswersLaterAndInTheMeantimeServesOthers) {
  std::optional<Responder> waiting;
  listen([&](const Request& request, Responder responder) {
    if (request.command == "wait") {
      waiting.emplace(std::move(responder));
    } else {
      responder.answer(Json("release"));
      waiting->answer(Json("at last"));
      waiting.reset();
    }
  });
  serve([&] {
    Result<Json> first = fail(ErrorCode::kFailure, "not called");
    const UniqueFd slow = connect();
    const std::string request = encode_request({"wait"}) + "\n";
    ASSERT_EQ(write(slow.get(), request.data(), request.size()),
              static_cast<ssize_t>(request.size()));
    ASSERT_EQ(shutdown(slow.get(), SHUT_WR), 0);  // no more requests: the answer comes all the same
    // Connections are taken in order, so by now "wait" has been read or is in the same turn.
    const auto second = call(path_, {"release"}, seconds(20));
    ASSERT_TRUE(second) << second.error().message();
    EXPECT_EQ(read_all(slow.get()), encode_result("at last") + "\n");
  });
}

TEST_F(ControlTest, AnswersSeveralRequestsOfOneConnectionInOrder) {
  std::vector<Responder> waiting;
  loop::Timer later(loop_);
  listen([&](const Request& request, Responder responder) {
    EXPECT_TRUE(waiting.empty()) << "one request at a time";
    if (request.command == "now") {
      responder.answer(Json("now"));
      return;
    }
    waiting.push_back(std::move(responder));
    later.start(milliseconds(20), [&] {
      waiting.back().answer(Json("later"));
      waiting.clear();
    });
  });
  serve([&] {
    const UniqueFd fd = connect();
    const std::string requests = encode_request({"later"}) + "\n" + encode_request({"now"}) + "\n" +
                                 encode_request({"later"}) + "\nnonsense\n";
    ASSERT_EQ(write(fd.get(), requests.data(), requests.size()),
              static_cast<ssize_t>(requests.size()));
    ASSERT_EQ(shutdown(fd.get(), SHUT_WR), 0);
    const std::string text = read_all(fd.get());
    const std::string wanted =
        encode_result("later") + "\n" + encode_result("now") + "\n" + encode_result("later") + "\n";
    EXPECT_EQ(text.substr(0, wanted.size()), wanted);
    const auto last = parse_answer(text.substr(wanted.size(), text.size() - wanted.size() - 1));
    ASSERT_FALSE(last);
    EXPECT_EQ(last.error().code, ErrorCode::kUsage);
  });
}

TEST_F(ControlTest, ARequestThatIsDroppedFailsInsteadOfHanging) {
  listen([](const Request&, const Responder&) {});
  const auto answer = call_once({"status"});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kFailure);
}

TEST_F(ControlTest, ResponderMayOutliveConnectionAndServer) {
  std::optional<Responder> kept;
  listen([&](const Request&, Responder responder) { kept.emplace(std::move(responder)); });
  const auto late = call_once({"status"}, milliseconds(50));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().what, "no answer within the time limit");
  server_.reset();
  kept->answer(Json("nobody hears"));
}

TEST_F(ControlTest, HandlerMayStopTheServerAndStillAnswer) {
  listen([&](const Request&, Responder responder) {
    responder.answer(Json("bye"));
    server_.reset();
  });
  const auto answer = call_once({"stop"});
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_EQ(*answer, "bye");
}

TEST_F(ControlTest, AServerThatGoesAwayIsAnErrorNotAWait) {
  listen([&](const Request&, Responder) { server_.reset(); });
  const auto answer = call_once({"status"});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kFailure);
}

TEST_F(ControlTest, AnOverlongRequestEndsTheConnectionOnly) {
  listen(echo);
  const auto refused = call_once({"x", {{"text", std::string(kMaxRequestLine, 'x')}}});
  EXPECT_FALSE(refused);
  EXPECT_TRUE(call_once({"status"}));
}

TEST_F(ControlTest, NobodyThereIsNotRunning) {
  for (const auto& path : {path_, folder_ + "/no/s", "/proc/self/exe/s"s}) {
    const auto answer = call(path, {"status"}, seconds(20));
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::kNotRunning) << answer.error().message();
  }
  {  // a socket that a killed process has left
    listen(echo);
    const std::string moved = path_ + ".moved";
    ASSERT_EQ(rename(path_.c_str(), moved.c_str()), 0);
    server_.reset();
    const auto answer = call(moved, {"status"}, seconds(20));
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::kNotRunning);
    unlink(moved.c_str());
  }
  EXPECT_EQ(call("/" + std::string(200, 'x'), {"status"}, seconds(1)).error().code,
            ErrorCode::kUsage);
}

TEST_F(ControlTest, AServerThatNeverAnswersOrNeverAcceptsIsATimeout) {
  listen(echo);
  const auto start = std::chrono::steady_clock::now();
  // The loop does not run: the connection waits in the backlog.
  const auto answer = call(path_, {"status"}, milliseconds(50));
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().what, "no answer within the time limit");
  std::vector<UniqueFd> backlog;
  for (int i = 0; i < 200; ++i) {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      break;
    backlog.push_back(std::move(fd));
  }
  ASSERT_LT(backlog.size(), 200U) << "the backlog is full";
  const auto full = call(path_, {"status"}, milliseconds(50));
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().what, "no answer within the time limit");
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(20));
}

// Runs `test` in a child that has become another user; its exit status says how it went.
int as_another_user(const std::function<bool()>& test) {
  const pid_t pid = fork();
  if (pid == 0) _exit(setgid(65534) == 0 && setuid(65534) == 0 && test() ? 0 : 1);
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(ControlTest, OtherUsersAreRefusedByTheFileAndByTheServer) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become somebody else";
  ASSERT_EQ(chmod(folder_.c_str(), 0755), 0);
  const auto is_refused = [this] {
    const auto answer = call(path_, {"status"}, seconds(20));
    return !answer && answer.error().code == ErrorCode::kPermission;
  };
  listen(echo, 0600);
  EXPECT_EQ(as_another_user(is_refused), 0) << "by the file's mode";
  server_.reset();
  listen(echo, 0666);
  int status = -1;
  serve([&] { status = as_another_user(is_refused); });
  EXPECT_EQ(status, 0) << "by the server";
}

}  // namespace
}  // namespace culvert::control
