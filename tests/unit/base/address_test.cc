#include "common/base/address.h"

#include <gtest/gtest.h>

#include <string>
#include <unordered_set>

namespace culvert {
namespace {

using namespace std::string_literals;

IpAddress ip(std::string_view text) {
  return IpAddress::parse(text).value();
}
Prefix net(std::string_view text) {
  return Prefix::parse(text).value();
}

TEST(IpAddress, PrintsWhatItParsed) {
  for (const char* text : {"0.0.0.0", "192.0.2.1", "255.255.255.255", "::", "::1", "2001:db8::1",
                           "fe80::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"})
    EXPECT_EQ(ip(text).to_string(), text);
  EXPECT_EQ(ip("2001:DB8:0:0::1").to_string(), "2001:db8::1");
}

TEST(IpAddress, RefusesWhatIsNone) {
  for (const char* text :
       {"", "1", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4 ", " 1.2.3.4", "01.2.3.4", "0x1.2.3.4",
        "1.2.3.4/24", ":", ":::", "1::2::3", "[::1]", "fe80::1%eth0", "::1/128", "localhost"}) {
    const auto address = IpAddress::parse(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().code, ErrorCode::kUsage);
  }
  EXPECT_FALSE(IpAddress::parse("1.2.3.4\0"s)) << "a byte that C would not see";
}

TEST(IpAddress, QuotesBadInputEscaped) {
  const auto address = IpAddress::parse("\x1b[2J\n");
  ASSERT_FALSE(address);
  EXPECT_EQ(address.error().message().find('\x1b'), std::string::npos);
  EXPECT_EQ(address.error().message().find('\n'), std::string::npos);
}

TEST(IpAddress, KnowsItsKind) {
  const struct {
    const char* text;
    bool unspecified, multicast, link_local, loopback;
  } cases[] = {
      {"0.0.0.0", true, false, false, false},      {"0.0.0.1", false, false, false, false},
      {"127.0.0.1", false, false, false, true},    {"127.255.255.255", false, false, false, true},
      {"128.0.0.1", false, false, false, false},   {"169.254.0.1", false, false, true, false},
      {"169.253.0.1", false, false, false, false}, {"223.255.255.255", false, false, false, false},
      {"224.0.0.1", false, true, false, false},    {"239.255.255.255", false, true, false, false},
      {"240.0.0.1", false, false, false, false},   {"10.0.0.1", false, false, false, false},
      {"::", true, false, false, false},           {"::1", false, false, false, true},
      {"::2", false, false, false, false},         {"fe80::1", false, false, true, false},
      {"febf::1", false, false, true, false},      {"fec0::1", false, false, false, false},
      {"ff02::1", false, true, false, false},      {"fd00::1", false, false, false, false},
  };
  for (const auto& test : cases) {
    const IpAddress address = ip(test.text);
    EXPECT_EQ(address.is_unspecified(), test.unspecified) << test.text;
    EXPECT_EQ(address.is_multicast(), test.multicast) << test.text;
    EXPECT_EQ(address.is_link_local(), test.link_local) << test.text;
    EXPECT_EQ(address.is_loopback(), test.loopback) << test.text;
  }
}

TEST(IpAddress, CountsOnWithCarryAndWrapsWithinItsFamily) {
  EXPECT_EQ(ip("10.0.0.1").plus(0), ip("10.0.0.1"));
  EXPECT_EQ(ip("10.0.0.255").plus(1), ip("10.0.1.0"));
  EXPECT_EQ(ip("10.0.0.0").plus(0x01020304), ip("11.2.3.4"));
  EXPECT_EQ(ip("255.255.255.255").plus(1), ip("0.0.0.0"));
  EXPECT_EQ(ip("fd99::ffff").plus(1), ip("fd99::1:0"));
  EXPECT_EQ(ip("::ffff:ffff:ffff:ffff").plus(1), ip("::1:0:0:0:0"));
  EXPECT_EQ(ip("::1").plus(UINT64_MAX), ip("::1:0:0:0:0"));
  EXPECT_EQ(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").plus(1), ip("::"));
}

TEST(IpAddress, FamiliesNeverCompareEqual) {
  EXPECT_NE(ip("0.0.0.0"), ip("::"));
  EXPECT_NE(ip("1.2.3.4"), ip("102:304::"));
  EXPECT_LT(ip("255.255.255.255"), ip("::"));
  const std::unordered_set<IpAddress> set{ip("10.0.0.1"), ip("::1"), ip("10.0.0.1")};
  EXPECT_EQ(set.size(), 2U);
}

TEST(Prefix, ParsesAndPrints) {
  EXPECT_EQ(net("10.1.2.3/8").to_string(), "10.1.2.3/8");
  EXPECT_EQ(net("10.1.2.3/8").network().to_string(), "10.0.0.0/8");
  EXPECT_EQ(net("192.0.2.1").to_string(), "192.0.2.1/32");
  EXPECT_EQ(net("2001:db8::1").to_string(), "2001:db8::1/128");
  EXPECT_EQ(net("2001:db8:ffff::/33").network().to_string(), "2001:db8:8000::/33");
  EXPECT_EQ(net("255.255.255.255/0").network().to_string(), "0.0.0.0/0");
  for (const char* text : {"10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8 ",
                           "10.0.0.0/8/8", "/8", "10.0.0/8", "10.0.0.0/255.0.0.0"})
    EXPECT_FALSE(Prefix::parse(text)) << text;
}

TEST(Prefix, ContainsAndOverlaps) {
  EXPECT_TRUE(net("10.0.0.0/8").contains(ip("10.255.255.255")));
  EXPECT_FALSE(net("10.0.0.0/8").contains(ip("11.0.0.0")));
  EXPECT_TRUE(net("10.0.0.77/31").contains(ip("10.0.0.76")));
  EXPECT_FALSE(net("10.0.0.77/31").contains(ip("10.0.0.78")));
  EXPECT_TRUE(net("0.0.0.0/0").contains(ip("255.1.2.3")));
  EXPECT_FALSE(net("0.0.0.0/0").contains(ip("::1")));
  EXPECT_FALSE(net("::/0").contains(ip("1.2.3.4")));
  EXPECT_TRUE(net("fd00::/121").contains(ip("fd00::7f")));
  EXPECT_FALSE(net("fd00::/121").contains(ip("fd00::80")));

  EXPECT_TRUE(net("10.0.0.0/8").overlaps(net("10.1.0.0/16")));
  EXPECT_TRUE(net("10.1.0.0/16").overlaps(net("10.0.0.0/8")));
  EXPECT_FALSE(net("10.0.0.0/9").overlaps(net("10.128.0.0/9")));
  EXPECT_FALSE(net("0.0.0.0/0").overlaps(net("::/0")));
}

TEST(Netmask, GoesThereAndBackForEveryLength) {
  for (unsigned length = 0; length <= 32; ++length) {
    const Prefix prefix{ip("10.0.0.1"), static_cast<uint8_t>(length)};
    const auto back = length_of_netmask(prefix.netmask());
    ASSERT_TRUE(back) << prefix.netmask();
    EXPECT_EQ(*back, length);
  }
  EXPECT_EQ(net("10.0.0.1/20").netmask(), "255.255.240.0");
  for (const char* mask : {"255.0.255.0", "0.0.0.255", "128.0.0.1", "", "24", "ffff::", "::"})
    EXPECT_FALSE(length_of_netmask(mask)) << mask;
}

TEST(Endpoint, ParsesAndPrints) {
  for (const char* text : {"192.0.2.1:443", "0.0.0.0:1", "[::]:443", "[2001:db8::1]:65535"})
    EXPECT_EQ(Endpoint::parse(text).value().to_string(), text);
  for (const char* text :
       {"", "192.0.2.1", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", ":443", "::1:443",
        "2001:db8::1", "[::1]", "[::1]:", "[192.0.2.1]:443", "[::1:443", "::1]:443", "[]:443",
        "host:443", "192.0.2.1:443 ", "192.0.2.1:+443"})
    EXPECT_FALSE(Endpoint::parse(text)) << text;
}

TEST(Endpoint, GoesThroughSockaddr) {
  for (const char* text : {"192.0.2.1:443", "[2001:db8::1]:8443"}) {
    const Endpoint endpoint = Endpoint::parse(text).value();
    sockaddr_storage storage;
    const socklen_t size = endpoint.to_sockaddr(storage);
    EXPECT_EQ(size, endpoint.address.is_v4() ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    EXPECT_EQ(Endpoint::from_sockaddr(storage), endpoint);
  }
}

TEST(Endpoint, SeesTheIpv4AddressInAMappedOne) {
  sockaddr_storage storage;
  Endpoint{ip("::ffff:192.0.2.1"), 443}.to_sockaddr(storage);
  EXPECT_EQ(Endpoint::from_sockaddr(storage), (Endpoint{ip("192.0.2.1"), 443}));
}

}  // namespace
}  // namespace culvert
