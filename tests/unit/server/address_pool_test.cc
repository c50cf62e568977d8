#include "server/address_pool.h"

#include <gtest/gtest.h>

namespace culvert::server {
namespace {

AddressPool pool(const char* network) {
  return AddressPool::create(Prefix::parse(network).value()).value();
}
IpAddress address(const char* text) {
  return IpAddress::parse(text).value();
}

TEST(AddressPool, ServerHasTheFirstAddressAndClientsTheRest) {
  AddressPool v4 = pool("10.99.0.0/24");
  EXPECT_EQ(v4.server_address(), address("10.99.0.1"));
  EXPECT_EQ(v4.take("alice"), address("10.99.0.2"));
  EXPECT_EQ(v4.capacity(), 253U);
  AddressPool v6 = pool("fd99::/64");
  EXPECT_EQ(v6.server_address(), address("fd99::1"));
  EXPECT_EQ(v6.take("alice"), address("fd99::2"));
}

TEST(AddressPool, SmallestNetworksHoldWhatTheyCan) {
  const struct {
    const char* network;
    uint64_t clients;  // 0: refused
  } cases[] = {{"10.0.0.0/30", 1}, {"10.0.0.0/31", 0}, {"10.0.0.0/32", 0},
               {"fd00::/126", 2},  {"fd00::/127", 0},  {"fd00::/128", 0}};
  for (const auto& c : cases) {
    auto made = AddressPool::create(Prefix::parse(c.network).value());
    ASSERT_EQ(made.has_value(), c.clients != 0) << c.network;
    if (!made) continue;
    EXPECT_EQ(made->capacity(), c.clients) << c.network;
    for (uint64_t i = 0; i < c.clients; ++i)
      EXPECT_TRUE(made->take("u")) << c.network;
    EXPECT_FALSE(made->take("u")) << c.network;
  }
}

TEST(AddressPool, NeverGivesOutNetworkBroadcastOrServerAddress) {
  AddressPool small = pool("10.0.0.0/29");
  for (int i = 2; i <= 6; ++i) {
    EXPECT_EQ(small.take("u"), address(("10.0.0." + std::to_string(i)).c_str()));
  }
  EXPECT_FALSE(small.take("u"));
  EXPECT_FALSE(small.take_fixed(address("10.0.0.1")));
}

TEST(AddressPool, UserGetsHisLastAddressBack) {
  AddressPool p = pool("10.99.0.0/24");
  const IpAddress a = *p.take("alice");
  const IpAddress b = *p.take("bob");
  p.release(a, "alice");
  p.release(b, "bob");
  EXPECT_NE(*p.take("carol"), a);
  EXPECT_EQ(*p.take("bob"), b);
  EXPECT_EQ(*p.take("alice"), a);
}

TEST(AddressPool, LongestFreeAddressGoesFirstWhenNothingFreshIsLeft) {
  AddressPool p = pool("10.0.0.0/29");
  std::vector<IpAddress> taken;
  for (int i = 0; i < 5; ++i)
    taken.push_back(*p.take("u" + std::to_string(i)));
  p.release(taken[3], "u3");
  p.release(taken[1], "u1");
  EXPECT_EQ(*p.take("new"), taken[3]);
  EXPECT_EQ(*p.take("newer"), taken[1]);
  EXPECT_EQ(p.used(), 5U);
}

TEST(AddressPool, ReservedAddressesAreOnlyForTheirOwner) {
  AddressPool p = pool("10.0.0.0/29");
  p.reserve({address("10.0.0.3")});
  EXPECT_EQ(*p.take("u"), address("10.0.0.2"));
  EXPECT_EQ(*p.take("u"), address("10.0.0.4"));
  EXPECT_TRUE(p.take_fixed(address("10.0.0.3")));
  EXPECT_FALSE(p.take_fixed(address("10.0.0.3")));
  p.release(address("10.0.0.3"), "owner");
  EXPECT_EQ(*p.take("u"), address("10.0.0.5"));
}

TEST(AddressPool, FormerlyReservedAddressesComeBackIntoUse) {
  AddressPool p = pool("10.0.0.0/30");
  p.reserve({address("10.0.0.2")});
  EXPECT_FALSE(p.take("u"));
  p.reserve({});
  EXPECT_EQ(p.take("u"), address("10.0.0.2"));
}

TEST(AddressPool, AddressReservedWhileInUseIsNotGivenToOthersLater) {
  AddressPool p = pool("10.0.0.0/29");
  const IpAddress a = *p.take("alice");
  p.reserve({a});
  p.release(a, "alice");
  for (int i = 0; i < 4; ++i)
    EXPECT_NE(*p.take("alice"), a);
  EXPECT_FALSE(p.take("alice"));
}

}  // namespace
}  // namespace culvert::server
