#include "client/routes.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace culvert::client {
namespace {

Prefix prefix(const char* text) {
  return *Prefix::parse(text);
}

wire::TunnelParams params(const char* ipv4, const char* ipv6) {
  wire::TunnelParams p;
  if (ipv4 != nullptr) p.ipv4 = prefix(ipv4);
  if (ipv6 != nullptr) p.ipv6 = prefix(ipv6);
  p.mtu = Mtu(1400);
  return p;
}

RouteInput input(RouteMode mode = RouteMode::kServer, const char* device = "culvert0",
                 uint16_t mtu = 1400) {
  RouteInput in;
  in.device = device;
  in.mode = mode;
  in.mtu = Mtu(mtu);
  return in;
}

std::vector<net::Route> routes_of(const RoutePlan& plan) {
  std::vector<net::Route> routes;
  for (const auto& request : plan.requests)
    if (const auto* add = std::get_if<net::AddRoute>(&request)) routes.push_back(add->route);
  return routes;
}

std::vector<net::Rule> rules_of(const RoutePlan& plan) {
  std::vector<net::Rule> rules;
  for (const auto& request : plan.requests)
    if (const auto* add = std::get_if<net::AddRule>(&request)) rules.push_back(add->rule);
  return rules;
}

const net::Route* find(const std::vector<net::Route>& routes, const char* destination,
                       uint32_t table = RoutingNumbers{}.table) {
  for (const net::Route& route : routes)
    if (route.destination == prefix(destination) && route.table == table) return &route;
  return nullptr;
}

TEST(Routes, SplitModeRoutesTheNetworksAndTheTunnelsOwnInOurTable) {
  auto p = params("10.99.0.2/24", "fd99::2/64");
  p.split_include = {prefix("10.20.0.0/16"), prefix("fd20::/32")};
  const RoutePlan plan = plan_routes(p, input());
  const auto routes = routes_of(plan);
  for (const char* network : {"10.99.0.0/24", "fd99::/64", "10.20.0.0/16", "fd20::/32"}) {
    ASSERT_NE(find(routes, network), nullptr) << network;
    EXPECT_EQ(find(routes, network)->device, "culvert0");
    EXPECT_EQ(find(routes, network)->type, net::Route::Type::kUnicast);
  }
  EXPECT_EQ(routes.size(), 4u);
  EXPECT_FALSE(plan.full);
  EXPECT_EQ(plan.summary,
            (std::vector<std::string>{"10.99.0.0/24", "fd99::/64", "10.20.0.0/16", "fd20::/32"}));
}

TEST(Routes, AddressesCarryNoNetworkSoThatMainStaysUntouched) {
  const RoutePlan plan = plan_routes(params("10.99.0.2/24", "fd99::2/64"), input());
  std::vector<std::string> addresses;
  for (const auto& request : plan.requests)
    if (const auto* add = std::get_if<net::AddAddress>(&request))
      addresses.push_back(add->address.to_string());
  EXPECT_EQ(addresses, (std::vector<std::string>{"10.99.0.2/32", "fd99::2/128"}));
}

TEST(Routes, RulesSendMarkedPacketsToMainAndEverythingElseToOurTableBeforeMain) {
  auto p = params("10.99.0.2/24", nullptr);
  p.split_include = {prefix("10.20.0.0/16")};
  const RoutingNumbers numbers;
  const auto rules = rules_of(plan_routes(p, input()));
  ASSERT_EQ(rules.size(), 2u);
  EXPECT_EQ(rules[0], (net::Rule{Family::kV4, numbers.priority, numbers.fwmark, net::kMainTable}));
  EXPECT_EQ(rules[1], (net::Rule{Family::kV4, numbers.priority + 2, {}, numbers.table}));
  EXPECT_LT(rules[1].priority, 32766u);
}

TEST(Routes, TheSwitchOverComesLast) {
  const RoutePlan plan = plan_routes(params("10.99.0.2/24", "fd99::2/64"), input());
  EXPECT_TRUE(std::holds_alternative<net::SetLink>(plan.requests.front()));
  EXPECT_TRUE(std::holds_alternative<net::AddRule>(plan.requests.back()));
  const auto* last = std::get_if<net::AddRule>(&plan.requests.back());
  EXPECT_FALSE(last->rule.fwmark.has_value());
}

TEST(Routes, WithoutNetworksEverythingGoesThroughTheTunnel) {
  const RoutePlan plan = plan_routes(params("10.99.0.2/24", "fd99::2/64"), input());
  const auto routes = routes_of(plan);
  EXPECT_TRUE(plan.full);
  EXPECT_EQ(find(routes, "0.0.0.0/0")->type, net::Route::Type::kUnicast);
  EXPECT_EQ(find(routes, "::/0")->type, net::Route::Type::kUnicast);
  EXPECT_EQ(plan.summary, std::vector<std::string>{"everything"});
}

TEST(Routes, InFullModeAFamilyThatTheTunnelLacksIsUnreachable) {
  const auto v4_only = routes_of(plan_routes(params("10.99.0.2/24", nullptr), input()));
  EXPECT_EQ(find(v4_only, "::/0")->type, net::Route::Type::kUnreachable);
  const auto v6_only = routes_of(plan_routes(params(nullptr, "fd99::2/64"), input()));
  EXPECT_EQ(find(v6_only, "0.0.0.0/0")->type, net::Route::Type::kUnreachable);
}

TEST(Routes, InFullModeMarkedPacketsNeverEnterTheirOwnTunnel) {
  const RoutingNumbers numbers;
  const RoutePlan plan = plan_routes(params("10.99.0.2/24", nullptr), input());
  const auto rules = rules_of(plan);
  const uint32_t dead_end = numbers.table + kDeadEndOffset;
  for (const Family family : {Family::kV4, Family::kV6}) {
    const net::Rule wanted{family, numbers.priority + 1, numbers.fwmark, dead_end};
    EXPECT_NE(std::find(rules.begin(), rules.end(), wanted), rules.end());
  }
  EXPECT_EQ(find(routes_of(plan), "0.0.0.0/0", dead_end)->type, net::Route::Type::kUnreachable);
  EXPECT_EQ(find(routes_of(plan), "::/0", dead_end)->type, net::Route::Type::kUnreachable);
}

TEST(Routes, ANetworkThatHoldsTheServerGetsTheDeadEndToo) {
  auto p = params("10.99.0.2/24", nullptr);
  p.split_include = {prefix("192.0.2.0/24")};
  RouteInput in = input();
  in.server = *IpAddress::parse("192.0.2.1");
  EXPECT_EQ(rules_of(plan_routes(p, in)).size(), 3u);
  in.server = *IpAddress::parse("198.51.100.1");
  EXPECT_EQ(rules_of(plan_routes(p, in)).size(), 2u);
}

TEST(Routes, StrictDevicesAreLoosenedOnlyWhereTheTunnelCoversAnIpv4Server) {
  const auto loosened = [](const char* server, RouteMode mode) {
    auto p = params("10.99.0.2/24", nullptr);
    p.split_include = {prefix("10.20.0.0/16")};
    RouteInput in = input(mode);
    in.server = *IpAddress::parse(server);
    in.strict_devices = {"eth0"};
    size_t count = 0;
    for (const auto& request : plan_routes(p, in).requests) {
      const auto* set = std::get_if<net::SetSysctl>(&request);
      if (set == nullptr) continue;
      ++count;
      EXPECT_EQ(*set, (net::SetSysctl{"net/ipv4/conf/eth0/rp_filter", "2"}));
      EXPECT_TRUE(net::validate(request));
    }
    return count;
  };
  EXPECT_EQ(loosened("192.0.2.1", RouteMode::kFull), 1u);
  EXPECT_EQ(loosened("192.0.2.1", RouteMode::kServer), 0u);
  EXPECT_EQ(loosened("2001:db8::1", RouteMode::kFull), 0u);
}

TEST(Routes, ADefaultRouteAmongTheServersNetworksMeansEverything) {
  auto p = params("10.99.0.2/24", nullptr);
  p.split_include = {prefix("10.20.0.0/16"), prefix("0.0.0.0/0")};
  const RoutePlan plan = plan_routes(p, input());
  EXPECT_TRUE(plan.full);
  EXPECT_EQ(find(routes_of(plan), "::/0")->type, net::Route::Type::kUnreachable);
}

TEST(Routes, ExcludedNetworksAreThrownBackToMain) {
  auto p = params("10.99.0.2/24", nullptr);
  p.split_exclude = {prefix("192.0.2.0/24"), prefix("0.0.0.0/0")};
  const RoutePlan plan = plan_routes(p, input());
  EXPECT_EQ(find(routes_of(plan), "192.0.2.0/24")->type, net::Route::Type::kThrow);
  EXPECT_EQ(find(routes_of(plan), "0.0.0.0/0")->type, net::Route::Type::kUnicast);
  EXPECT_EQ(plan.notes.size(), 1u) << "an exclusion of everything would undo the tunnel";
}

TEST(Routes, FullOnRequestIgnoresTheServersNetworks) {
  auto p = params("10.99.0.2/24", nullptr);
  p.split_include = {prefix("10.20.0.0/16")};
  const RoutePlan plan = plan_routes(p, input(RouteMode::kFull));
  EXPECT_TRUE(plan.full);
  EXPECT_EQ(find(routes_of(plan), "10.20.0.0/16"), nullptr);
}

TEST(Routes, NoneAddressesTheDeviceAndNothingElse) {
  auto p = params("10.99.0.2/24", nullptr);
  p.split_include = {prefix("10.20.0.0/16")};
  const RoutePlan plan = plan_routes(p, input(RouteMode::kNone));
  EXPECT_TRUE(routes_of(plan).empty());
  EXPECT_TRUE(rules_of(plan).empty());
  ASSERT_EQ(plan.requests.size(), 2u);
  EXPECT_EQ(std::get<net::AddAddress>(plan.requests[1]).address, prefix("10.99.0.2/24"));
}

TEST(Routes, ADestinationIsRoutedOnce) {
  auto p = params("10.99.0.2/24", nullptr);
  p.split_include = {prefix("10.20.0.0/16"), prefix("10.20.0.0/16"), prefix("10.99.0.0/24")};
  p.split_exclude = {prefix("10.20.0.0/16")};
  EXPECT_EQ(routes_of(plan_routes(p, input())).size(), 2u);
}

TEST(Routes, ASmallMtuLeavesIpv6OutAndSaysSo) {
  const RoutePlan plan = plan_routes(params("10.99.0.2/24", "fd99::2/64"),
                                     input(RouteMode::kServer, "culvert0", 1200));
  for (const auto& request : plan.requests)
    if (const auto* add = std::get_if<net::AddAddress>(&request)) {
      EXPECT_TRUE(add->address.address.is_v4());
    }
  EXPECT_EQ(find(routes_of(plan), "::/0")->type, net::Route::Type::kUnreachable);
  EXPECT_EQ(plan.notes.size(), 1u);
}

TEST(Routes, AMachineWithoutIpv6IsAskedForNoneOfIt) {
  RouteInput in = input();
  in.host_ipv6 = HostIpv6::kAbsent;
  const RoutePlan plan = plan_routes(params("10.99.0.2/24", "fd99::2/64"), in);
  for (const net::Route& route : routes_of(plan))
    EXPECT_TRUE(route.destination.address.is_v4());
  for (const net::Rule& rule : rules_of(plan))
    EXPECT_EQ(rule.family, Family::kV4);
}

TEST(Routes, TunnelsOnOneMachineUseDifferentTablesAndPriorities) {
  const auto p = params("10.99.0.2/24", nullptr);
  const auto first = rules_of(plan_routes(p, input(RouteMode::kServer, "culvert0")));
  const auto second = rules_of(plan_routes(p, input(RouteMode::kServer, "culvert1")));
  for (const net::Rule& a : first)
    for (const net::Rule& b : second)
      EXPECT_NE(a.priority, b.priority);
  EXPECT_NE(first.back().table, second.back().table);
}

TEST(Routes, AReconnectTouchesOnlyWhatIsDifferent) {
  const auto p = params("10.99.0.2/24", nullptr);
  const RoutePlan before = plan_routes(p, input());
  EXPECT_EQ(route_changes({}, before), before.requests);
  EXPECT_TRUE(route_changes(before, before).empty());

  const auto smaller =
      route_changes(before, plan_routes(p, input(RouteMode::kServer, "culvert0", 1350)));
  ASSERT_EQ(smaller.size(), 1u);
  EXPECT_EQ(std::get<net::SetLink>(smaller[0]).change.mtu, 1350u);

  auto with_exclusion = p;
  with_exclusion.split_exclude = {prefix("192.0.2.0/24")};
  const RoutePlan after = plan_routes(with_exclusion, input());
  const auto forth = route_changes(before, after);
  ASSERT_EQ(forth.size(), 1u);
  EXPECT_EQ(std::get<net::AddRoute>(forth[0]).route.destination, prefix("192.0.2.0/24"));
  const auto back = route_changes(after, before);
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(std::get<net::DelRoute>(back[0]).route.destination, prefix("192.0.2.0/24"));
}

TEST(Routes, AnotherAddressMakesEverythingAnew) {
  const RoutePlan before = plan_routes(params("10.99.0.2/24", nullptr), input());
  const RoutePlan after = plan_routes(params("10.99.0.3/24", nullptr), input());
  const auto changes = route_changes(before, after);
  EXPECT_EQ(std::count_if(changes.begin(), changes.end(),
                          [](const auto& c) { return std::holds_alternative<net::AddRoute>(c); }),
            static_cast<ptrdiff_t>(routes_of(after).size()));
  EXPECT_GT(changes.size(), after.requests.size());
}

TEST(Routes, NetworksOfAFamilyWithoutAddressAreLeftOut) {
  auto p = params("10.99.0.2/24", nullptr);
  p.split_include = {prefix("fd20::/32")};
  const RoutePlan plan = plan_routes(p, input());
  EXPECT_EQ(find(routes_of(plan), "fd20::/32"), nullptr);
  EXPECT_EQ(plan.notes.size(), 1u);
}

}  // namespace
}  // namespace culvert::client
