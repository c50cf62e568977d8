// The values of netlink.h to and from netlink messages. No sockets: the socket, the order of
// requests and the meaning of errors are netlink.cc's. Internal to this folder.
#pragma once

#include <optional>
#include <string>

#include "common/net/netlink.h"
#include "common/net/netlink_message.h"

namespace culvert::net {

// Types are RTM_NEW… or RTM_DEL…, flags NLM_F_CREATE and NLM_F_EXCL or none.

// One link, by index, or by name if the index is 0.
Message link_query(int index, const std::string& name);
Message link_request(int index, const LinkChange& change);
std::optional<LinkInfo> read_link(const nlmsghdr* message);

struct ReadAddress {
  int index = 0;
  Prefix address;
};
Message address_request(int type, int flags, int index, const Prefix& address);
Message addresses_dump(int index);
std::optional<ReadAddress> read_address(const nlmsghdr* message);

struct ReadRoute {
  Route route;    // without its device
  int index = 0;  // of the device; 0 for none
};
// `index` is that of route.device; 0 for none.
Message route_request(int type, int flags, const Route& route, int index);
Message routes_dump(uint32_t table, Family family);
// Nothing for what a Route cannot say.
std::optional<ReadRoute> read_route(const nlmsghdr* message);
// The metric as the kernel stores it.
uint32_t effective_metric(const Route& route);

Message rule_request(int type, int flags, const Rule& rule);
Message rules_dump(Family family);
std::optional<Rule> read_rule(const nlmsghdr* message, Family family);

}  // namespace culvert::net
