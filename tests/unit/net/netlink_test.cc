// Netlink on the real kernel, in a network namespace of its own with one TUN interface, "t0".
#include "common/net/netlink.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "common/net/tun_device.h"
#include "tests/unit/net/own_network.h"
#include "tests/unit/net/packets.h"

namespace culvert::net {
namespace {

using testing::address;
using testing::prefix;

std::string text_of(const Status& status) {
  return status ? "" : status.error().message();
}

class NetlinkOnKernel : public testing::OwnNetwork {
 protected:
  void SetUp() override {
    OwnNetwork::SetUp();
    if (IsSkipped()) return;
    auto opened = Netlink::open();
    ASSERT_TRUE(opened) << opened.error().message();
    netlink_ = std::make_unique<Netlink>(*std::move(opened));
    auto device = TunDevice::open(sys_, {.name = "t0"});
    ASSERT_TRUE(device) << device.error().message();
    device_ = std::make_unique<TunDevice>(*std::move(device));
    for (const char* name : {"lo", "t0"}) {
      const auto up = netlink_->set_link({.device = name, .up = true});
      ASSERT_TRUE(up) << text_of(up);
    }
  }

  // The only route in `table`.
  Route only_route(uint32_t table, Family family) {
    const auto routes = netlink_->routes(table, family);
    EXPECT_TRUE(routes);
    if (!routes || routes->size() != 1) {
      ADD_FAILURE() << "not one route in table " << table;
      return {};
    }
    return routes->front();
  }

