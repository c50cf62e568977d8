#include "common/net/netlink_codec.h"

#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <cstring>

namespace culvert::net {
namespace {

// Tables above 255 stand in an attribute alone.
uint8_t table_byte(uint32_t table) {
  return static_cast<uint8_t>(table < 256 ? table : uint32_t{RT_TABLE_UNSPEC});
}

uint8_t raw(Family family) {
  return family == Family::kV4 ? AF_INET : AF_INET6;
}

std::optional<IpAddress> address_in(Bytes bytes) {
  if (bytes.size() != 4 && bytes.size() != 16) return std::nullopt;
  return IpAddress::from_bytes(bytes);
}

struct RouteTypeName {
  Route::Type type;
  uint8_t raw;
  const char* name;
};
constexpr RouteTypeName kRouteTypes[] = {
    {Route::Type::kUnicast, RTN_UNICAST, ""},
    {Route::Type::kUnreachable, RTN_UNREACHABLE, "unreachable "},
    {Route::Type::kThrow, RTN_THROW, "throw "},
    {Route::Type::kBlackhole, RTN_BLACKHOLE, "blackhole "},
};

const RouteTypeName& type_of(Route::Type type) {
  return kRouteTypes[static_cast<size_t>(type)];
}

}  // namespace

std::string Route::to_string() const {
  std::string text = type_of(type).name + destination.to_string();
  if (gateway) text += " via " + gateway->to_string();
  if (!device.empty()) text += " dev " + device;
  if (table != kMainTable) text += " table " + std::to_string(table);
  if (metric) text += " metric " + std::to_string(*metric);
  if (mtu) text += " mtu " + std::to_string(*mtu);
  if (preferred_source) text += " src " + preferred_source->to_string();
  if (onlink) text += " onlink";
  return text;
}

std::string Rule::to_string() const {
  std::string text = family == Family::kV4 ? "IPv4 rule " : "IPv6 rule ";
  text += std::to_string(priority);
  if (fwmark) text += " fwmark " + std::to_string(*fwmark);
  return text + " table " + std::to_string(table);
}

// ---- links

Message link_query(int index, const std::string& name) {
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = index;
  Message request(RTM_GETLINK, 0, header);
  if (index == 0) request.put_text(IFLA_IFNAME, name);
  return request;
}

std::optional<LinkInfo> read_link(const nlmsghdr* message) {
  if (message->nlmsg_type != RTM_NEWLINK) return std::nullopt;
  const auto* header = static_cast<const ifinfomsg*>(nlmsg_data(message));
  const Attributes attributes(message, sizeof *header, IFLA_MAX);
  LinkInfo info;
  info.index = header->ifi_index;
  info.name = attributes.text(IFLA_IFNAME).value_or("");
  info.up = (header->ifi_flags & IFF_UP) != 0;
  info.mtu = attributes.u32(IFLA_MTU).value_or(0);
  info.tx_queue_len = attributes.u32(IFLA_TXQLEN).value_or(0);
  const Bytes counters = attributes.bytes(IFLA_STATS64);
  rtnl_link_stats64 stats{};
  std::memcpy(&stats, counters.data(), std::min(counters.size(), sizeof stats));
  info.rx_packets = stats.rx_packets;
  info.rx_bytes = stats.rx_bytes;
  info.rx_dropped = stats.rx_dropped;
  info.tx_packets = stats.tx_packets;
  info.tx_bytes = stats.tx_bytes;
  info.tx_dropped = stats.tx_dropped;
  return info;
}

Message link_request(int index, const LinkChange& change) {
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = index;
  if (change.up) {
    header.ifi_change = IFF_UP;
    header.ifi_flags = *change.up ? IFF_UP : 0;
  }
  Message request(RTM_NEWLINK, 0, header);
  if (change.mtu) request.put_u32(IFLA_MTU, *change.mtu);
  if (change.tx_queue_len) request.put_u32(IFLA_TXQLEN, *change.tx_queue_len);
  if (change.gso_max_size) request.put_u32(IFLA_GSO_MAX_SIZE, *change.gso_max_size);
  if (change.addr_gen_mode_none) {
    request.put_nested(IFLA_AF_SPEC, [&] {
      request.put_nested(AF_INET6,
                         [&] { request.put_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE); });
    });
  }
  return request;
}

// ---- addresses

Message address_request(int type, int flags, int index, const Prefix& address) {
  ifaddrmsg header{};
  header.ifa_family = raw(address.address.family());
  header.ifa_prefixlen = address.length;
  header.ifa_scope = address.address.is_link_local() ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  header.ifa_index = static_cast<unsigned>(index);
  Message request(type, flags, header);
  request.put(IFA_LOCAL, address.address.bytes());
  request.put(IFA_ADDRESS, address.address.bytes());
  return request;
}

Message addresses_dump(int index) {
  ifaddrmsg header{};
  header.ifa_family = AF_UNSPEC;
  header.ifa_index = static_cast<unsigned>(index);
  return Message(RTM_GETADDR, NLM_F_DUMP, header);
}

std::optional<ReadAddress> read_address(const nlmsghdr* message) {
  if (message->nlmsg_type != RTM_NEWADDR) return std::nullopt;
  const auto* header = static_cast<const ifaddrmsg*>(nlmsg_data(message));
  const Attributes attributes(message, sizeof *header, IFA_MAX);
  // With a peer address, IFA_ADDRESS is the peer's; IPv6 may have IFA_ADDRESS alone.
  auto address = address_in(attributes.bytes(IFA_LOCAL));
  if (!address) address = address_in(attributes.bytes(IFA_ADDRESS));
  if (!address) return std::nullopt;
  return ReadAddress{static_cast<int>(header->ifa_index), {*address, header->ifa_prefixlen}};
}

