// Connection, third part: what it tells about itself.
#include <unistd.h>

#include <algorithm>

#include "client/connection.h"

namespace culvert::client {

TunnelStatus Connection::status() {
  const Profile& profile = parts_.profile;
  TunnelStatus status;
  status.name = profile.tunnel;
  status.pid = ::getpid();
  status.state = name_of(connector_.state());
  status.since = since_;
  status.server = profile.server_name;
  status.address = endpoint_.port == 0 ? std::string() : endpoint_.to_string();
  status.user = profile.user;
  status.certificate = parts_.tls->own_certificate().subject;
  status.server_certificate = server_certificate_;
  status.device = tunnel_.tun().name();
  status.reconnects = times_up_ > 0 ? times_up_ - 1 : 0;
  status.rekeys = rekeys_;
  status.roams = roams_;
  status.last_error = connector_.last_error();
  if (connector_.state() == State::kWaiting) {
    const auto left = connector_.next_attempt() - parts_.loop.now();
    status.next_attempt_seconds =
        std::max<int64_t>(0, std::chrono::ceil<std::chrono::seconds>(left).count());
  }
  if (params_) add_inside(status);
  add_data_path(status);
  return status;
}

void Connection::add_inside(TunnelStatus& status) const {
  if (params_->ipv4) status.ipv4 = params_->ipv4->address.to_string();
  // One that was granted may have been left out.
  if (params_->ipv6 && inside_.routes().ipv6) status.ipv6 = params_->ipv6->address.to_string();
  status.mtu = device_mtu().value();
  status.offloads = net::name_of(tunnel_.tun().offloads());
  status.banner = params_->banner;
  const RoutePlan& routes = inside_.routes();
  status.routes = routes.summary;
  status.routing = parts_.profile.routes == RouteMode::kNone ? "none"
                   : routes.full                             ? "full"
                                                             : "split";
  const DnsPlan& dns = inside_.dns_plan();
  for (const IpAddress& server : dns.servers)
    status.dns.servers.push_back(server.to_string());
  status.dns.domains = dns.search;
  for (const std::string& domain : dns.routed)
    status.dns.domains.push_back("~" + domain);
  if (dns.all && !dns.empty()) status.dns.domains.emplace_back("~.");
  status.dns.method = name_of(parts_.dns.method());
  status.dns.applied = parts_.dns.applied();
  if (inside_.dns_error()) status.dns.problem = inside_.dns_error()->message();
}

void Connection::add_data_path(TunnelStatus& status) {
  status.tls = tls_version_;
  status.cipher = cipher_;
  tunnel::TunnelSession* const session = tunnel_.find(kSession);
  if (session == nullptr) return;
  if (const tunnel::Channel* const carrier = session->carrier()) status.channel = carrier->name();
  if (!status.channel.empty()) status.channel_since = carrier_since_;
  if (session->choice()) status.channel_reason = name_of(session->choice()->reason());
  if (tunnel::DtlsChannel* const udp = session->dtls(); udp != nullptr && udp->up()) {
    status.dtls_cipher = udp->dtls().cipher();
    status.udp_gso = udp->port().socket().gso();
    status.udp_gro = udp->port().socket().gro();
  }
  const tunnel::Counters& counters = session->counters();
  status.rx_packets = counters.rx_packets;
  status.rx_bytes = counters.rx_bytes;
  status.tx_packets = counters.tx_packets;
  status.tx_bytes = counters.tx_bytes;
  for (size_t i = 0; i < tunnel::kDropReasonCount; ++i)
    if (counters.drops[i] > 0)
      status.drops[std::string(name_of(static_cast<tunnel::DropReason>(i)))] = counters.drops[i];
}

}  // namespace culvert::client
