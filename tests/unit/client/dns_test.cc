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

// Remembers what it is asked for.
class FakeSystem final : public net::SystemOps {
 public:
  void submit(std::vector<net::SystemRequest> requests, Answers done) override {
    for (const auto& request : requests)
      log.push_back(net::to_text(request));
    done(std::vector<net::SystemAnswer>(requests.size()));
  }
  void undo_all(Finished done) override { done({}); }
  std::vector<std::string> log;
};

TEST(Dns, TheTunnelAnswersForEverythingOnlyInFullMode) {
  FakeSystem system;
  Dns dns(system, DnsMethod::kResolved);
  const std::string split =
      "set_resolver kind=resolved device=culvert0 servers=10.20.0.53%20fd20::53 "
      "search=corp.example%20lab.example routed=internal.example";
  for (const bool full : {false, true})
    dns.apply("culvert0", plan_dns(pushed(), full),
              [](const Status& status) { EXPECT_TRUE(status); });
  EXPECT_EQ(system.log, (std::vector{split, split + " all=1"}));
  EXPECT_TRUE(dns.applied());
}

TEST(Dns, TakesBackWhatItHasApplied) {
  FakeSystem system;
  Dns dns(system, DnsMethod::kResolvconf);
  dns.undo([](const Status& status) { EXPECT_TRUE(status); });
  EXPECT_TRUE(system.log.empty());
  dns.apply("culvert0", plan_dns(pushed(), true), [](const Status&) {});
  system.log.clear();
  for (int i = 0; i < 2; ++i)
    dns.undo([](const Status& status) { EXPECT_TRUE(status); });
  EXPECT_EQ(system.log, std::vector<std::string>{"clear_resolver kind=resolvconf device=culvert0"});
  EXPECT_FALSE(dns.applied());
}

TEST(Dns, WithoutAResolverItSaysSoAndChangesNothing) {
  FakeSystem system;
  Dns dns(system, DnsMethod::kNone);
  Status seen;
  dns.apply("culvert0", plan_dns(pushed(), false),
            [&](Status status) { seen = std::move(status); });
  ASSERT_FALSE(seen);
  EXPECT_FALSE(dns.applied());
  bool undone = false;
  dns.undo([&](const Status& status) { undone = status.has_value(); });
  EXPECT_TRUE(undone);
  EXPECT_TRUE(system.log.empty());
}

}  // namespace
}  // namespace culvert::client
