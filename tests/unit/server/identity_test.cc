#include "server/identity.h"

#include <gtest/gtest.h>

namespace culvert::server {
namespace {

tls::CertificateInfo certificate(std::string name, std::string unit = {}) {
  tls::CertificateInfo info;
  info.common_name = std::move(name);
  info.organizational_unit = std::move(unit);
  return info;
}

Users users() {
  User alice;
  alice.name = "alice";
  alice.group = "engineering";
  User bob;
  bob.name = "bob";
  return {{"alice", alice}, {"bob", bob}};
}

TEST(Identity, GroupIsThatOfTheUsersFileElseTheOrganizationalUnit) {
  const struct {
    const char *name, *unit, *group;
  } cases[] = {{"alice", "sales", "engineering"},
               {"bob", "sales", "sales"},
               {"carol", "sales", "sales"},
               {"bob", "", ""},
               {"bob", "no group; really", ""}};
  for (const auto& c : cases) {
    const auto who = identify(certificate(c.name, c.unit), users(), UnknownUsers::kAllow);
    ASSERT_TRUE(who.grant) << c.name;
    EXPECT_EQ(who.grant->name, c.name);
    EXPECT_EQ(who.grant->group, c.group) << c.name;
  }
}

TEST(Identity, UnknownUserIsRefusedWhereThePolicySaysSo) {
  const auto who = identify(certificate("carol"), users(), UnknownUsers::kRefuse);
  ASSERT_FALSE(who.grant);
  EXPECT_EQ(who.refusal.reason, "unknown_user");
  EXPECT_TRUE(who.refusal.final);
  EXPECT_TRUE(identify(certificate("alice"), users(), UnknownUsers::kRefuse).grant);
}

TEST(Identity, CommonNameMustBeAUserName) {
  for (const char* name : {"", "../alice", ".alice", "a b", "a\nb", "-x"}) {
    const auto who = identify(certificate(name), users(), UnknownUsers::kAllow);
    ASSERT_FALSE(who.grant) << name;
    EXPECT_EQ(who.refusal.reason, "bad_name");
  }
}

}  // namespace
}  // namespace culvert::server
