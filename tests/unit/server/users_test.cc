#include "server/users.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "common/base/file.h"
#include "tests/unit/server/temporary_dir.h"

namespace culvert::server {
namespace {

IpAddress ip(const char* text) {
  return IpAddress::parse(text).value();
}
Prefix net(const char* text) {
  return Prefix::parse(text).value();
}

User full_user() {
  User user;
  user.name = "alice";
  user.group = "engineering";
  user.ipv4 = ip("10.99.0.7");
  user.ipv6 = ip("fd99::7");
  user.networks = {net("192.168.7.0/24"), net("fd07::/48")};
  return user;
}

TEST(UserName, IsSafeAsFileNameAndHeader) {
  for (const char* good : {"a", "alice", "Alice.B", "alice@example.com", "a-b_c", "0", "_x", "@"}) {
    EXPECT_TRUE(is_user_name(good)) << good;
  }
  for (const char* bad :
       {"", ".", "..", ".a", "-a", "a/b", "../a", "a b", "a\n", "ä", "a:b", "a%", "a\\b"}) {
    EXPECT_FALSE(is_user_name(bad)) << bad;
  }
  EXPECT_TRUE(is_user_name(std::string(64, 'a')));
  EXPECT_FALSE(is_user_name(std::string(65, 'a')));
  EXPECT_FALSE(is_user_name(std::string_view("a\0b", 3)));
  EXPECT_EQ(check_user_name("a/b").error().code, ErrorCode::kUsage);
}

TEST(User, TextReadsBackAsWritten) {
  const User user = full_user();
  const auto back = parse_user(to_toml(user), "alice", "alice.toml");
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(*back, user);
  User plain;
  plain.name = "bob";
  EXPECT_EQ(parse_user(to_toml(plain), "bob", "bob.toml").value(), plain);
}

TEST(User, BadFilesAreRefused) {
  for (const char* text : {"grup = \"x\"", "group = \"a b\"", "addresses = \"10.0.0.1\"",
                           "addresses = [\"10.0.0.1\", \"10.0.0.2\"]",
                           "networks = [\"10.0.0.1/8\"]", "networks = [\"x\"]", "group ="}) {
    const auto user = parse_user(text, "alice", "alice.toml");
    ASSERT_FALSE(user) << text;
    EXPECT_EQ(user.error().code, ErrorCode::kUsage);
    EXPECT_EQ(user.error().where.rfind("alice.toml:1", 0), 0u) << user.error().where;
  }
}

TEST(Users, AreWrittenPrivatelyAndReadBack) {
  const TemporaryDir dir;
  ASSERT_TRUE(write_user(dir.path(), full_user(), std::nullopt));
  struct stat info {};
  ASSERT_EQ(::stat((dir / "alice.toml").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);

  // Neither an editor's leftovers nor other files are users.
  ASSERT_TRUE(create_file(dir / ".bob.toml", "x"));
  ASSERT_TRUE(create_file(dir / "notes.txt", "x"));
  const auto users = read_users(dir.path());
  ASSERT_TRUE(users) << users.error().message();
  ASSERT_EQ(users->size(), 1u);
  EXPECT_EQ(users->at("alice"), full_user());

  ASSERT_TRUE(remove_user(dir.path(), "alice"));
  EXPECT_TRUE(remove_user(dir.path(), "alice"));
  EXPECT_FALSE(read_user(dir.path(), "alice")->has_value());
}

TEST(Users, MissingFolderHoldsNobody) {
  EXPECT_TRUE(read_users("/nonexistent/users")->empty());
}

TEST(Users, NamesFromForeignCertificatesNeverReachTheFileSystem) {
  const TemporaryDir dir;
  ASSERT_TRUE(create_file(dir / "secret.toml", "group = \"admin\""));
  const auto user = read_user(dir / "users", "../secret");
  ASSERT_TRUE(user);
  EXPECT_FALSE(user->has_value());
}

TEST(Users, OneBadFileIsNamed) {
  const TemporaryDir dir;
  ASSERT_TRUE(create_file(dir / "bob.toml", "group = 1"));
  const auto users = read_users(dir.path());
  ASSERT_FALSE(users);
  EXPECT_NE(users.error().where.find("bob.toml:1"), std::string::npos) << users.error().where;
}

TEST(UserNetworks, ClashesAreRefusedAndNameTheOther) {
  const Pools pools{net("10.99.0.0/24"), net("fd99::/64")};
  std::map<std::string, User, std::less<>> users;
  users["alice"] = full_user();
  const struct {
    const char* address;  // or empty
    const char* network;  // or empty
    const char* complaint;
  } cases[] = {
      {"10.99.0.8", "192.168.8.0/24", ""},
      {"fd99::8", "", ""},
      {"10.99.0.254", "", ""},
      {"10.99.0.7", "", "alice"},
      {"fd99::7", "", "alice"},
      {"10.99.0.1", "", "server's own"},
      {"fd99::1", "", "server's own"},
      {"10.99.0.0", "", "cannot be given away"},
      {"10.99.0.255", "", "cannot be given away"},
      {"10.98.0.1", "", "not in the server's network"},
      {"", "192.168.0.0/16", "alice"},
      {"", "192.168.7.128/25", "alice"},
      {"", "10.99.0.0/25", "overlaps the server's"},
      {"", "10.0.0.0/8", "overlaps the server's"},
      {"", "fd99::/48", "overlaps the server's"},
  };
  for (const auto& c : cases) {
    User bob;
    bob.name = "bob";
    if (*c.address != 0) {
      const IpAddress address = ip(c.address);
      (address.is_v4() ? bob.ipv4 : bob.ipv6) = address;
    }
    if (*c.network != 0) bob.networks = {net(c.network)};
    const auto status = check_user_networks(bob, users, pools);
    if (*c.complaint == 0) {
      EXPECT_TRUE(status) << c.address << c.network << ": " << status.error().message();
      continue;
    }
    ASSERT_FALSE(status) << c.address << c.network;
    EXPECT_NE(status.error().message().find(c.complaint), std::string::npos)
        << status.error().message();
  }
}

TEST(UserNetworks, AUserDoesNotClashWithHimself) {
  std::map<std::string, User, std::less<>> users;
  users["alice"] = full_user();
  EXPECT_TRUE(check_user_networks(full_user(), users, {net("10.99.0.0/24"), net("fd99::/64")}));
}

}  // namespace
}  // namespace culvert::server
