#include "client/dns.h"

#include <gtest/gtest.h>

namespace culvert::client {
namespace {

wire::TunnelParams pushed() {
  wire::TunnelParams params;
  params.dns = {*IpAddress::parse("10.20.0.53"), *IpAddress::parse("fd20::53")};
  params.default_domain = "corp.example lab.example";
  params.split_dns = {"internal.example"};
  return params;
}

TEST(Dns, KeepsOnlyWhatIsADomainOrAServer) {
  auto params = pushed();
  params.dns.push_back(*IpAddress::parse("0.0.0.0"));
  params.dns.push_back(*IpAddress::parse("224.0.0.1"));
  params.default_domain += " --help a..b -x;.ok.example";
  params.split_dns.push_back("$(reboot)");
  const DnsPlan plan = plan_dns(params, false);
  EXPECT_EQ(plan.servers.size(), 2u);
  EXPECT_EQ(plan.search, (std::vector<std::string>{"corp.example", "lab.example", "ok.example"}));
  EXPECT_EQ(plan.routed, std::vector<std::string>{"internal.example"});
}

TEST(Dns, TheTunnelAnswersForEverythingOnlyInFullMode) {
  const auto domains = [](bool full) {
    return apply_commands(DnsMethod::kResolved, "culvert0", plan_dns(pushed(), full))[1].argv;
  };
  const std::vector<std::string> split = {"resolvectl",   "domain",      "culvert0",
                                          "corp.example", "lab.example", "~internal.example"};
  EXPECT_EQ(domains(false), split);
  EXPECT_EQ(domains(true).back(), "~.");
}

TEST(Dns, ResolvconfGetsARecordOfItsOwnAndLosesItAgain) {
  const auto apply = apply_commands(DnsMethod::kResolvconf, "culvert0", plan_dns(pushed(), true));
  ASSERT_EQ(apply.size(), 1u);
  EXPECT_EQ(apply[0].argv, (std::vector<std::string>{"resolvconf", "-a", "culvert0.culvert"}));
  EXPECT_EQ(apply[0].input,
            "nameserver 10.20.0.53\nnameserver fd20::53\nsearch corp.example lab.example\n");
  const auto undo = undo_commands(DnsMethod::kResolvconf, "culvert0");
  EXPECT_EQ(undo[0].argv, (std::vector<std::string>{"resolvconf", "-d", "culvert0.culvert"}));
}

TEST(Dns, KnowsADomainWhenItSeesOne) {
  for (const char* good : {"example", "a.b.example.", "_sip._tcp.example", "x-1.example"})
    EXPECT_TRUE(is_domain(good)) << good;
  for (const char* bad : {"", ".", "a..b", "-a", "a-", "a b", "a/b", "~.", "a\nb", "é.example"})
    EXPECT_FALSE(is_domain(bad)) << bad;
}

TEST(Dns, WithoutAResolverItSaysSoAndChangesNothing) {
  loop::Loop loop;
  Dns dns(loop, "/nonexistent/note", DnsMethod::kNone);
  Status seen;
  dns.apply("culvert0", plan_dns(pushed(), false),
            [&](Status status) { seen = std::move(status); });
  ASSERT_FALSE(seen);
  EXPECT_FALSE(dns.applied());
  bool undone = false;
  dns.undo([&](const Status& status) { undone = status.has_value(); });
  EXPECT_TRUE(undone);
}

}  // namespace
}  // namespace culvert::client
