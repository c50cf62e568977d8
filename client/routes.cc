#include "client/routes.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "common/base/text.h"
#include "common/net/system_ops.h"
#include "common/tunnel/path_mtu.h"

namespace culvert::client {
namespace {

// Linux refuses IPv6 on a device with less (RFC 8200 section 5).
constexpr uint16_t kMinIpv6Mtu = 1280;
constexpr uint32_t kRulesPerTunnel = 3;

Prefix everything(Family family) {
  return family == Family::kV4 ? Prefix{IpAddress::v4(0U), 0}
                               : Prefix{IpAddress::v6(std::array<std::byte, 16>{}), 0};
}

// "culvert12" is 12, "office" is 0.
uint32_t number_of(std::string_view device) {
  const size_t last = device.find_last_not_of("0123456789");
  const std::string_view digits = device.substr(last == std::string_view::npos ? 0 : last + 1);
  return static_cast<uint32_t>(parse_decimal(digits, 0, 999).value_or(0));
}

// Collects the requests for one tunnel.
class Planner {
 public:
  Planner(const wire::TunnelParams& params, const RouteInput& input)
      : params_(params), input_(input) {
    const uint32_t number = number_of(input.device);
    table_ = input.numbers.table + number;
    priority_ = input.numbers.priority + kRulesPerTunnel * number;
    ipv4_ = params.ipv4;
    ipv6_ = params.ipv6;
  }

  RoutePlan plan() && {
    leave_out_ipv6_if_impossible();
    plan_.ipv6 = ipv6_.has_value();
    plan_.full = wants_everything();
    add_link();
    if (input_.mode == RouteMode::kNone) {
      plan_.full = false;
      return std::move(plan_);
    }
    add_tunnel_routes();
    add_excluded();
    loosen_reverse_path();
    // Last, because they switch everything above on.
    add_rules(Family::kV4);
    add_rules(Family::kV6);
    return std::move(plan_);
  }

 private:
  [[nodiscard]] bool wants_everything() const {
    if (input_.mode != RouteMode::kServer) return input_.mode == RouteMode::kFull;
    const auto is_default = [](const Prefix& prefix) { return prefix.length == 0; };
    const auto& networks = params_.split_include;
    return networks.empty() || std::any_of(networks.begin(), networks.end(), is_default);
  }

  void leave_out_ipv6_if_impossible() {
    if (!ipv6_) return;
    if (input_.host_ipv6 != HostIpv6::kUsable) {
      plan_.notes.emplace_back("IPv6 is switched off on this machine: its address is left out");
      ipv6_.reset();
    } else if (input_.mtu.value() < kMinIpv6Mtu) {
      plan_.notes.push_back("the MTU " + std::to_string(input_.mtu.value()) +
                            " is too small for IPv6: its address is left out");
      ipv6_.reset();
    }
  }

  [[nodiscard]] bool has(Family family) const {
    return family == Family::kV4 ? ipv4_.has_value() : ipv6_.has_value();
  }

  void add_link() {
    net::LinkChange change;
    change.device = input_.device;
    change.mtu = input_.mtu.value();
    change.gso_max_size = tunnel::kSuperpacketSize;
    change.addr_gen_mode_none = true;
    change.up = true;
    plan_.requests.emplace_back(net::SetLink{change});
    for (const auto& address : {ipv4_, ipv6_})
      if (address) plan_.requests.emplace_back(net::AddAddress{input_.device, own(*address)});
  }

  // Without the network's length, the kernel adds no connected route to main: the network is routed
  // in our own table. In mode kNone that route is all there is, so the kernel may have it.
  [[nodiscard]] Prefix own(const Prefix& address) const {
    return input_.mode == RouteMode::kNone ? address : Prefix::host(address.address);
  }

  void add_tunnel_routes() {
    if (plan_.full) {
      add_default(Family::kV4);
      add_default(Family::kV6);
      plan_.summary.emplace_back("everything");
      return;
    }
    for (const auto& address : {ipv4_, ipv6_})
      if (address && address->length < address->address.bits()) add_network(address->network());
    for (const Prefix& prefix : params_.split_include) {
      if (!has(prefix.address.family())) {
        plan_.notes.push_back("no address of its family: " + prefix.to_string() + " is left out");
      } else {
        add_network(prefix.network());
      }
    }
  }

  void add_network(const Prefix& network) {
    if (add_route(network, net::Route::Type::kUnicast))
      plan_.summary.push_back(network.to_string());
  }

