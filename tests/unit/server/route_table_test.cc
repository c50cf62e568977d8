#include "server/route_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace culvert::server {
namespace {

Prefix prefix(const char* text) {
  return Prefix::parse(text).value();
}
IpAddress address(const char* text) {
  return IpAddress::parse(text).value();
}

TEST(RouteTable, LongestPrefixWins) {
  RouteTable<int> table;
  ASSERT_TRUE(table.insert(prefix("10.0.0.0/8"), 1));
  ASSERT_TRUE(table.insert(prefix("10.1.0.0/16"), 2));
  ASSERT_TRUE(table.insert(prefix("10.1.2.3/32"), 3));
  ASSERT_TRUE(table.insert(prefix("fd00::/8"), 4));
  ASSERT_TRUE(table.insert(prefix("fd00::1:0:0:0/80"), 5));
  ASSERT_TRUE(table.insert(prefix("::/0"), 6));
  const struct {
    const char* destination;
    int owner;
  } cases[] = {{"10.2.3.4", 1}, {"10.1.9.9", 2}, {"10.1.2.3", 3},       {"11.0.0.1", 0},
               {"fd12::1", 4},  {"2001::1", 6},  {"fd00::1:0:0:99", 5}, {"10.1.2.3", 3}};
  for (const auto& c : cases)
    EXPECT_EQ(table.find(address(c.destination)), c.owner) << c.destination;
}

TEST(RouteTable, V4AddressIsNotItsNumberInV6) {
  RouteTable<int> table;
  ASSERT_TRUE(table.insert(prefix("0.0.0.1/32"), 1));
  EXPECT_EQ(table.find(address("0.0.0.1")), 1);
  EXPECT_EQ(table.find(address("::1")), 0);
  EXPECT_EQ(table.find(address("0.0.0.1")), 1);
}

TEST(RouteTable, ChangesAreSeenAtOnceByARememberedDestination) {
  RouteTable<int> table;
  ASSERT_TRUE(table.insert(prefix("10.0.0.2/32"), 1));
  EXPECT_EQ(table.find(address("10.0.0.2")), 1);
  EXPECT_TRUE(table.erase(prefix("10.0.0.2/32")));
  EXPECT_EQ(table.find(address("10.0.0.2")), 0);
  ASSERT_TRUE(table.insert(prefix("10.0.0.2/32"), 2));
  EXPECT_EQ(table.find(address("10.0.0.2")), 2);
}

TEST(RouteTable, NetworkOfAnotherOwnerIsNotTakenOver) {
  RouteTable<int> table;
  EXPECT_TRUE(table.insert(prefix("10.0.0.0/24"), 1));
  EXPECT_TRUE(table.insert(prefix("10.0.0.77/24"), 1));
  EXPECT_FALSE(table.insert(prefix("10.0.0.0/24"), 2));
  EXPECT_EQ(table.find(address("10.0.0.1")), 1);
  EXPECT_EQ(table.size(), 1U);
}

TEST(RouteTable, ErasingWhatIsAbsentSaysSo) {
  RouteTable<int> table;
  EXPECT_FALSE(table.erase(prefix("10.0.0.0/24")));
  ASSERT_TRUE(table.insert(prefix("10.0.0.0/24"), 1));
  EXPECT_FALSE(table.erase(prefix("10.0.1.0/24")));
  EXPECT_FALSE(table.erase(prefix("10.0.0.0/25")));
  EXPECT_TRUE(table.erase(prefix("10.0.0.0/24")));
  EXPECT_EQ(table.size(), 0U);
}

// The oracle tries every route.
TEST(RouteTable, AgreesWithTryingEveryRoute) {
  std::mt19937 random(7);
  RouteTable<int> table;
  std::map<Prefix, int> oracle;
  const auto expected = [&](const IpAddress& destination) {
    int owner = 0;
    int longest = -1;
    for (const auto& [route, number] : oracle) {
      if (!route.contains(destination) || route.length <= longest) continue;
      owner = number;
      longest = route.length;
    }
    return owner;
  };
  const auto draw_address = [&] {
    // Few bits vary, so that routes overlap.
    return random() % 2 == 0 ? IpAddress::v4(0x0a000000U | (random() & 0x3ffU))
                             : IpAddress::parse("fd00::" + std::to_string(random() % 512)).value();
  };
  for (int step = 1; step <= 2000; ++step) {
    const IpAddress drawn = draw_address();
    const auto shortest = static_cast<uint8_t>(drawn.bits() - 10);
    const Prefix route = Prefix{drawn, static_cast<uint8_t>(shortest + random() % 11)}.network();
    if (random() % 3 != 0) {
      ASSERT_EQ(table.insert(route, step), !oracle.contains(route));
      oracle.emplace(route, step);
    } else {
      ASSERT_EQ(table.erase(route), oracle.erase(route) == 1);
    }
    const IpAddress destination = draw_address();
    ASSERT_EQ(table.find(destination), expected(destination)) << destination.to_string();
  }
  EXPECT_EQ(table.size(), oracle.size());
}

}  // namespace
}  // namespace culvert::server
