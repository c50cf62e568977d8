// What a session with its addresses is granted: the parameters that its client is told, and the
// routes that the kernel needs for it. Pure.
#pragma once

#include <string>
#include <vector>

#include "common/net/system_request.h"
#include "common/wire/tunnel_params.h"
#include "server/config.h"
#include "server/gate.h"
#include "server/session.h"

namespace culvert::server {

// `udp_port`: where DTLS is served; a client that can has a UDP channel there, with a new App-ID,
// or with the one that it has if it roams. How the session is taken over (`attach`) is as asked if
// that can be done with the connection and the UDP channel that it has now, else kNone. REQUIRES:
// an address of a family that has a network.
[[nodiscard]] wire::TunnelParams params_for(const Session& session, const ConnectRequest& request,
                                            const NetworkSettings& network,
                                            const SessionSettings& settings,
                                            std::optional<uint16_t> udp_port);

// One host route per address and one per network behind the client, to our device, with the
// session's MTU: so that the kernel itself answers for what does not fit.
[[nodiscard]] std::vector<net::Route> routes_for(const Session& session, const std::string& device,
                                                 Mtu mtu);

// From the routes that are there to those that shall be: what differs, deletions first.
[[nodiscard]] std::vector<net::SystemRequest> route_changes(const std::vector<net::Route>& present,
                                                            const std::vector<net::Route>& wanted);

}  // namespace culvert::server
