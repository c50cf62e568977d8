#include "common/net/system_request.h"

#include <gtest/gtest.h>

#include "tests/unit/net/packets.h"

namespace culvert::net {
namespace {

using testing::address;
using testing::prefix;

const std::vector<SystemRequest>& examples() {
  static const std::vector<SystemRequest> kExamples = {
      SetLink{{.device = "culvert0"}},
      SetLink{{.device = "culvert0",
               .up = false,
               .mtu = 1390,
               .tx_queue_len = 4096,
               .addr_gen_mode_none = true,
               .gso_max_size = 65000}},
      AddAddress{"culvert0", prefix("10.99.0.5/32")},
      DelAddress{"culvert0", prefix("fd99::5/128")},
      AddRoute{{.destination = prefix("10.0.0.0/8"), .device = "culvert0", .table = 51820}},
      DelRoute{{.destination = prefix("2001:db8::/32"),
                .device = "eth0.100",
                .gateway = address("fe80::1"),
                .table = 4294967295,
                .mtu = 1400,
                .metric = 0,
                .preferred_source = address("fd99::5"),
                .onlink = true}},
      AddRoute{{.destination = prefix("0.0.0.0/0"), .type = Route::Type::kUnreachable}},
      AddRoute{{.destination = prefix("192.168.0.0/16"), .type = Route::Type::kThrow}},
      DelRoute{{.destination = prefix("::/0"), .type = Route::Type::kBlackhole}},
      AddRule{{.family = Family::kV6, .priority = 700, .fwmark = 0xca11, .table = 254}},
      DelRule{{.family = Family::kV4, .priority = 701, .table = 51820}},
      SetSysctl{"net/ipv4/conf/culvert0/forwarding", "1"},
      SetSysctl{"net/ipv6/conf/all/forwarding", "a b%c=d\xc3\xa9"},
      RunNft{"{\"nftables\": [\n{}]}"},
      RunNft{"{}", "{\"undo\": 1}"},
  };
  return kExamples;
}

TEST(SystemRequest, ComesBackFromItsText) {
  for (const SystemRequest& request : examples()) {
    const std::string text = to_text(request);
    EXPECT_EQ(text.find('\n'), std::string::npos);
    const auto back = parse_request(text);
    ASSERT_TRUE(back) << text << ": " << back.error().message();
    EXPECT_EQ(*back, request) << text;
    EXPECT_FALSE(describe(request).empty());
  }
}

TEST(SystemRequest, HasTheTextOfItsDocumentation) {
  EXPECT_EQ(to_text(examples()[4]),
            "add_route destination=10.0.0.0/8 type=unicast table=51820 device=culvert0");
  EXPECT_EQ(to_text(RunNft{"{\n}"}), "run_nft json=%7B%0A%7D");
}

TEST(SystemRequest, CutAnywhereIsAnErrorOrAnotherRequest) {
  for (const SystemRequest& request : examples()) {
    const std::string text = to_text(request);
    for (size_t length = 0; length < text.size(); ++length) {
      const auto parsed = parse_request(std::string_view(text).substr(0, length));
      if (parsed) {
        EXPECT_FALSE(*parsed == request) << text << " cut at " << length;
      }
    }
  }
}

TEST(SystemRequest, RefusesLinesThatAreNotItsOwn) {
  const char* const rows[] = {
      "",
      " ",
      "add_route",
      "shutdown now=1",
      "set_link",
      "set_link device",
      "set_link device=culvert0 ",
      "set_link  device=culvert0",
      "set_link device=culvert0 device=culvert1",
      "set_link device=culvert0 color=red",
      "set_link device=culvert0 up=2",
      "set_link device=culvert0 mtu=",
      "set_link device=culvert0 mtu=-1",
      "set_link device=culvert0 mtu=67",
      "set_link device=culvert0 mtu=65536",
      "set_link device=culvert0 mtu=4294967297",
      "set_link device=culvert0 addr_gen_mode_none=0",
      "set_link device=../x",
      "set_link device=%41",
      "set_link device=a%2fb",
      "set_link device=a%2",
      "set_link device=a%",
      "set_link device=a\nb",
      "add_address device=t0 address=10.0.0.1/33",
      "add_address device=t0 address=",
      "add_address device=t0",
      "add_route destination=10.0.0.0/8 table=1 device=t0",
      "add_route destination=10.0.0.0/8 type=anycast table=1 device=t0",
      "add_route destination=10.0.0.0/8 type=unicast device=t0",
      "add_route destination=10.0.0.0/8 type=unicast table=0 device=t0",
      "add_route destination=10.0.0.0/8 type=unicast table=1",
      "add_route destination=10.0.0.0/8 type=throw table=1 device=t0",
      "add_route destination=10.0.0.0/8 type=unicast table=1 device=t0 gateway=fe80::1",
      "add_route destination=10.0.0.0/8 type=unicast table=1 device=t0 gateway=gw",
      "add_rule family=ipx priority=1 table=1",
      "add_rule family=ipv4 table=1",
      "add_rule family=ipv4 priority=1 table=0",
      "set_sysctl path=net/ipv6/conf/all/forwarding",
      "set_sysctl path=net/ipv6/conf/all/forwarding value=",
      "run_nft json=",
  };
  for (const char* row : rows) {
    const auto parsed = parse_request(row);
    EXPECT_FALSE(parsed) << row;
    if (!parsed) {
      EXPECT_EQ(parsed.error().code, ErrorCode::kUsage) << row;
    }
  }
}

TEST(SystemRequest, ChangesOnlySysctlsOfItsShapes) {
  for (const char* path : {"net/ipv4/conf/culvert0/forwarding", "net/ipv4/conf/eth0.100/rp_filter",
                           "net/ipv6/conf/culvert0/disable_ipv6", "net/ipv6/conf/all/forwarding"}) {
    EXPECT_TRUE(validate(SetSysctl{path, "1"})) << path;
  }
  for (const char* path :
       {"", "kernel/core_pattern", "/net/ipv6/conf/all/forwarding", "net/ipv4/ip_forward",
        "net/ipv4/conf/all/forwarding", "net/ipv4/conf/default/forwarding",
        "net/ipv6/conf/all/accept_ra", "net/ipv6/conf/default/forwarding",
        "net/ipv4/conf/../conf/forwarding", "net/ipv4/conf/./forwarding",
        "net/ipv4/conf/culvert0/../../../../kernel/core_pattern", "net/ipv4/conf/culvert0/",
        "net/ipv4/conf//forwarding", "net/ipv4/conf/culvert0", "net/ipv4/neigh/culvert0/delay",
        "net/ipv4/conf/culvert0/Forwarding", "net/ipv4/conf/culvert0/.."}) {
    EXPECT_FALSE(validate(SetSysctl{path, "1"})) << path;
  }
  for (const std::string& value : {std::string(), std::string("1\n"), std::string(65, '1')}) {
    EXPECT_FALSE(validate(SetSysctl{"net/ipv6/conf/all/forwarding", value})) << value;
  }
}

TEST(SystemRequest, LargestNftTransactionFitsIntoALine) {
  const RunNft largest{std::string(kMaxRequestText / 4, '{')};
  ASSERT_TRUE(validate(largest));
  EXPECT_LE(to_text(largest).size(), kMaxRequestText);
  EXPECT_FALSE(validate(RunNft{std::string(kMaxRequestText / 4, '{'), "{"}));
}

}  // namespace
}  // namespace culvert::net
