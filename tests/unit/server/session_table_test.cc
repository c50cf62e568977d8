#include "server/session_table.h"

#include <gtest/gtest.h>

namespace culvert::server {
namespace {

using namespace std::chrono_literals;

constexpr Duration kTimeout = 5min;
constexpr TimePoint kStart{1h};

Session session(std::string user, int cookie) {
  Session made;
  made.user = std::move(user);
  made.cookie_hash[0] = static_cast<std::byte>(cookie);
  return made;
}

TEST(SessionTable, FindsBySessionIdAndByCookie) {
  SessionTable table(kTimeout);
  const Session& alice = table.open(session("alice", 1), kStart);
  const Session& bob = table.open(session("bob", 2), kStart);
  EXPECT_NE(alice.id, bob.id);
  EXPECT_EQ(table.find(alice.id), &alice);
  EXPECT_EQ(table.find_by_cookie(bob.cookie_hash), &bob);
  EXPECT_EQ(table.find_by_cookie(session("", 3).cookie_hash), nullptr);
}

TEST(SessionTable, LoginThatIsNotUsedExpires) {
  SessionTable table(kTimeout);
  const SessionId id = table.open(session("alice", 1), kStart).id;
  EXPECT_TRUE(table.expired(kStart + kTimeout - 1s).empty());
  EXPECT_EQ(table.expired(kStart + kTimeout), std::vector{id});
}

TEST(SessionTable, AttachedSessionNeverExpires) {
  SessionTable table(kTimeout);
  table.attach(table.open(session("alice", 1), kStart), kStart);
  EXPECT_TRUE(table.expired(kStart + 24h).empty());
}

TEST(SessionTable, CookieCountsFromTheLossOfTheConnection) {
  SessionTable table(kTimeout);
  Session& s = table.open(session("alice", 1), kStart);
  table.attach(s, kStart);
  table.detach(s, kStart + 1h);
  EXPECT_TRUE(table.expired(kStart + 1h + kTimeout - 1s).empty());
  EXPECT_EQ(table.expired(kStart + 1h + kTimeout).size(), 1U);
  table.attach(s, kStart + 1h + 1min);
  EXPECT_TRUE(table.expired(kStart + 24h).empty());
}

TEST(SessionTable, EveryAttachmentHasANumberOfItsOwn) {
  SessionTable table(kTimeout);
  Session& s = table.open(session("alice", 1), kStart);
  const uint64_t first = table.attach(s, kStart);
  const uint64_t second = table.attach(s, kStart);
  table.detach(s, kStart);
  EXPECT_LT(first, second);
  EXPECT_LT(second, table.attach(s, kStart));
}

TEST(SessionTable, EndingSessionIsNotFoundByItsCookie) {
  SessionTable table(kTimeout);
  Session& s = table.open(session("alice", 1), kStart);
  const SessionId id = s.id;
  table.attach(s, kStart);
  table.begin_end(s, "because");
  EXPECT_EQ(table.find_by_cookie(session("", 1).cookie_hash), nullptr);
  EXPECT_EQ(table.find(id), &s);
  EXPECT_EQ(s.end_reason, "because");
  table.erase(id);
  EXPECT_EQ(table.find(id), nullptr);
  EXPECT_EQ(table.size(), 0U);
}

TEST(SessionTable, ErasedCookieCanBeUsedAgain) {
  SessionTable table(kTimeout);
  table.erase(table.open(session("alice", 1), kStart).id);
  const Session& again = table.open(session("alice", 1), kStart);
  EXPECT_EQ(table.find_by_cookie(again.cookie_hash), &again);
}

TEST(SessionTable, CountsByUserAndState) {
  SessionTable table(kTimeout);
  Session& first = table.open(session("alice", 1), kStart);
  Session& second = table.open(session("alice", 2), kStart);
  table.open(session("bob", 3), kStart);
  table.attach(first, kStart);
  table.attach(second, kStart);
  table.detach(second, kStart);
  EXPECT_EQ(table.of_user("alice", SessionState::kAttached), std::vector{first.id});
  EXPECT_EQ(table.of_user("alice", SessionState::kDetached), std::vector{second.id});
  EXPECT_EQ(table.count(SessionState::kLoggedIn), 1U);
}

}  // namespace
}  // namespace culvert::server
