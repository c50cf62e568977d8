// Connection, second part: what happens to a tunnel that is up, and the connections that are made
// beside it.
#include <utility>

#include "client/connection.h"
#include "client/host_facts.h"
#include "common/base/log.h"
#include "common/base/text.h"
#include "common/tunnel/key_life.h"

namespace culvert::client {
namespace {

// How often the watch looks before a connection that the server has left counts as lost.
constexpr unsigned kPatience = 2;
// How long a connection may take to show that it has survived a change of the network.
constexpr Duration kProofTime = std::chrono::seconds(1);

// What a server that ends a session without a word may have meant.
std::string limits_of(const wire::TunnelParams& params) {
  std::string text;
  if (params.idle_timeout) text = "after " + human_time(*params.idle_timeout) + " without packets";
  if (params.session_timeout) {
    text += (text.empty() ? "" : ", ") + human_time(*params.session_timeout) + " after it is up";
  }
  return text.empty() ? text : "it ends every session " + text;
}

}  // namespace

// How the server has taken the session over, as far as we can follow.
wire::AttachMode Connection::mode_of(const wire::TunnelParams& params) {
  if (params.attach != wire::AttachMode::kRoam) return params.attach;
  // The association that stays has to be the one that the server means.
  tunnel::TunnelSession* const session = tunnel_.find(kSession);
  const bool same = params.dtls && params_->dtls && session != nullptr &&
                    session->dtls() != nullptr && params.dtls->app_id == params_->dtls->app_id;
  return same ? wire::AttachMode::kRoam : wire::AttachMode::kNone;
}

void Connection::on_renewed(wire::TunnelParams params, Transport::Handover handover) {
  const wire::AttachMode mode = mode_of(params);
  renewal_.reset();
  note_secured(*handover.tls);
  note_parameters(std::move(params));
  if (mode == wire::AttachMode::kNone) {
    path_mtu_.reset();
    carrier_since_ = wall_now();
  }
  rekeys_ += mode == wire::AttachMode::kRekey ? 1 : 0;
  roams_ += mode == wire::AttachMode::kRoam ? 1 : 0;
  log::info("tunnel", "the session has moved to another connection",
            {{"how", mode == wire::AttachMode::kNone ? "anew" : wire::name_of(mode)},
             {"tls", tls_version_},
             {"cipher", cipher_}});
  // Before the connection can be lost again.
  handle(event::Renewed{});
  take_connection(std::move(handover), mode);
  follow_parameters();
}

void Connection::on_renewal_failed(const Error& error, bool cookie_refused) {
  log::warning("tunnel", "no other connection could be made", {{"why", error.message()}});
  handle(event::RenewalFailed{error, cookie_refused});
}

// The server may have been reloaded since.
void Connection::follow_parameters() {
  if (connector_.state() != State::kUp || std::exchange(following_, true)) return;
  RoutePlan routes = plan_routes(*params_, route_input());
  DnsPlan dns = parts_.profile.use_dns ? plan_dns(*params_, routes.full) : DnsPlan{};
  inside_.configure(tunnel_.tun().name(), std::move(routes), std::move(dns),
                    [this](const Status& status) {
                      following_ = false;
                      if (!status) handle(event::Failed{status.error(), true});
                    });
}

// Packets pass without a TLS connection, and the server keeps what they pass through.
bool Connection::can_roam() {
  tunnel::TunnelSession* const session = tunnel_.find(kSession);
  return connector_.state() == State::kUp && params_ && params_->features.roam &&
         session != nullptr && session->choice() &&
         session->choice()->carrier() == tunnel::Carrier::kDtls && session->dtls()->up();
}

bool Connection::keys_worn(const tunnel::CstpChannel& channel) {
  tunnel::KeyLimits limits;
  limits.age = tunnel::key_life(params_->rekey_time);
  const bool may_update = !params_->features.rekey && channel.tls().version() == "TLSv1.3";
  if (may_update) limits.records = tunnel::kRecordsPerKey;
  return worn(tunnel::use_of(channel.tls(), parts_.loop.now() - keys_since_), limits);
}

std::optional<IpAddress> Connection::source_now() {
  const Family family = endpoint_.address.family();
  UniqueFd& probe = probes_.at(family == Family::kV4 ? 0 : 1);
  if (!probe.valid()) {
    auto socket = parts_.sockets.take(MarkedSockets::Kind::kDatagram, family);
    if (!socket) return std::nullopt;
    probe = std::move(*socket);
  }
  return source_towards(endpoint_, probe);
}

// The kernel would send from another address by now: the connection will hear no answer any more.
bool Connection::address_changed() {
  const auto now = source_now();
  return now && source_ && *now != *source_;
}

void Connection::look_after_connection() {
  tunnel::TunnelSession* const session = tunnel_.find(kSession);
  if (connector_.state() != State::kUp || session == nullptr) return;
  const tunnel::CstpChannel* const live = session->channel();
  if (live == nullptr) {
    if (connector_.renewing() == wire::AttachMode::kNone)
      connection_lost("the connection was lost");
    return;
  }
  if (session->draining()) return;
  if (address_changed()) {
    return handle(event::Renew{can_roam() ? wire::AttachMode::kRoam : wire::AttachMode::kNone});
  }
  // The answer for which the server has moved is lost, or we have given its connection up.
  if (live->peer_switched() && ++looks_since_switch_ > kPatience) {
    return connection_lost("the server does not use the connection any more");
  }
  if (keys_worn(*live)) {
    handle(
        event::Renew{params_->features.rekey ? wire::AttachMode::kRekey : wire::AttachMode::kNone});
  }
}

// Without this, DPD would find a dead path within a minute, and TCP, which sends again with growing
// pauses, might not notice for half a minute that the path is back.
void Connection::on_network_change(NetworkWatch::Why why) {
  log::info("tunnel", name_of(why), {{"state", name_of(connector_.state())}});
  handle(event::NetworkChanged{});
  tunnel::TunnelSession* const session = tunnel_.find(kSession);
  if (connector_.state() != State::kUp || session == nullptr) return;
  session->path_changed();
  asked_at_ = parts_.loop.now();
  proof_timer_.start(kProofTime, [this] { judge_silence(); });
  look_after_connection();
}

void Connection::judge_silence() {
  const tunnel::CstpChannel* const live = channel();
  if (connector_.state() != State::kUp || live == nullptr || live->last_heard() >= asked_at_)
    return;
  connection_lost("no answer since the network has changed");
}

void Connection::on_alive(tunnel::TunnelSession& /*session*/) {
  if (carrying_) handle(event::Alive{});
}

void Connection::on_carrier_changed(tunnel::TunnelSession& session) {
  carrier_since_ = wall_now();
  const tunnel::Channel* const carrier = session.carrier();
  log::info("tunnel", "packets take another channel",
            {{"channel", carrier != nullptr ? carrier->name() : "none"},
             {"why", session.choice() ? name_of(session.choice()->reason()) : ""}});
  // It was what went on without a TLS connection.
  const bool up = connector_.state() == State::kUp;
  if (session.channel() == nullptr && up && !can_roam()) connection_lost("the connection was lost");
}

// The kernel tells senders on this host what the path takes, so the device has to say it.
void Connection::on_path_mtu(tunnel::TunnelSession& /*session*/, Mtu found) {
  path_mtu_ = found;
  log::info("tunnel", "the path takes packets of another size", {{"mtu", found.value()}});
  if (connector_.state() != State::kUp && connector_.state() != State::kProbing) return;
  net::LinkChange change{.device = tunnel_.tun().name()};
  change.mtu = device_mtu().value();
  parts_.system.submit({net::SetLink{change}}, [](const std::vector<net::SystemAnswer>& answers) {
    if (const Status status = net::first_error(answers); !status) {
      log::warning("tunnel", "the device's MTU could not be set",
                   {{"why", status.error().message()}});
    }
  });
}

void Connection::on_tun_lost() {
  stop(fail(ErrorCode::kFailure, "the tunnel's network device was deleted", tunnel_.tun().name(),
            "by another program? culvert connect makes a new one"));
}

void Connection::on_channel_end(tunnel::TunnelSession& /*session*/, const tunnel::ChannelEnd& end) {
  if (saying_goodbye_) {
    saying_goodbye_ = false;
    return undone_in_part();
  }
  if (!std::exchange(carrying_, false)) return;  // given up by us before
  const std::string text = escape_for_display(end.text);
  switch (end.kind) {
    case tunnel::ChannelEnd::Kind::kClosed:
      return;
    case tunnel::ChannelEnd::Kind::kPeerEnded:
      if (!text.empty()) {
        return handle(event::PeerEnded{fail(
            ErrorCode::kFailure, "the server ended the session: " + text, endpoint_.to_string())});
      }
      return handle(event::PeerEnded{fail(ErrorCode::kFailure, "the server ended the session",
                                          endpoint_.to_string(), limits_of(*params_)),
                                     true});
    case tunnel::ChannelEnd::Kind::kLost:
    case tunnel::ChannelEnd::Kind::kDead:
    case tunnel::ChannelEnd::Kind::kProtocol:
      return connection_lost(text.empty() ? "the connection was lost" : text);
  }
}

// The TLS connection is of no use any more.
void Connection::connection_lost(const std::string& why) {
  if (can_roam()) {
    log::info("tunnel", "the TLS connection is gone, DTLS goes on", {{"why", why}});
    // Does it? Without data, nobody would ask for as long as DPD waits.
    tunnel_.find(kSession)->path_changed();
    return handle(event::Renew{wire::AttachMode::kRoam});
  }
  handle(event::Failed{fail(ErrorCode::kNetwork, why, endpoint_.to_string()), true});
}

}  // namespace culvert::client
