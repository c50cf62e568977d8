// Racer against real sockets on the loopback device. Silence is a listener whose queue is full: the
// kernel drops the SYN of one more.
#include "client/racer.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/unit/loop/run_loop.h"

namespace culvert::client {
namespace {

using loop::run_until;
using namespace std::chrono_literals;

Result<UniqueFd> plain_socket(Family family) {
  const int domain = family == Family::kV4 ? AF_INET : AF_INET6;
  return UniqueFd(::socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

// A port of this machine that answers, refuses or says nothing.
class Port {
 public:
  enum class Kind { kAnswers, kRefuses, kSilent };

  explicit Port(Kind kind, const char* address = "127.0.0.1") {
    const IpAddress host = *IpAddress::parse(address);
    listener_ = std::move(*plain_socket(host.family()));
    sockaddr_storage storage{};
    socklen_t length = Endpoint{host, 0}.to_sockaddr(storage);
    auto* generic = reinterpret_cast<sockaddr*>(&storage);
    EXPECT_EQ(::bind(listener_.get(), generic, length), 0);
    length = sizeof storage;
    EXPECT_EQ(::getsockname(listener_.get(), generic, &length), 0);
    endpoint_ = Endpoint::from_sockaddr(storage);
    if (kind == Kind::kRefuses) return;  // bound, so that nobody else gets it
    EXPECT_EQ(::listen(listener_.get(), kind == Kind::kSilent ? 0 : 8), 0);
    if (kind == Kind::kSilent) fill(generic, length);
  }

  [[nodiscard]] const Endpoint& endpoint() const { return endpoint_; }
  // Connections that are waiting to be accepted.
  int waiting() {
    int count = 0;
    while (UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)).valid())
      ++count;
    return count;
  }

 private:
  void fill(const sockaddr* address, socklen_t length) {
    for (int i = 0; i < 3; ++i) {
      fillers_.push_back(std::move(*plain_socket(endpoint_.address.family())));
      (void)::connect(fillers_.back().get(), address, length);
    }
  }

  UniqueFd listener_;
  Endpoint endpoint_;
  std::vector<UniqueFd> fillers_;
};

class RacerTest : public testing::Test {
 protected:
  // Runs a race to its end.
  void race(std::vector<Endpoint> endpoints, Duration first_head_start = kHeadStart) {
    begin(std::move(endpoints), first_head_start);
    EXPECT_TRUE(run_until(loop_, [this] { return done_.has_value(); }));
  }
  void begin(std::vector<Endpoint> endpoints, Duration first_head_start = kHeadStart) {
    started_ = BootClock::now();
    racer_ = std::make_unique<Racer>(
        loop_, Racer::Course{std::move(endpoints), first_head_start, open_socket_,
                             [this](const Endpoint& endpoint) { attempts_.push_back(endpoint); },
                             [this](Result<Racer::Winner> winner) {
                               took_ = BootClock::now() - started_;
                               done_ = std::move(winner);
                               racer_.reset();  // as its owner does
                             }});
  }
  [[nodiscard]] std::string winner() const {
    if (!done_ || !*done_) return "nobody";
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    const int socket = (**done_).socket.get();
    EXPECT_EQ(::getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &length), 0);
    EXPECT_EQ(Endpoint::from_sockaddr(peer), (**done_).endpoint);
    return (**done_).endpoint.to_string();
  }