  // A family that the tunnel does not carry must not leave beside it.
  void add_default(Family family) {
    if (family == Family::kV6 && input_.host_ipv6 == HostIpv6::kAbsent) return;
    const Prefix all = everything(family);
    add_route(all, has(family) ? net::Route::Type::kUnicast : net::Route::Type::kUnreachable);
    // Link-local traffic never crosses a router; main knows its devices.
    if (family == Family::kV6) add_route(*Prefix::parse("fe80::/10"), net::Route::Type::kThrow);
  }

  void add_excluded() {
    for (const Prefix& prefix : params_.split_exclude) {
      if (prefix.address.is_v6() && input_.host_ipv6 == HostIpv6::kAbsent) continue;
      if (prefix.length == 0) {
        plan_.notes.push_back("an exclusion of everything is ignored: " + prefix.to_string());
      } else if (add_route(prefix.network(), net::Route::Type::kThrow)) {
        plan_.summary.push_back("not " + prefix.network().to_string());
      }
    }
  }

  // False if our table has that destination already.
  bool add_route(const Prefix& destination, net::Route::Type type) {
    if (std::find(routed_.begin(), routed_.end(), destination) != routed_.end()) return false;
    routed_.push_back(destination);
    net::Route route;
    route.destination = destination;
    route.table = table_;
    route.type = type;
    if (type == net::Route::Type::kUnicast) route.device = input_.device;
    plan_.requests.emplace_back(net::AddRoute{route});
    return true;
  }

  [[nodiscard]] bool covers_server() const {
    return std::any_of(routed_.begin(), routed_.end(),
                       [&](const Prefix& prefix) { return prefix.contains(input_.server); });
  }

  void loosen_reverse_path() {
    if (!input_.server.is_v4() || !covers_server()) return;
    for (const std::string& device : input_.strict_devices)
      plan_.requests.emplace_back(net::SetSysctl{"net/ipv4/conf/" + device + "/rp_filter", "2"});
  }

  void add_rules(Family family) {
    const auto is_of_family = [&](const Prefix& p) { return p.address.family() == family; };
    if (std::none_of(routed_.begin(), routed_.end(), is_of_family)) return;
    const auto add = [&](uint32_t offset, std::optional<uint32_t> mark, uint32_t table) {
      plan_.requests.emplace_back(net::AddRule{
          {.family = family, .priority = priority_ + offset, .fwmark = mark, .table = table}});
    };
    add(0, input_.numbers.fwmark, net::kMainTable);
    if (plan_.full || covers_server()) {
      net::Route dead_end;
      dead_end.destination = everything(family);
      dead_end.table = table_ + kDeadEndOffset;
      dead_end.type = net::Route::Type::kUnreachable;
      plan_.requests.emplace_back(net::AddRoute{dead_end});
      add(1, input_.numbers.fwmark, dead_end.table);
    }
    add(2, std::nullopt, table_);
  }

  const wire::TunnelParams& params_;
  const RouteInput& input_;
  uint32_t table_ = 0;
  uint32_t priority_ = 0;
  std::optional<Prefix> ipv4_;
  std::optional<Prefix> ipv6_;
  std::vector<Prefix> routed_;
  RoutePlan plan_;
};

}  // namespace

RoutePlan plan_routes(const wire::TunnelParams& params, const RouteInput& input) {
  return Planner(params, input).plan();
}

std::vector<net::SystemRequest> route_changes(const RoutePlan& present, const RoutePlan& wanted) {
  using Requests = std::vector<net::SystemRequest>;
  const auto addresses = [](const Requests& all) {
    Requests found;
    for (const net::SystemRequest& request : all)
      if (std::holds_alternative<net::AddAddress>(request)) found.push_back(request);
    return found;
  };
  const bool keep = addresses(present.requests) == addresses(wanted.requests);
  const auto stays = [keep](const net::SystemRequest& request, const Requests& other) {
    return keep && std::find(other.begin(), other.end(), request) != other.end();
  };
  Requests changes;
  for (auto request = present.requests.rbegin(); request != present.requests.rend(); ++request) {
    const bool setting = std::holds_alternative<net::SetSysctl>(*request);
    if (setting || stays(*request, wanted.requests)) continue;
    if (auto inverse = net::inverse(*request, {})) changes.push_back(std::move(*inverse));
  }
  for (const net::SystemRequest& request : wanted.requests)
    if (!stays(request, present.requests)) changes.push_back(request);
  return changes;
}

std::string_view name_of(RouteMode mode) {
  switch (mode) {
    case RouteMode::kServer:
      return "server";
    case RouteMode::kFull:
      return "full";
    case RouteMode::kNone:
      return "none";
  }
  return "server";
}

}  // namespace culvert::client
