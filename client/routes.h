// Routes: what the system must be told so that the right packets enter the tunnel. Pure: a plan of
// requests, in order; net::SystemOps carries them out and takes them back.
//
// Packets of our own connection carry a mark. The rules, before all others but the local table:
//   priority      marked               → main        the outer connection goes its usual way
//   priority + 1  marked               → dead end    and never into its own tunnel (only where our
//                                                    table covers the server: else a host that has
//                                                    lost its default route would send the tunnel
//                                                    into the tunnel)
//   priority + 2  everything           → our table   the tunnel's routes; `throw` for what stays
//   out
// What our table does not know falls through to main. So no route that somebody else puts into main
// (DHCP option 121, a hostile access point) takes traffic out of the tunnel, and we touch none of
// theirs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/address.h"
#include "common/net/system_request.h"
#include "common/wire/tunnel_params.h"

namespace culvert::client {

enum class RouteMode {
  kServer,  // what the server says: its networks, or everything if it names none
  kFull,    // everything, whatever the server says
  kNone,    // address the device, and touch neither routes nor rules
};

// Numbers shared with the rest of the system. A tunnel whose device ends in a number N uses
// table + N and priority + 3 N, so that several can be up at once.
struct RoutingNumbers {
  uint32_t fwmark = 0xc417;
  uint32_t table = 51700;
  uint32_t priority = 5170;
};

// Of the packets that find nothing in main although they must: an unreachable default route.
constexpr uint32_t kDeadEndOffset = 1000;  // its table: our table + this

// What the machine can do with IPv6.
enum class HostIpv6 {
  kUsable,
  kNotOnNewDevices,  // net.ipv6.conf.default.disable_ipv6: other devices may have it
  kAbsent,           // not in the kernel: requests about it would fail
};

struct RouteInput {
  std::string device;
  RouteMode mode = RouteMode::kServer;
  RoutingNumbers numbers;  // as configured; the device's number is added here
  Mtu mtu{0};              // of the device
  HostIpv6 host_ipv6 = HostIpv6::kUsable;
  IpAddress server;  // of the outer connection
  // Devices with a strict reverse path filter. Where our table covers the server, the kernel looks
  // there for the way back to it, finds the tunnel and drops the server's answers: these are
  // loosened while the tunnel is up.
  std::vector<std::string> strict_devices;
};

struct RoutePlan {
  std::vector<net::SystemRequest> requests;
  std::vector<std::string> summary;  // "10.20.0.0/16", "everything", "not 192.0.2.0/24": for people
  std::vector<std::string> notes;    // what was left out and why: for the log
  bool full = false;                 // a default route of ours catches everything
  bool ipv6 = false;                 // the device gets the IPv6 address that was granted

  friend bool operator==(const RoutePlan&, const RoutePlan&) = default;
};

// Addresses, link and routes for what the server granted.
// REQUIRES: params has an address.
[[nodiscard]] RoutePlan plan_routes(const wire::TunnelParams& params, const RouteInput& input);

// From the plan that is in force to the wanted one: inverses first, newest first, then what is new.
// With the same addresses, what both plans have is left alone, so that nothing leaves beside the
// tunnel meanwhile; with others everything is made anew, because the kernel drops a device's routes
// with its last address. A system setting has no inverse here: the journal has its former value.
[[nodiscard]] std::vector<net::SystemRequest> route_changes(const RoutePlan& present,
                                                            const RoutePlan& wanted);

// "full", "server", "none".
[[nodiscard]] std::string_view name_of(RouteMode mode);

}  // namespace culvert::client