  loop::Loop loop_;
  Racer::OpenSocket open_socket_ = plain_socket;
  std::unique_ptr<Racer> racer_;
  std::vector<Endpoint> attempts_;
  std::optional<Result<Racer::Winner>> done_;
  TimePoint started_{};
  Duration took_{};
};

TEST_F(RacerTest, TheFirstWinsAloneWhenItAnswers) {
  Port first(Port::Kind::kAnswers);
  Port second(Port::Kind::kAnswers);
  race({first.endpoint(), second.endpoint()});
  EXPECT_EQ(winner(), first.endpoint().to_string());
  EXPECT_EQ(attempts_.size(), 1U);
  EXPECT_EQ(second.waiting(), 0);
}

TEST_F(RacerTest, ASilentAddressCostsItsHeadStart) {
  Port silent(Port::Kind::kSilent);
  Port good(Port::Kind::kAnswers);
  race({silent.endpoint(), good.endpoint()});
  EXPECT_EQ(winner(), good.endpoint().to_string());
  EXPECT_GE(took_, kHeadStart);
  EXPECT_LT(took_, 3s);
}

TEST_F(RacerTest, SeveralSilentOnesCostOneEach) {
  Port silent(Port::Kind::kSilent);
  Port mute(Port::Kind::kSilent);
  Port good(Port::Kind::kAnswers);
  race({silent.endpoint(), mute.endpoint(), good.endpoint()}, 100ms);
  EXPECT_EQ(winner(), good.endpoint().to_string());
  EXPECT_GE(took_, 100ms + kHeadStart);
}

TEST_F(RacerTest, ARefusalCostsNothing) {
  Port refusing(Port::Kind::kRefuses);
  Port good(Port::Kind::kAnswers);
  race({refusing.endpoint(), good.endpoint()}, 1h);
  EXPECT_EQ(winner(), good.endpoint().to_string());
}

TEST_F(RacerTest, TheOtherFamilyStepsIn) {
  Port refusing(Port::Kind::kRefuses);
  Port good(Port::Kind::kAnswers, "::1");
  race({refusing.endpoint(), good.endpoint()});
  EXPECT_EQ(winner(), good.endpoint().to_string());
}

TEST_F(RacerTest, AFamilyThatDoesNotExistIsPassedOver) {
  open_socket_ = [](Family family) -> Result<UniqueFd> {
    if (family == Family::kV6) return fail(ErrorCode::kNetwork, "no IPv6 here");
    return plain_socket(family);
  };
  Port good(Port::Kind::kAnswers);
  race({*Endpoint::parse("[2001:db8::1]:443"), good.endpoint()}, 1h);
  EXPECT_EQ(winner(), good.endpoint().to_string());
}

TEST_F(RacerTest, WhenAllFailEachIsNamed) {
  Port one(Port::Kind::kRefuses);
  Port other(Port::Kind::kRefuses);
  race({one.endpoint(), other.endpoint()});
  ASSERT_EQ(winner(), "nobody");
  const Error& error = done_->error();
  EXPECT_EQ(error.code, ErrorCode::kNetwork);
  for (const Port* port : {&one, &other})
    EXPECT_NE(
        error.what.find(port->endpoint().to_string() + ": cannot connect: Connection refused"),
        std::string::npos)
        << error.message();
}

TEST_F(RacerTest, OneAddressFailsWithItsOwnError) {
  Port one(Port::Kind::kRefuses);
  race({one.endpoint()});
  ASSERT_EQ(winner(), "nobody");
  EXPECT_EQ(done_->error().message(),
            one.endpoint().to_string() + ": cannot connect: Connection refused");
}

TEST_F(RacerTest, ASocketThatMayNotBeMarkedEndsIt) {
  open_socket_ = [](Family) -> Result<UniqueFd> { return fail(ErrorCode::kPermission, "no"); };
  Port good(Port::Kind::kAnswers);
  race({good.endpoint(), good.endpoint()});
  ASSERT_EQ(winner(), "nobody");
  EXPECT_EQ(done_->error().code, ErrorCode::kPermission);
  EXPECT_EQ(attempts_.size(), 1U);
}

TEST_F(RacerTest, TheOthersAreClosedWhenOneHasWon) {
  Port good(Port::Kind::kAnswers);
  Port silent(Port::Kind::kSilent);
  std::vector<int> opened;
  open_socket_ = [&](Family family) {
    auto socket = plain_socket(family);
    opened.push_back(socket->get());
    return socket;
  };
  race({silent.endpoint(), good.endpoint()});
  ASSERT_EQ(opened.size(), 2U);
  EXPECT_EQ((**done_).socket.get(), opened[1]);
  int error = 0;
  socklen_t length = sizeof error;
  EXPECT_NE(::getsockopt(opened[0], SOL_SOCKET, SO_ERROR, &error, &length), 0) << "still open";
}

TEST_F(RacerTest, NothingComesAfterItsEnd) {
  Port silent(Port::Kind::kSilent);
  Port good(Port::Kind::kAnswers);
  begin({silent.endpoint(), good.endpoint()}, 50ms);
  EXPECT_TRUE(run_until(loop_, [this] { return !attempts_.empty(); }));
  racer_.reset();
  loop::Timer later(loop_);
  bool passed = false;
  later.start(200ms, [&] { passed = true; });
  EXPECT_TRUE(run_until(loop_, [&] { return passed; }));
  EXPECT_FALSE(done_);
  EXPECT_EQ(attempts_.size(), 1U);
}

TEST(Interleaved, AlternatesAndKeepsTheFirst) {
  const auto order = [](std::vector<const char*> addresses) {
    std::vector<Endpoint> endpoints;
    for (const char* address : addresses)
      endpoints.push_back({*IpAddress::parse(address), 443});
    std::string text;
    for (const Endpoint& endpoint : interleaved(endpoints))
      text += endpoint.address.to_string() + " ";
    return text;
  };
  EXPECT_EQ(order({"::1", "::2", "::3", "10.0.0.1", "10.0.0.2"}), "::1 10.0.0.1 ::2 10.0.0.2 ::3 ");
  EXPECT_EQ(order({"10.0.0.1", "10.0.0.2", "::1"}), "10.0.0.1 ::1 10.0.0.2 ");
  EXPECT_EQ(order({"10.0.0.1", "::1", "::2", "::3"}), "10.0.0.1 ::1 ::2 ::3 ");
  EXPECT_EQ(order({"::1", "::2"}), "::1 ::2 ");
  EXPECT_EQ(order({}), "");
}

}  // namespace
}  // namespace culvert::client
