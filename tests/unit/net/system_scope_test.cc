#include "common/net/system_scope.h"

#include <gtest/gtest.h>

namespace culvert::net {
namespace {

const SystemScope kServer{SystemScope::Role::kServer, "tun9", 0, 0};
const SystemScope kClient{SystemScope::Role::kClient, "tun9", 700, 799};

Route route(const char* device, uint32_t table = kMainTable,
            Route::Type type = Route::Type::kUnicast) {
  Route made;
  made.destination = *Prefix::parse("10.0.0.0/8");
  made.device = device;
  made.table = table;
  made.type = type;
  return made;
}

Route with_gateway(Route made) {
  made.gateway = *IpAddress::parse("10.0.0.1");
  return made;
}

Rule rule(uint32_t table, std::optional<uint32_t> mark = {}) {
  return {.family = Family::kV4, .priority = 1, .fwmark = mark, .table = table};
}

TEST(SystemScope, ServersAndClientsDoWhatIsTheirs) {
  const Prefix address = *Prefix::parse("10.0.0.1/32");
  const auto unreachable = Route::Type::kUnreachable;
  struct {
    SystemRequest request;
    bool server, client;
  } const cases[] = {
      {SetLink{{.device = "tun9"}}, true, true},
      {SetLink{{.device = "eth0"}}, false, false},
      {AddAddress{"tun9", address}, true, true},
      {AddAddress{"eth0", address}, false, false},
      {DelAddress{"eth0", address}, false, false},
      {AddRoute{route("tun9")}, true, true},
      {AddRoute{route("eth0")}, false, false},
      {DelRoute{route("eth0")}, false, false},
      {AddRoute{with_gateway(route("tun9"))}, false, false},
      {AddRoute{route("tun9", 750)}, false, true},
      {AddRoute{route("tun9", 800)}, false, false},
      {AddRoute{route("tun9", 699)}, false, false},
      {AddRoute{route("", kMainTable, unreachable)}, true, false},
      {AddRoute{route("", kMainTable, Route::Type::kBlackhole)}, false, false},
      {AddRoute{route("", 701, unreachable)}, false, true},
      {DelRoute{route("", 701, Route::Type::kThrow)}, false, true},
      {AddRule{rule(700)}, false, true},
      {AddRule{rule(kMainTable, 7)}, false, true},
      {AddRule{rule(kMainTable)}, false, false},
      {DelRule{rule(255)}, false, false},
      {SetSysctl{"net/ipv4/conf/tun9/forwarding", "1"}, true, true},
      {SetSysctl{"net/ipv6/conf/all/forwarding", "1"}, true, false},
      {SetSysctl{"net/ipv4/conf/eth0/rp_filter", "2"}, false, true},
      {SetSysctl{"net/ipv4/conf/eth0/rp_filter", "0"}, false, false},
      {SetSysctl{"net/ipv4/conf/eth0/accept_redirects", "2"}, false, false},
      {SetSysctl{"net/ipv6/conf/eth0/rp_filter", "2"}, false, false},
      {RunNft{"{}"}, false, false},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(permits(kServer, c.request).has_value(), c.server) << describe(c.request);
    EXPECT_EQ(permits(kClient, c.request).has_value(), c.client) << describe(c.request);
  }
}

}  // namespace
}  // namespace culvert::net
