#include "common/tunnel/path_mtu.h"

#include <gtest/gtest.h>

namespace culvert::tunnel {
namespace {

struct Case {
  const char* what;
  MtuInput input;
  int base;
  int tunnel;
};

TEST(PathMtu, AgreesWithThePeersOfTheProtocol) {
  const Case cases[] = {
      {"ethernet, IPv4 outside, UDP", {1500, 1500, {}, Family::kV4, true, false}, 1500, 1434},
      {"ethernet, IPv6 outside, UDP", {1500, 1500, {}, Family::kV6, true, false}, 1500, 1414},
      {"1400, IPv4 outside, UDP", {1400, 1500, {}, Family::kV4, true, false}, 1400, 1334},
      {"ethernet, TLS only", {1500, 1500, {}, Family::kV4, false, true}, 1500, 1472},
      {"the peer's path is narrower", {1500, 1300, {}, Family::kV4, true, false}, 1300, 1234},
      {"no base MTU, wanted MTU", {1500, {}, 1300, Family::kV4, true, false}, 1366, 1300},
      {"neither", {1500, {}, {}, Family::kV4, true, false}, 1500, 1434},
      {"base wins over wanted", {1500, 1500, 600, Family::kV4, true, false}, 1500, 1434},
  };
  for (const Case& c : cases) {
    const MtuPlan plan = plan_mtu(c.input);
    EXPECT_EQ(plan.base_mtu, c.base) << c.what;
    EXPECT_EQ(plan.tunnel_mtu.value(), c.tunnel) << c.what;
  }
}

TEST(PathMtu, StaysUsableWhateverThePeerClaims) {
  for (const int value : {0, 1, 575, 576, 1279, 1280, 9000, 65535}) {
    const auto claimed = static_cast<uint16_t>(value);
    for (const bool ipv6 : {false, true}) {
      const MtuPlan from_base = plan_mtu({.link_mtu = 1500,
                                          .peer_base_mtu = claimed,
                                          .outer = Family::kV6,
                                          .dtls = true,
                                          .inner_ipv6 = ipv6});
      const MtuPlan from_mtu = plan_mtu({.link_mtu = 1500,
                                         .peer_mtu = claimed,
                                         .outer = Family::kV6,
                                         .dtls = true,
                                         .inner_ipv6 = ipv6});
      for (const MtuPlan& plan : {from_base, from_mtu}) {
        EXPECT_GE(plan.tunnel_mtu.value(), ipv6 ? kMinIpv6Mtu : kMinIpv4Mtu) << claimed;
        EXPECT_LE(plan.tunnel_mtu.value(), 1500) << claimed;
      }
    }
  }
}

}  // namespace
}  // namespace culvert::tunnel
