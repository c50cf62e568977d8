#include "server/grant.h"

#include <algorithm>
#include <chrono>

#include "common/tls/random.h"
#include "common/tunnel/path_mtu.h"

namespace culvert::server {
namespace {

// Of the extension between Culvert peers.
constexpr wire::CulvertFeatures kServedFeatures{.superpacket = true,
                                                .packed = true,
                                                .unsummed = true,
                                                .cid = true,
                                                .roam = true,
                                                .rekey = true};

// Told of one second, openconnect asks without a pause (its questions come again after half the
// time, in whole seconds), reads no answer meanwhile and gives the server up.
constexpr std::chrono::seconds kLeastStockDpd{2};

// The kernel's idea of the path counts, up to Ethernet's: loopback devices have 64 KB, which says
// nothing about what comes behind.
tunnel::MtuPlan plan_for(const ConnectRequest& request, bool inner_ipv6, bool dtls,
                         const wire::CulvertFeatures& features) {
  tunnel::MtuInput input;
  if (request.path_mtu != 0) input.link_mtu = std::min(request.path_mtu, tunnel::kMaxLinkMtu);
  input.peer_base_mtu = request.offer.base_mtu;
  input.peer_mtu = request.offer.mtu;
  input.outer = request.peer.remote.address.family();
  input.inner_ipv6 = inner_ipv6;
  input.dtls = dtls;
  input.connection_id = dtls && features.cid;
  return tunnel::plan_mtu(input);
}

// Both connections must have agreed on it. There has to be something to be gentle to: for a rekey a
// connection that lives, for a roaming client a DTLS association (as last heard: if it has gone
// since, its App-ID and key are still good for a handshake).
wire::AttachMode attach_mode_for(const Session& session, const ConnectRequest& request,
                                 const wire::TunnelParams& params) {
  const wire::AttachMode asked = request.offer.attach;
  const ConnectionFacts present = session.present();
  const bool agreed = wire::allows(wire::common_to(present.features, params.features), asked);
  if (!agreed || !session.on_data_plane) return wire::AttachMode::kNone;
  bool possible = true;
  if (asked == wire::AttachMode::kRekey) {
    possible = session.has_connection();
  } else if (asked == wire::AttachMode::kRoam) {
    possible = present.dtls && params.dtls && !session.dtls_cipher.empty();
  }
  return possible ? asked : wire::AttachMode::kNone;
}

// A stock client that is told of no network of a family sends all of that family into the tunnel
// (openconnect's script asks for each by itself): a family that has none gets the tunnel's own.
std::vector<Prefix> networks_for(const std::vector<Prefix>& routes,
                                 const wire::TunnelParams& params) {
  std::vector<Prefix> networks = routes;
  if (routes.empty()) return networks;  // everything, in both families
  for (const auto& inside : {params.ipv4, params.ipv6}) {
    if (!inside) continue;
    const bool named = std::any_of(routes.begin(), routes.end(), [&](const Prefix& route) {
      return route.address.family() == inside->address.family();
    });
    if (!named) networks.push_back(inside->network());
  }
  return networks;
}

bool contains(const std::vector<net::Route>& routes, const net::Route& route) {
  return std::find(routes.begin(), routes.end(), route) != routes.end();
}

}  // namespace

wire::TunnelParams params_for(const Session& session, const ConnectRequest& request,
                              const NetworkSettings& network, const SessionSettings& settings,
                              std::optional<uint16_t> udp_port) {
  wire::TunnelParams params;
  if (session.ipv4) params.ipv4 = Prefix{*session.ipv4, network.ipv4->length};
  if (session.ipv6) params.ipv6 = Prefix{*session.ipv6, network.ipv6->length};
  params.features = wire::common_to(request.offer.features, kServedFeatures);
  params.dpd = params.features.any() ? settings.dpd : std::max(settings.dpd, kLeastStockDpd);
  if (udp_port && request.offer.psk != wire::PskPosition::kNone) {
    params.dtls = wire::DtlsParams{
        .port = *udp_port, .app_id = {}, .dpd = params.dpd, .keepalive = settings.keepalive};
    tls::random_bytes(params.dtls->app_id);
  }
  params.attach = attach_mode_for(session, request, params);
  if (params.attach == wire::AttachMode::kRoam) {
    params.dtls->app_id = session.present().dtls->app_id;
  }
  const tunnel::MtuPlan plan =
      plan_for(request, session.ipv6.has_value(), params.dtls.has_value(), params.features);
  params.mtu = plan.tunnel_mtu;
  params.base_mtu = plan.base_mtu;
  params.dns = network.dns;
  params.split_include = networks_for(network.routes, params);
  params.keepalive = settings.keepalive;
  params.rekey_time = settings.rekey_time;
  params.rekey_method = wire::RekeyMethod::kNewTunnel;
  if (settings.idle_timeout.count() != 0) params.idle_timeout = settings.idle_timeout;
  params.hostname = request.offer.hostname;
  return params;
}

std::vector<net::Route> routes_for(const Session& session, const std::string& device, Mtu mtu) {
  std::vector<net::Route> routes;
  for (const Prefix& inside : session.inside()) {
    net::Route route;
    route.destination = inside;
    route.device = device;
    route.mtu = mtu.value();
    routes.push_back(std::move(route));
  }
  return routes;
}

std::vector<net::SystemRequest> route_changes(const std::vector<net::Route>& present,
                                              const std::vector<net::Route>& wanted) {
  std::vector<net::SystemRequest> requests;
  for (const net::Route& route : present) {
    if (!contains(wanted, route)) requests.emplace_back(net::DelRoute{route});
  }
  for (const net::Route& route : wanted) {
    if (!contains(present, route)) requests.emplace_back(net::AddRoute{route});
  }
  return requests;
}

}  // namespace culvert::server
