#include "common/net/resolver_setup.h"

#include <gtest/gtest.h>

#include "common/net/system_request.h"

namespace culvert::net {
namespace {

ResolverSetup setup(ResolverKind kind) {
  return {kind,
          "culvert0",
          {*IpAddress::parse("10.20.0.53"), *IpAddress::parse("fd20::53")},
          {"corp.example", "lab.example"},
          {"internal.example"},
          false};
}

TEST(ResolverSetup, ResolvedIsToldServersDomainsAndTheDefault) {
  ResolverSetup wanted = setup(ResolverKind::kResolved);
  auto commands = apply_commands(wanted);
  ASSERT_EQ(commands.size(), 3U);
  EXPECT_EQ(commands[0].argv,
            (std::vector<std::string>{"resolvectl", "dns", "culvert0", "10.20.0.53", "fd20::53"}));
  EXPECT_EQ(commands[1].argv,
            (std::vector<std::string>{"resolvectl", "domain", "culvert0", "corp.example",
                                      "lab.example", "~internal.example"}));
  EXPECT_EQ(commands[2].argv.back(), "no");
  wanted.all = true;
  commands = apply_commands(wanted);
  EXPECT_EQ(commands[1].argv.back(), "~.");
  EXPECT_EQ(commands[2].argv.back(), "yes");
  wanted = {ResolverKind::kResolved, "culvert0", wanted.servers, {}, {}, false};
  commands = apply_commands(wanted);
  EXPECT_EQ(commands[1].argv.back(), "") << "an empty list";
  EXPECT_EQ(commands[2].argv.back(), "yes") << "without domains of its own";
  EXPECT_EQ(clear_commands(ResolverKind::kResolved, "culvert0")[0].argv,
            (std::vector<std::string>{"resolvectl", "revert", "culvert0"}));
}

TEST(ResolverSetup, ResolvconfGetsARecordOfItsOwnAndLosesItAgain) {
  const auto apply = apply_commands(setup(ResolverKind::kResolvconf));
  ASSERT_EQ(apply.size(), 1U);
  EXPECT_EQ(apply[0].argv, (std::vector<std::string>{"resolvconf", "-a", "culvert0.culvert"}));
  EXPECT_EQ(apply[0].input,
            "nameserver 10.20.0.53\nnameserver fd20::53\nsearch corp.example lab.example\n");
  EXPECT_EQ(clear_commands(ResolverKind::kResolvconf, "culvert0")[0].argv,
            (std::vector<std::string>{"resolvconf", "-d", "culvert0.culvert"}));
}

TEST(ResolverSetup, KnowsADomainWhenItSeesOne) {
  for (const char* good : {"example", "a.b.example.", "_sip._tcp.example", "x-1.example"})
    EXPECT_TRUE(is_domain(good)) << good;
  for (const char* bad : {"", ".", "a..b", "-a", "a-", "a b", "a/b", "~.", "a\nb", "é.example"})
    EXPECT_FALSE(is_domain(bad)) << bad;
}

TEST(ResolverSetup, IsARequestLikeTheOthers) {
  for (const ResolverKind kind : {ResolverKind::kResolved, ResolverKind::kResolvconf}) {
    const SystemRequest set = SetResolver{setup(kind)};
    EXPECT_EQ(parse_request(to_text(set)).value(), set);
    const SystemRequest clear = ClearResolver{kind, "culvert0"};
    EXPECT_EQ(parse_request(to_text(clear)).value(), clear);
  }
  ResolverSetup bad = setup(ResolverKind::kResolved);
  bad.search.push_back("--help me");
  EXPECT_FALSE(validate(SetResolver{bad}));
  bad = setup(ResolverKind::kResolved);
  bad.device = "-h";
  bad.servers.clear();
  EXPECT_FALSE(validate(SetResolver{bad}));
  EXPECT_FALSE(validate(ClearResolver{ResolverKind::kResolved, "a/b"}));
}

}  // namespace
}  // namespace culvert::net
