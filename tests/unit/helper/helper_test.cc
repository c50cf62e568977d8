// The helper and the program's side of it, over a pair of sockets: the helper in a process of its
// own with the real kernel, or a test that speaks for it.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <memory>

#include "common/helper/helper_process.h"
#include "common/helper/remote_system_ops.h"
#include "common/loop/poll.h"
#include "common/net/netlink.h"
#include "common/net/tun_device.h"
#include "tests/unit/net/own_network.h"

namespace culvert::helper {
namespace {

using namespace std::chrono_literals;
using net::SystemAnswer;

std::pair<UniqueFd, UniqueFd> socket_pair() {
  int ends[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

net::SystemRequest route_request(const char* device, const char* destination = "10.7.0.0/16") {
  net::Route route;
  route.destination = *Prefix::parse(destination);
  route.device = device;
  return net::AddRoute{route};
}

net::SystemRequest unreachable() {
  net::Route route;
  route.destination = *Prefix::parse("10.8.0.0/16");
  route.type = net::Route::Type::kUnreachable;
  return net::AddRoute{route};
}

// ---- with the real helper -----------------------------------------------------------------------

class HelperOnKernel : public net::testing::OwnNetwork {
 protected:
  void SetUp() override {
    OwnNetwork::SetUp();
    if (IsSkipped()) return;
    std::string pattern = "/tmp/culvert-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
    device_ = std::make_unique<net::TunDevice>(net::TunDevice::open(sys_, {.name = "t0"}).value());
    netlink_ = std::make_unique<net::Netlink>(net::Netlink::open().value());
    ASSERT_TRUE(netlink_->set_link({.device = "t0", .up = true}));
    launch();
  }
  void TearDown() override {
    program_.reset();
    ops_.reset();
    if (helper_ > 0) static_cast<void>(end_of_helper());
    if (folder_.empty()) return;
    ::unlink(journal().c_str());
    ::rmdir(folder_.c_str());
  }

  void launch() {
    auto [ours, theirs] = socket_pair();
    helper_ = ::fork();
    if (helper_ == 0) {
      ours.reset();
      ::_exit(serve(std::move(theirs), [] { return Status(); }));
    }
    program_ = std::move(ours);
  }
  [[nodiscard]] std::string journal() const { return folder_ + "/undo"; }
  Status begin_as(net::SystemScope::Role role = net::SystemScope::Role::kServer) {
    return begin(program_, {journal(), {}, {role, "t0", 700, 799}});
  }
  int end_of_helper() {
    int status = 0;
    EXPECT_EQ(::waitpid(helper_, &status, 0), helper_);
    helper_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void operations() {
    ops_ = RemoteSystemOps::create(loop_, std::move(program_), [this](const Error& error) {
             lost_ = error.message();
             loop_.stop();
           }).value();
  }
  std::vector<SystemAnswer> submit(std::vector<net::SystemRequest> requests) {
    std::vector<SystemAnswer> got;
    ops_->submit(std::move(requests), [&](std::vector<SystemAnswer> answers) {
      got = std::move(answers);
      loop_.stop();
    });
    loop_.run();
    return got;
  }
  size_t routes() { return netlink_->routes(net::kMainTable, Family::kV4).value().size(); }

  net::KernelSys sys_;
  std::string folder_;
  std::unique_ptr<net::TunDevice> device_;
  std::unique_ptr<net::Netlink> netlink_;
  UniqueFd program_;
  pid_t helper_ = -1;
  loop::Loop loop_;
  std::unique_ptr<RemoteSystemOps> ops_;
  std::string lost_;
};

TEST_F(HelperOnKernel, CarriesOutWhatItIsAskedFor) {
  ASSERT_TRUE(begin_as());
  operations();
  const auto answers = submit({route_request("t0"), unreachable()});
  ASSERT_EQ(answers.size(), 2U);
  EXPECT_TRUE(net::first_error(answers)) << net::first_error(answers).error().message();
  EXPECT_EQ(routes(), 2U);
  std::optional<Status> undone;
  ops_->undo_all([&](Status status) {
    undone = std::move(status);
    loop_.stop();
  });
  loop_.run();
  EXPECT_TRUE(undone->has_value());
  EXPECT_EQ(routes(), 1U) << "what hangs on the device goes with it";
}

TEST_F(HelperOnKernel, PutsEverythingBackWhenItsProgramIsGone) {
  ASSERT_TRUE(begin_as());
  operations();
  ASSERT_TRUE(net::first_error(submit({unreachable()})));
  ASSERT_EQ(routes(), 1U);
  ops_.reset();
  EXPECT_EQ(end_of_helper(), 0);
  EXPECT_EQ(routes(), 0U);
}

TEST_F(HelperOnKernel, RefusesWhatIsOutOfItsProgramsScope) {
  ASSERT_TRUE(begin_as());
  operations();
  const auto answers = submit({unreachable(), route_request("lo"), route_request("t0")});
  ASSERT_EQ(answers.size(), 3U);
  EXPECT_TRUE(answers[0].ok());
  EXPECT_EQ(answers[1].error->code, ErrorCode::kPermission);
  EXPECT_FALSE(answers[2].attempted);
  EXPECT_EQ(routes(), 1U);
}

TEST_F(HelperOnKernel, PutsBackWhatAKilledHelperHasLeft) {
  ASSERT_TRUE(begin_as());
  operations();
  ASSERT_TRUE(net::first_error(submit({unreachable()})));
  ::kill(helper_, SIGKILL);
  EXPECT_EQ(end_of_helper(), 128 + SIGKILL);
  loop_.run();
  EXPECT_NE(lost_.find("helper process is gone"), std::string::npos);
  const auto late = submit({unreachable()});
  ASSERT_EQ(late.size(), 1U);
  EXPECT_FALSE(late[0].ok());
  EXPECT_EQ(routes(), 1U);
  launch();
  ASSERT_TRUE(begin_as());
  EXPECT_EQ(routes(), 0U);
}

TEST_F(HelperOnKernel, OpensMarkedSocketsForAClientAlone) {
  ASSERT_TRUE(begin_as(net::SystemScope::Role::kClient));
  operations();
  UniqueFd socket;
  for (const bool stream : {true, false}) {
    ops_->open_socket({Family::kV6, stream, 0x77}, [&](Result<UniqueFd> opened) {
      ASSERT_TRUE(opened) << opened.error().message();
      socket = std::move(*opened);
      loop_.stop();
    });
    loop_.run();
    uint32_t mark = 0;
    socklen_t length = sizeof mark;
    ASSERT_EQ(::getsockopt(socket.get(), SOL_SOCKET, SO_MARK, &mark, &length), 0);
    EXPECT_EQ(mark, 0x77U);
    int type = 0;
    ASSERT_EQ(::getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &length), 0);
    EXPECT_EQ(type, stream ? SOCK_STREAM : SOCK_DGRAM);
  }
}

TEST_F(HelperOnKernel, AServerThatAsksForASocketIsNotItself) {
  ASSERT_TRUE(begin_as());
  operations();
  bool refused = false;
  ops_->open_socket({}, [&](const Result<UniqueFd>& opened) { refused = !opened; });
  loop_.run();
  EXPECT_TRUE(refused);
  EXPECT_EQ(end_of_helper(), 1);
}

TEST_F(HelperOnKernel, NonsenseEndsItAndPutsEverythingBack) {
  for (const std::string& nonsense :
       {std::string("GET / HTTP/1.1\r\n\r\n"), write_frame({FrameKind::kRequests, "nonsense\n"}),
        write_frame({FrameKind::kAnswers, ""}),
        write_frame({FrameKind::kBegin, "begin journal=/x role=server device=lo"})}) {
    ASSERT_TRUE(begin_as());
    const std::string first =
        write_frame({FrameKind::kRequests, to_text(std::vector{unreachable()})});
    for (const std::string& text : {first, nonsense})
      ASSERT_EQ(::send(program_.get(), text.data(), text.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(text.size()));
    EXPECT_EQ(end_of_helper(), 1) << nonsense;
    EXPECT_EQ(routes(), 0U);
    launch();
  }
}

TEST_F(HelperOnKernel, NothingComesBeforeTheBeginning) {
  const std::string text = write_frame({FrameKind::kUndoAll, {}});
  ASSERT_EQ(::send(program_.get(), text.data(), text.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(text.size()));
  EXPECT_EQ(end_of_helper(), 1);
}

TEST_F(HelperOnKernel, AJournalThatCannotBeIsTheProgramsAnswer) {
  const Status begun =
      begin(program_, {"/no/such/folder/undo", {}, {net::SystemScope::Role::kServer, "t0", 0, 0}});
  ASSERT_FALSE(begun);
  EXPECT_NE(begun.error().message().find("/no/such/folder/undo"), std::string::npos);
  EXPECT_EQ(end_of_helper(), 0);
}

// ---- with a test that speaks for the helper -----------------------------------------------------

class StrangeHelper : public ::testing::TestWithParam<std::string> {};

TEST_P(StrangeHelper, IsLostAndEverybodyIsAnswered) {
  auto [ours, theirs] = socket_pair();
  loop::Loop loop;
  std::string lost;
  int answered = 0;
  auto ops = RemoteSystemOps::create(loop, std::move(ours), [&](const Error& error) {
               EXPECT_EQ(answered, 3) << "first those who wait";
               lost = error.message();
               loop.stop();
             }).value();
  ops->submit({unreachable(), unreachable()}, [&](const std::vector<SystemAnswer>& answers) {
    ++answered;
    ASSERT_EQ(answers.size(), 2U);
    EXPECT_FALSE(answers[0].ok());
    EXPECT_FALSE(answers[1].attempted);
  });
  ops->undo_all([&](const Status& status) { answered += status ? 0 : 1; });
  ops->open_socket({}, [&](const Result<UniqueFd>& opened) { answered += opened ? 0 : 1; });
  const std::string& text = GetParam();
  ASSERT_EQ(::send(theirs.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  theirs.reset();
  loop.run();
  EXPECT_NE(lost.find("helper process is gone"), std::string::npos) << lost;
}

INSTANTIATE_TEST_SUITE_P(All, StrangeHelper,
                         ::testing::Values("", "nonsense that is long enough",
                                           write_frame({FrameKind::kUndoAll, ""}),
                                           write_frame({FrameKind::kAnswers, "done\n"}),
                                           write_frame({FrameKind::kAnswers, "done\ndone\ndone\n"}),
                                           write_frame({FrameKind::kAnswers, "what\nwhat\n"})));

TEST(RemoteSystemOps, SendsMoreThanTheSocketTakesAtOnce) {
  auto pair = socket_pair();
  UniqueFd& theirs = pair.second;
  loop::Loop loop;
  auto ops = RemoteSystemOps::create(loop, std::move(pair.first), [](const Error&) {}).value();
  const std::string large(size_t{900} << 10, 'x');
  size_t answered = 0;
  for (int i = 0; i < 3; ++i)
    ops->submit({net::RunNft{large}}, [&](const std::vector<SystemAnswer>& answers) {
      EXPECT_TRUE(answers.at(0).ok());
      if (++answered == 3) loop.stop();
    });
  loop::Poll poll(loop, theirs.get());
  FrameBuffer buffer;
  std::vector<std::byte> bytes(1 << 16);
  ASSERT_TRUE(poll.start(
      [&](unsigned, int) {
        const ssize_t size = ::recv(theirs.get(), bytes.data(), bytes.size(), 0);
        ASSERT_GT(size, 0);
        buffer.feed(Bytes(bytes).first(static_cast<size_t>(size)));
        for (auto frame = buffer.next(); frame && *frame; frame = buffer.next()) {
          EXPECT_EQ(parse_requests((*frame)->text).value().size(), 1U);
          const std::string answer = write_frame({FrameKind::kAnswers, "done\n"});
          ::send(theirs.get(), answer.data(), answer.size(), 0);
        }
      },
      loop::kReadable));
  loop.run();
  EXPECT_EQ(answered, 3U);
}

}  // namespace
}  // namespace culvert::helper
