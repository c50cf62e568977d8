#include "common/loop/resolver.h"

#include <gtest/gtest.h>

#include <optional>

#include "tests/unit/loop/run_loop.h"

namespace culvert::loop {
namespace {

using Resolved = std::optional<Result<std::vector<Endpoint>>>;

TEST(Resolver, AnswersALiteralAddressWithItself) {
  for (const std::string host : {"192.0.2.1", "2001:db8::1"}) {
    Loop loop;
    Resolved answer;
    const auto resolver =
        Resolver::resolve(loop, host, 443, [&](auto result) { answer = std::move(result); });
    EXPECT_FALSE(answer) << "never from inside resolve()";
    ASSERT_TRUE(run_until(loop, [&] { return answer.has_value(); }));
    ASSERT_TRUE(*answer);
    ASSERT_EQ((*answer)->size(), 1U);
    EXPECT_EQ((*answer)->front(), (Endpoint{*IpAddress::parse(host), 443}));
  }
}

TEST(Resolver, ResolvesLocalhostWithoutDuplicates) {
  Loop loop;
  Resolved answer;
  const auto resolver =
      Resolver::resolve(loop, "localhost", 8443, [&](auto result) { answer = std::move(result); });
  ASSERT_TRUE(run_until(loop, [&] { return answer.has_value(); }));
  ASSERT_TRUE(*answer) << answer->error().message();
  const auto& endpoints = **answer;
  ASSERT_FALSE(endpoints.empty());
  for (size_t i = 0; i < endpoints.size(); ++i) {
    EXPECT_TRUE(endpoints[i].address.is_loopback());
    EXPECT_EQ(endpoints[i].port, 8443);
    for (size_t j = 0; j < i; ++j)
      EXPECT_NE(endpoints[i], endpoints[j]);
  }
}

TEST(Resolver, FailsAsANetworkErrorThatNamesTheHost) {
  Loop loop;
  Resolved answer;
  // Too long a label: refused without asking a name server.
  const std::string host = std::string(70, 'x') + ".invalid";
  const auto resolver =
      Resolver::resolve(loop, host, 443, [&](auto result) { answer = std::move(result); });
  ASSERT_TRUE(run_until(loop, [&] { return answer.has_value(); }));
  ASSERT_FALSE(*answer);
  EXPECT_EQ(answer->error().code, ErrorCode::kNetwork);
  EXPECT_EQ(answer->error().where, host);
}

TEST(Resolver, ForgetsTheAnswerWhenDestroyed) {
  Loop loop;
  const auto token = std::make_shared<int>(0);
  for (int i = 0; i < 20; ++i) {
    auto resolver = Resolver::resolve(loop, "localhost", 443, [token](auto) { FAIL(); });
    resolver = Resolver();
    EXPECT_EQ(token.use_count(), 1) << "what the callback owned is released at once";
  }
  turn(loop, 100);
}

TEST(Resolver, MayBeDestroyedInItsOwnCallback) {
  Loop loop;
  Resolver resolver;
  bool done = false;
  resolver = Resolver::resolve(loop, "localhost", 443, [&](auto) {
    resolver = Resolver();
    done = true;
  });
  EXPECT_TRUE(run_until(loop, [&] { return done; }));
}

// The thread cannot be stopped: it may outlive the loop. Mostly for the sanitizers.
TEST(Resolver, MayStillBeAtWorkWhenTheLoopGoes) {
  for (int i = 0; i < 50; ++i) {
    Loop loop;
    const auto resolver = Resolver::resolve(loop, "localhost", 443, [](auto) {});
    if (i % 2 == 0) turn(loop);
  }
}

}  // namespace
}  // namespace culvert::loop