// ---- routes

Message route_request(int type, int flags, const Route& route, int index) {
  const Prefix destination = route.destination.network();
  rtmsg header{};
  header.rtm_family = raw(destination.address.family());
  header.rtm_dst_len = destination.length;
  header.rtm_table = table_byte(route.table);
  header.rtm_protocol = RTPROT_STATIC;
  header.rtm_type = type_of(route.type).raw;
  const bool on_link = route.type == Route::Type::kUnicast && !route.gateway;
  header.rtm_scope = on_link ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  if (route.onlink) header.rtm_flags |= RTNH_F_ONLINK;

  Message request(type, flags, header);
  request.put(RTA_DST, destination.address.bytes());
  request.put_u32(RTA_TABLE, route.table);
  if (index > 0) request.put_u32(RTA_OIF, static_cast<uint32_t>(index));
  if (route.gateway) request.put(RTA_GATEWAY, route.gateway->bytes());
  if (route.metric) request.put_u32(RTA_PRIORITY, *route.metric);
  if (route.preferred_source) request.put(RTA_PREFSRC, route.preferred_source->bytes());
  if (route.mtu && type == RTM_NEWROUTE) {
    request.put_nested(RTA_METRICS, [&] { request.put_u32(RTAX_MTU, *route.mtu); });
  }
  return request;
}

Message routes_dump(uint32_t table, Family family) {
  rtmsg header{};
  header.rtm_family = raw(family);
  header.rtm_table = table_byte(table);
  Message request(RTM_GETROUTE, NLM_F_DUMP, header);
  request.put_u32(RTA_TABLE, table);
  return request;
}

std::optional<ReadRoute> read_route(const nlmsghdr* message) {
  if (message->nlmsg_type != RTM_NEWROUTE) return std::nullopt;
  const auto* header = static_cast<const rtmsg*>(nlmsg_data(message));
  const auto* type = std::find_if(std::begin(kRouteTypes), std::end(kRouteTypes),
                                  [&](const auto& t) { return t.raw == header->rtm_type; });
  const Attributes attributes(message, sizeof *header, RTA_MAX);
  if (type == std::end(kRouteTypes) || (header->rtm_flags & RTM_F_CLONED) != 0 ||
      attributes.find(RTA_MULTIPATH) != nullptr) {
    return std::nullopt;
  }
  ReadRoute read;
  Route& route = read.route;
  const auto any = header->rtm_family == AF_INET ? IpAddress() : IpAddress::v6({});
  route.type = type->type;
  route.destination = {address_in(attributes.bytes(RTA_DST)).value_or(any), header->rtm_dst_len};
  route.table = attributes.u32(RTA_TABLE).value_or(header->rtm_table);
  route.metric = attributes.u32(RTA_PRIORITY);
  route.gateway = address_in(attributes.bytes(RTA_GATEWAY));
  route.preferred_source = address_in(attributes.bytes(RTA_PREFSRC));
  route.onlink = (header->rtm_flags & RTNH_F_ONLINK) != 0;
  if (const nlattr* metrics = attributes.find(RTA_METRICS)) {
    route.mtu = Attributes(metrics, RTAX_MAX).u32(RTAX_MTU);
  }
  // IPv6 hangs routes that discard on the loopback device; that is not ours to repeat.
  if (route.type == Route::Type::kUnicast) {
    read.index = static_cast<int>(attributes.u32(RTA_OIF).value_or(0));
  }
  return read;
}

uint32_t effective_metric(const Route& route) {
  const uint32_t standard = route.destination.address.is_v6() ? 1024 : 0;  // IP6_RT_PRIO_USER
  const uint32_t metric = route.metric.value_or(0);
  return metric == 0 ? standard : metric;
}

// ---- rules

Message rule_request(int type, int flags, const Rule& rule) {
  fib_rule_hdr header{};
  header.family = raw(rule.family);
  header.table = table_byte(rule.table);
  header.action = FR_ACT_TO_TBL;
  Message request(type, flags, header);
  request.put_u32(FRA_PRIORITY, rule.priority);
  request.put_u32(FRA_TABLE, rule.table);
  if (rule.fwmark) request.put_u32(FRA_FWMARK, *rule.fwmark);
  return request;
}

Message rules_dump(Family family) {
  fib_rule_hdr header{};
  header.family = raw(family);
  return Message(RTM_GETRULE, NLM_F_DUMP, header);
}

std::optional<Rule> read_rule(const nlmsghdr* message, Family family) {
  if (message->nlmsg_type != RTM_NEWRULE) return std::nullopt;
  const auto* header = static_cast<const fib_rule_hdr*>(nlmsg_data(message));
  if (header->action != FR_ACT_TO_TBL) return std::nullopt;
  const Attributes attributes(message, sizeof *header, FRA_MAX);
  Rule rule;
  rule.family = family;
  rule.priority = attributes.u32(FRA_PRIORITY).value_or(0);
  rule.table = attributes.u32(FRA_TABLE).value_or(header->table);
  rule.fwmark = attributes.u32(FRA_FWMARK);
  return rule;
}

}  // namespace culvert::net
