#include "server/identity.h"

#include <gtest/gtest.h>

namespace culvert::server {
namespace {

tls::CertificateInfo certificate(std::string name, std::string unit = {}) {
  tls::CertificateInfo info;
  if (!unit.empty()) info.attributes.emplace_back("OU", std::move(unit));
  if (!name.empty()) info.attributes.emplace_back("CN", std::move(name));
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
    const auto who = identify(certificate(c.name, c.unit), {}, users(), UnknownUsers::kAllow);
    ASSERT_TRUE(who.grant) << c.name;
    EXPECT_EQ(who.grant->name, c.name);
    EXPECT_EQ(who.grant->group, c.group) << c.name;
  }
}

TEST(Identity, UnknownUserIsRefusedWhereThePolicySaysSo) {
  const auto who = identify(certificate("carol"), {}, users(), UnknownUsers::kRefuse);
  ASSERT_FALSE(who.grant);
  EXPECT_EQ(who.refusal.reason, "unknown_user");
  EXPECT_TRUE(who.refusal.final);
  EXPECT_TRUE(identify(certificate("alice"), {}, users(), UnknownUsers::kRefuse).grant);
}

TEST(Identity, TheNameIsFoundWhereTheRulesSay) {
  using Source = IdentityRules::Source;
  tls::CertificateInfo info = certificate("Alice Liddell", "sales");
  info.attributes.emplace_back("uid", "alice");
  info.attributes.emplace_back("uid", "second");
  info.attributes.emplace_back("O", "wonderland");
  info.emails = {"alice@example.com", "al@example.com"};
  info.principal_names = {"a.liddell@corp.example"};
  const struct {
    IdentityRules rules;
    const char *name, *group;
  } cases[] = {
      {{.attribute = "UID"}, "alice", "sales"},
      {{.source = Source::kEmail}, "alice@example.com", "sales"},
      {{.source = Source::kEmail, .strip_domain = true}, "alice", "sales"},
      {{.source = Source::kPrincipalName}, "a.liddell@corp.example", "sales"},
      {{.source = Source::kPrincipalName, .strip_domain = true, .group_attribute = "o"},
       "a.liddell",
       "wonderland"},
      {{.attribute = "UID", .group_attribute = ""}, "alice", ""},
  };
  for (const auto& c : cases) {
    const auto who = identify(info, c.rules, {}, UnknownUsers::kAllow);
    ASSERT_TRUE(who.grant) << who.refusal.text;
    EXPECT_EQ(who.grant->name, c.name);
    EXPECT_EQ(who.grant->group, c.group);
  }
}

TEST(Identity, WhatIsMissingIsNamed) {
  using Source = IdentityRules::Source;
  const std::pair<IdentityRules, const char*> cases[] = {
      {{}, "no common name"},
      {{.attribute = "UID"}, "no UID"},
      {{.source = Source::kEmail}, "no e-mail address"},
      {{.source = Source::kPrincipalName, .strip_domain = true}, "no user principal name"}};
  for (const auto& [rules, text] : cases) {
    const auto who = identify({}, rules, users(), UnknownUsers::kAllow);
    ASSERT_FALSE(who.grant);
    EXPECT_NE(who.refusal.text.find(text), std::string::npos) << who.refusal.text;
  }
}

TEST(Identity, CommonNameMustBeAUserName) {
  for (const char* name : {"", "../alice", ".alice", "a b", "a\nb", "-x"}) {
    const auto who = identify(certificate(name), {}, users(), UnknownUsers::kAllow);
    ASSERT_FALSE(who.grant) << name;
    EXPECT_EQ(who.refusal.reason, "bad_name");
  }
}

TEST(Identity, CertificatesOfOurOwnAreFoundByTheirCommonNameOnly) {
  using Source = IdentityRules::Source;
  EXPECT_EQ(name_in_own("alice", {}), "alice");
  EXPECT_EQ(name_in_own("alice", {.attribute = "cn"}), "alice");
  EXPECT_EQ(name_in_own("alice@example.com", {.strip_domain = true}), "alice");
  EXPECT_EQ(name_in_own("alice", {.attribute = "uid"}), "");
  EXPECT_EQ(name_in_own("alice", {.source = Source::kEmail}), "");
  EXPECT_EQ(name_in_own("alice", {.source = Source::kPrincipalName}), "");
}

TEST(Identity, RulesAreSaidInWords) {
  using Source = IdentityRules::Source;
  EXPECT_EQ(describe(IdentityRules{}), "users by common name, groups: organizational unit");
  EXPECT_EQ(describe(IdentityRules{
                .source = Source::kEmail, .strip_domain = true, .group_attribute = ""}),
            "users by e-mail address without its domain, groups: none from the certificate");
  EXPECT_EQ(describe(IdentityRules{.attribute = "UID", .group_attribute = "O"}),
            "users by UID, groups: O");
}

}  // namespace
}  // namespace culvert::server