  KernelSys sys_;
  std::unique_ptr<Netlink> netlink_;
  std::unique_ptr<TunDevice> device_;
};

TEST_F(NetlinkOnKernel, ChangesALink) {
  const auto changed = netlink_->set_link({.device = "t0",
                                           .mtu = 1390,
                                           .tx_queue_len = 4096,
                                           .addr_gen_mode_none = true,
                                           .gso_max_size = 65000});
  ASSERT_TRUE(changed) << text_of(changed);
  auto info = netlink_->link("t0");
  ASSERT_TRUE(info);
  EXPECT_EQ(info->name, "t0");
  EXPECT_EQ(info->mtu, 1390u);
  EXPECT_EQ(info->tx_queue_len, 4096u);
  EXPECT_TRUE(info->up);
  ASSERT_TRUE(netlink_->set_link({.device = "t0", .up = false}));
  info = netlink_->link("t0");
  ASSERT_TRUE(info);
  EXPECT_FALSE(info->up);
  EXPECT_EQ(info->mtu, 1390u);
}

// Below 1280 the kernel takes IPv6 from the link, and answers EAFNOSUPPORT to its settings.
TEST_F(NetlinkOnKernel, TakesAnMtuThatIsTooSmallForIpv6) {
  for (const uint32_t mtu : {576u, 576u, 1400u}) {
    const auto changed =
        netlink_->set_link({.device = "t0", .up = true, .mtu = mtu, .addr_gen_mode_none = true});
    ASSERT_TRUE(changed) << mtu << ": " << text_of(changed);
    const auto info = netlink_->link("t0");
    ASSERT_TRUE(info);
    EXPECT_EQ(info->mtu, mtu);
    EXPECT_TRUE(info->up);
  }
}

TEST_F(NetlinkOnKernel, SaysWhichLinkIsMissing) {
  const auto index = netlink_->link_index("nosuch0");
  ASSERT_FALSE(index);
  EXPECT_EQ(index.error().where, "nosuch0");
  EXPECT_EQ(netlink_->link_index("lo").value_or(0), 1);
}

TEST_F(NetlinkOnKernel, PassesOnTheKernelsOwnExplanation) {
  const auto changed = netlink_->set_link({.device = "t0", .mtu = 10});
  ASSERT_FALSE(changed);
  EXPECT_NE(changed.error().message().find("mtu less than device minimum"), std::string::npos)
      << text_of(changed);
}

TEST_F(NetlinkOnKernel, AddsAndDeletesAddresses) {
  const int index = netlink_->link_index("t0").value();
  ASSERT_TRUE(netlink_->set_link({.device = "t0", .addr_gen_mode_none = true}));
  for (const char* text : {"10.9.0.1/32", "fd99::1/128"}) {
    const auto added = netlink_->add_address(index, prefix(text));
    ASSERT_TRUE(added) << text_of(added);
    const auto addresses = netlink_->addresses(index);
    ASSERT_TRUE(addresses);
    EXPECT_EQ(std::count(addresses->begin(), addresses->end(), prefix(text)), 1);
    EXPECT_FALSE(netlink_->add_address(index, prefix(text))) << "twice";
    ASSERT_TRUE(netlink_->del_address("t0", prefix(text)));
    const auto again = netlink_->del_address("t0", prefix(text));
    EXPECT_TRUE(again) << text_of(again);
  }
  EXPECT_TRUE(netlink_->del_address("nosuch0", prefix("10.9.0.1/32")));
}

TEST_F(NetlinkOnKernel, AddsReadsAndDeletesRoutes) {
  ASSERT_TRUE(netlink_->add_address(netlink_->link_index("t0").value(), prefix("10.9.0.1/24")));
  const Route rows[] = {
      {.destination = prefix("10.20.0.0/16"), .device = "t0", .table = 51820, .mtu = 1390},
      {.destination = prefix("0.0.0.0/0"), .device = "t0", .table = 100},
      {.destination = prefix("10.21.0.0/16"),
       .device = "t0",
       .gateway = address("10.9.0.2"),
       .table = 101,
       .metric = 50,
       .preferred_source = address("10.9.0.1")},
      {.destination = prefix("10.22.0.0/16"),
       .device = "t0",
       .gateway = address("192.0.2.77"),
       .table = 102,
       .onlink = true},
      {.destination = prefix("10.99.0.0/24"), .table = 103, .type = Route::Type::kUnreachable},
      {.destination = prefix("192.168.0.0/16"), .table = 104, .type = Route::Type::kThrow},
      {.destination = prefix("192.168.0.0/16"), .table = 105, .type = Route::Type::kBlackhole},
      {.destination = prefix("2001:db8::/32"), .device = "t0", .table = 51821, .mtu = 1300},
      {.destination = prefix("::/0"), .device = "t0", .table = 106},
      {.destination = prefix("fd99::/64"), .table = 107, .type = Route::Type::kUnreachable},
      {.destination = prefix("fd98::/64"), .table = 108, .type = Route::Type::kThrow},
      {.destination = prefix("fd97::/64"), .table = 109, .type = Route::Type::kBlackhole},
  };
  for (const Route& route : rows) {
    const Family family = route.destination.address.family();
    const auto added = netlink_->add_route(route);
    ASSERT_TRUE(added) << text_of(added);
    Route found = only_route(route.table, family);
    // IPv6 always has a metric.
    if (!route.metric && family == Family::kV6) found.metric.reset();
    EXPECT_EQ(found, route) << found.to_string() << " instead of " << route.to_string();
    const auto deleted = netlink_->del_route(route);
    ASSERT_TRUE(deleted) << text_of(deleted);
    const auto left = netlink_->routes(route.table, family);
    ASSERT_TRUE(left);
    EXPECT_TRUE(left->empty());
    const auto again = netlink_->del_route(route);
    EXPECT_TRUE(again) << text_of(again);
  }
}

TEST_F(NetlinkOnKernel, SaysWhichRouteIsInTheWay) {
  for (const char* text : {"10.20.0.0/16", "2001:db8::/32"}) {
    ASSERT_TRUE(netlink_->add_route({.destination = prefix(text), .device = "t0", .table = 77}));
    const auto refused = netlink_->add_route(
        {.destination = prefix(text), .table = 77, .type = Route::Type::kUnreachable});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kFailure);
    EXPECT_NE(refused.error().what.find(std::string(text) + " dev t0 table 77"), std::string::npos)
        << text_of(refused);
  }
}

TEST_F(NetlinkOnKernel, RoutesWithHostBitsBecomeTheirNetwork) {
  const Route route{.destination = prefix("10.20.3.4/16"), .device = "t0", .table = 77};
  ASSERT_TRUE(netlink_->add_route(route));
  EXPECT_EQ(only_route(77, Family::kV4).destination, prefix("10.20.0.0/16"));
  ASSERT_TRUE(netlink_->del_route(route));
}

TEST_F(NetlinkOnKernel, ADeviceThatIsGoneHasTakenItsRoutesAlong) {
  const Route route{.destination = prefix("10.20.0.0/16"), .device = "t0", .table = 77};
  ASSERT_TRUE(netlink_->add_route(route));
  device_.reset();
  EXPECT_TRUE(netlink_->del_route(route));
  EXPECT_FALSE(netlink_->add_route(route));
  EXPECT_TRUE(netlink_->routes(77, Family::kV4).value().empty());
}

TEST_F(NetlinkOnKernel, AddsReadsAndDeletesRules) {
  const Rule rows[] = {
      {.family = Family::kV4, .priority = 700, .fwmark = 0xca11, .table = kMainTable},
      {.family = Family::kV4, .priority = 701, .table = 51820},
      {.family = Family::kV6, .priority = 700, .fwmark = 0xca11, .table = kMainTable},
      {.family = Family::kV6, .priority = 701, .table = 51820},
  };
  for (const Rule& rule : rows) {
    const auto added = netlink_->add_rule(rule);
    ASSERT_TRUE(added) << text_of(added);
    const auto rules = netlink_->rules(rule.family);
    ASSERT_TRUE(rules);
    EXPECT_EQ(std::count(rules->begin(), rules->end(), rule), 1) << rule.to_string();
    EXPECT_FALSE(netlink_->add_rule(rule)) << "twice";
  }
  for (const Rule& rule : rows) {
    const auto deleted = netlink_->del_rule(rule);
    ASSERT_TRUE(deleted) << text_of(deleted);
    const auto rules = netlink_->rules(rule.family);
    ASSERT_TRUE(rules);
    EXPECT_EQ(std::count(rules->begin(), rules->end(), rule), 0);
    const auto again = netlink_->del_rule(rule);
    EXPECT_TRUE(again) << text_of(again);
  }
}

TEST_F(NetlinkOnKernel, ReadsTablesThatNeedManyMessages) {
  for (int i = 0; i < 1000; ++i) {
    const IpAddress host = address("10.20.0.0").plus(static_cast<uint64_t>(i));
    ASSERT_TRUE(netlink_->add_route(
        {.destination = Prefix::host(host), .device = "t0", .table = 77, .mtu = 1390}));
  }
  const auto routes = netlink_->routes(77, Family::kV4);
  ASSERT_TRUE(routes);
  EXPECT_EQ(routes->size(), 1000u);
  EXPECT_TRUE(netlink_->routes(78, Family::kV4).value().empty());
}

TEST_F(NetlinkOnKernel, WithoutPrivilegeSaysWhatIsMissing) {
  // CAP_NET_ADMIN over a namespace is lost with the effective user; the test process is forked, so
  // that its parent stays root.
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (setresuid(65534, 65534, 65534) != 0) _exit(1);
    const auto refused = netlink_->add_rule({.priority = 700, .table = 77});
    const bool right = !refused && refused.error().code == ErrorCode::kPermission &&
                       refused.error().hint.find("CAP_NET_ADMIN") != std::string::npos;
    _exit(right ? 0 : 2);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Route, ReadsLikeIpRoute) {
  EXPECT_EQ((Route{.destination = prefix("10.0.0.0/8"),
                   .device = "eth0",
                   .gateway = address("192.0.2.1"),
                   .table = 700,
                   .mtu = 1400,
                   .metric = 5})
                .to_string(),
            "10.0.0.0/8 via 192.0.2.1 dev eth0 table 700 metric 5 mtu 1400");
  EXPECT_EQ(
      (Route{.destination = prefix("fd99::/64"), .type = Route::Type::kUnreachable}).to_string(),
      "unreachable fd99::/64");
}

}  // namespace
}  // namespace culvert::net
