#include "server/sqlite_store.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <csignal>
#include <fstream>

#include "tests/unit/server/temporary_dir.h"

namespace culvert::server {
namespace {

using namespace std::chrono_literals;

class SqliteStoreTest : public ::testing::Test {
 protected:
  // A run of the server with what it does; the state that it found.
  StoredState run(const std::function<void(Store&)>& what = [](Store&) {}) {
    auto opened = SqliteStore::open(path_);
    EXPECT_TRUE(opened) << (opened ? "" : opened.error().message());
    if (!opened) return {};
    what(*opened->store);
    return std::move(opened->state);
  }

  static StoredSession session(uint64_t id, const std::string& user = "alice") {
    StoredSession made;
    made.id = SessionId(id);
    made.user = user;
    made.cookie_hash[0] = static_cast<std::byte>(id);
    made.key_hash[31] = std::byte{7};
    made.chain = {{std::byte{1}, std::byte{0}, std::byte{2}}, {std::byte{3}}};
    made.ipv4 = IpAddress::parse("10.99.0.2").value();
    made.ipv6 = IpAddress::parse("fd99::2").value();
    made.user_agent = "it's \"quoted\"; DROP TABLE session";
    made.logged_in_at = WallTime(1'700'000'000s);
    return made;
  }

  TemporaryDir dir_;
  std::string path_ = dir_ / "state.db";
};

TEST_F(SqliteStoreTest, GivesBackWhatItWasTold) {
  const auto empty = run();
  EXPECT_TRUE(empty.sessions.empty() && empty.leases.empty());
  EXPECT_EQ(empty.last_id, 0U);
  StoredSession other = session(9, "bob");
  other.ipv4.reset();
  other.chain.clear();
  other.expires = WallTime(1'800'000'000s);
  const Lease one{IpAddress::parse("fd99::3").value(), "carol"};
  const Lease two{IpAddress::parse("10.99.0.3").value(), "alice"};
  run([&](Store& store) {
    store.save(other);
    store.save(session(4));
    store.note_lease(one);
    store.note_lease(two);
    store.note_alive(WallTime(1'700'000'500s));
  });
  const auto state = run();
  EXPECT_EQ(state.sessions, (std::vector{session(4), other}));
  EXPECT_EQ(state.leases, (std::vector{one, two}));
  EXPECT_EQ(state.last_id, 9U);
  EXPECT_EQ(state.alive_at, WallTime(1'700'000'500s));
}

TEST_F(SqliteStoreTest, TheNewestWordCounts) {
  StoredSession later = session(1);
  later.chain = {{std::byte{9}}};
  const IpAddress address = IpAddress::parse("10.99.0.3").value();
  const IpAddress before = IpAddress::parse("10.99.0.4").value();
  run([&](Store& store) {
    store.save(session(1));
    store.save(session(2));
    store.note_lease({address, "alice"});
    store.note_lease({before, "bob"});
  });
  run([&](Store& store) {
    store.save(later);
    store.remove(SessionId(2));
    store.remove(SessionId(77));  // never heard of
    store.note_lease({address, "carol"});
  });
  const auto state = run();
  EXPECT_EQ(state.sessions, std::vector{later});
  EXPECT_EQ(state.leases, (std::vector<Lease>{{before, "bob"}, {address, "carol"}}));
  EXPECT_EQ(state.last_id, 2U) << "ids are not used again";
}

TEST_F(SqliteStoreTest, TheFileIsForItsOwnerAlone) {
  run([&](Store& store) { store.save(session(1)); });
  struct stat about {};
  ASSERT_EQ(::stat(path_.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0600U);
}

TEST_F(SqliteStoreTest, NobodyElseCanHaveItAtTheSameTime) {
  run([&](Store& store) {
    store.save(session(1));
    const auto second = SqliteStore::open(path_);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::kAlreadyUp);
  });
  EXPECT_EQ(run().sessions.size(), 1U);
}

TEST_F(SqliteStoreTest, WhatIsNoDatabaseIsMovedAside) {
  std::ofstream(path_) << "this has never been a database, and it is long enough to look like one";
  EXPECT_TRUE(run([&](Store& store) { store.save(session(1)); }).sessions.empty());
  EXPECT_TRUE(std::filesystem::exists(path_ + ".unusable"));
  EXPECT_EQ(run().sessions.size(), 1U);
}

TEST_F(SqliteStoreTest, ADatabaseOfALaterVersionIsMovedAside) {
  run([&](Store& store) { store.save(session(1)); });
  {
    auto database = SqliteDatabase::open(path_);
    ASSERT_TRUE(database);
    ASSERT_TRUE(database->execute("PRAGMA user_version = 99"));
  }
  EXPECT_TRUE(run().sessions.empty());
}

TEST_F(SqliteStoreTest, RowsThatMakeNoSenseAreLeftOut) {
  run([&](Store& store) {
    store.save(session(1));
    store.save(session(2));
    store.save(session(3));
    store.note_lease({IpAddress::parse("10.99.0.3").value(), "alice"});
  });
  {
    auto database = SqliteDatabase::open(path_);
    ASSERT_TRUE(database);
    ASSERT_TRUE(
        database->execute("UPDATE session SET cookie_hash = x'00' WHERE id = 1; "
                          "UPDATE session SET ipv4 = 'somewhere' WHERE id = 2; "
                          "UPDATE lease SET address = 'nowhere'"));
  }
  const auto state = run();
  ASSERT_EQ(state.sessions.size(), 1U);
  EXPECT_EQ(state.sessions[0], session(3));
  EXPECT_TRUE(state.leases.empty());
}

std::atomic<int> refused_writes{0};

// As a full disk does: nothing can be written for a while, and what was removed must not come back.
TEST_F(SqliteStoreTest, WhatCannotBeWrittenIsWrittenLater) {
  run([&](Store& store) { store.save(session(1)); });
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, [](int) { ++refused_writes; });
  run([&](Store& store) {
    rlimit none = before;
    none.rlim_cur = 1;
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &none), 0);
    store.remove(SessionId(1));
    for (int ms = 0; ms < 5000 && refused_writes == 0; ++ms)
      ::poll(nullptr, 0, 1);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    EXPECT_GT(refused_writes, 0);
    store.save(session(2));
  });
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(run().sessions, std::vector{session(2)});
}

TEST_F(SqliteStoreTest, WhereItCannotBeIsSaid) {
  path_ = dir_ / "no/such/folder.db";
  const auto opened = SqliteStore::open(path_);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().where, path_);
}

}  // namespace
}  // namespace culvert::server
