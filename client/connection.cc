#include "client/connection.h"

#include <algorithm>
#include <utility>

#include "client/host_facts.h"
#include "client/login.h"
#include "common/base/log.h"
#include "common/base/text.h"
#include "common/tunnel/path_mtu.h"
#include "common/wire/cstp.h"

namespace culvert::client {
namespace {

// A server that announces no DPD is asked all the same.
constexpr Duration kDefaultDpd = std::chrono::seconds(30);

// How often somebody looks whether the connection should be renewed.
constexpr Duration kWatchEvery = std::chrono::seconds(1);

// Worth another address, or another time.
bool is_transient(const Error& error) {
  return error.code == ErrorCode::kNetwork || error.code == ErrorCode::kFailure;
}

std::string joined(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items)
    text += (text.empty() ? "" : ", ") + item;
  return text;
}

std::string inside_addresses(const wire::TunnelParams& params) {
  std::vector<std::string> addresses;
  for (const auto& prefix : {params.ipv4, params.ipv6})
    if (prefix) addresses.push_back(prefix->address.to_string());
  return joined(addresses);
}

std::string user_name(const Connection::Parts& parts) {
  const std::string& user = parts.profile.user;
  return user.empty() ? parts.tls->own_certificate().common_name : user;
}

}  // namespace

Connection::Connection(const Parts& parts, net::TunDevice tun, const Connector::Options& options)
    : parts_(parts),
      connector_(options),
      inside_(parts.system, parts.dns),
      tunnel_(parts.loop, std::move(tun), *this, *this),
      timer_(parts.loop),
      watch_timer_(parts.loop),
      network_(parts.loop),
      proof_timer_(parts.loop),
      dialogue_(parts.profile, user_name(parts), parts.answers) {}

Connection::~Connection() = default;

Status Connection::start() {
  if (auto started = tunnel_.start(); !started) return started;
  watch_timer_.start_repeating(kWatchEvery, [this] { look_after_connection(); });
  const Status watching = network_.start(tunnel_.tun().name(),
                                         [this](NetworkWatch::Why why) { on_network_change(why); });
  if (!watching) {
    log::warning("tunnel", "changes of the network will be noticed late",
                 {{"why", watching.error().message()}});
  }
  handle(event::Start{});
  return {};
}

void Connection::stop(std::optional<Error> error) {
  handle(event::Stop{std::move(error)});
}

// Events that come while actions are carried out wait for their turn: the connector sees one after
// the other.
void Connection::handle(Event event) {
  events_.push_back(std::move(event));
  if (handling_) return;
  handling_ = true;
  while (!events_.empty()) {
    const Event next = std::move(events_.front());
    events_.pop_front();
    const auto actions = connector_.step(next, parts_.loop.now());
    note_state();
    for (const Action& action : actions)
      std::visit([this](const auto& a) { act(a); }, action);
  }
  handling_ = false;
}

void Connection::note_state() {
  if (connector_.state() == noted_state_) return;
  noted_state_ = connector_.state();
  since_ = wall_now();
  const auto& error = connector_.last_error();
  if (noted_state_ == State::kWaiting && error) {
    log::warning("tunnel", "not connected, will try again", {{"why", error->message()}});
    parts_.observer.on_progress("not connected, will try again: " + error->message());
  }
  if (noted_state_ != State::kUp) return;
  ++times_up_;
  report(times_up_ == 1 ? "the tunnel is up" : "the tunnel is up again");
  if (times_up_ == 1) parts_.observer.on_up();
}

void Connection::report(const std::string& line) {
  log::info("tunnel", line, {});
  parts_.observer.on_progress(line);
}

// ---- what the connector decided -----------------------------------------------------------------

void Connection::act(const action::Resolve& /*action*/) {
  const Profile& profile = parts_.profile;
  if (!IpAddress::parse(profile.host)) report("resolving " + profile.host);
  resolver_ = loop::Resolver::resolve(parts_.loop, profile.host, profile.port,
                                      [this](Result<std::vector<Endpoint>> endpoints) {
                                        if (endpoints)
                                          handle(event::Resolved{std::move(*endpoints)});
                                        else
                                          handle(event::Failed{endpoints.error(), true});
                                      });
}

void Connection::act(const action::Connect& action) {
  Racer::Course course;
  course.endpoints = action.endpoints;
  course.first_head_start = action.head_start;
  course.open_socket = [&sockets = parts_.sockets](Family family) {
    return sockets.take(MarkedSockets::Kind::kStream, family);
  };
  course.on_attempt = [this](const Endpoint& endpoint) {
    report("connecting to " + endpoint.to_string());
  };
  course.on_done = [this](Result<Racer::Winner> winner) { on_raced(std::move(winner)); };
  endpoint_ = action.endpoints.front();
  racer_ = std::make_unique<Racer>(parts_.loop, std::move(course));
}

void Connection::on_raced(Result<Racer::Winner> winner) {
  racer_.reset();
  if (!winner) return fail_if_error(std::move(winner.error()));
  endpoint_ = winner->endpoint;
  Transport::Observer& observer = *this;
  transport_ = std::make_unique<Transport>(parts_.loop, observer);
  fail_if_error(transport_->take_over(endpoint_, std::move(winner->socket)));
}

void Connection::act(const action::Secure& /*action*/) {
  fail_if_error(transport_->secure(parts_.tls, parts_.profile.server_name));
}

void Connection::act(const action::LogIn& action) {
  if (!action.reply) dialogue_.reset();
  wire::HttpRequest request = action.reply ? dialogue_.reply() : login_request(parts_.profile);
  fail_if_error(transport_->exchange(request, wire::HttpResponseReader::Kind::kOrdinary));
  wipe(std::as_writable_bytes(std::span(request.body)));  // it may hold a password
}

void Connection::act(const action::Answer& /*action*/) {
  dialogue_.answer([this](const Status& status) {
    if (status) return handle(event::Answered{});
    Error error = status.error();
    if (error.where.empty()) error.where = parts_.profile.url();
    handle(event::Failed{std::move(error), false});
  });
}

void Connection::act(const action::Attach& action) {
  const std::vector<IpAddress> previous = inside_now();
  const AttachOffer offer{.cookie = action.cookie,
                          .base_mtu = transport_->path_mtu(),
                          .mtu = parts_.profile.mtu,
                          .previous = previous,
                          .udp = parts_.profile.udp};
  fail_if_error(transport_->exchange(attach_request(parts_.profile, offer),
                                     wire::HttpResponseReader::Kind::kConnect));
}

std::vector<IpAddress> Connection::inside_now() const {
  std::vector<IpAddress> addresses;
  if (!params_) return addresses;
  for (const auto& prefix : {params_->ipv4, params_->ipv6})
    if (prefix) addresses.push_back(prefix->address);
  return addresses;
}

void Connection::act(const action::Configure& /*action*/) {
  const Profile& profile = parts_.profile;
  const std::string& device = tunnel_.tun().name();
  RoutePlan routes = plan_routes(*params_, route_input());
  DnsPlan dns = profile.use_dns ? plan_dns(*params_, routes.full) : DnsPlan{};
  inside_.configure(device, std::move(routes), std::move(dns), [this](const Status& status) {
    if (!status) return handle(event::Failed{status.error(), connector_.has_been_up()});
    if (times_up_ == 0) report("routes through " + tunnel_.tun().name() + ": " + routes_text());
    handle(event::Configured{});
  });
}

void Connection::act(const action::Probe& /*action*/) {
  Transport::Handover handover = std::move(*handover_);
  handover_.reset();
  carrier_since_ = wall_now();
  take_connection(std::move(handover), wire::AttachMode::kNone);
  if (tunnel::CstpChannel* const now = channel()) now->probe();
}

// REQUIRES: params_ are those of the connection.
void Connection::take_connection(Transport::Handover handover, wire::AttachMode mode) {
  tunnel_.open(session_spec());
  carrying_ = true;
  keys_since_ = parts_.loop.now();
  looks_since_switch_ = 0;
  source_ = source_now();
  fail_if_error(tunnel_.attach(kSession, std::move(handover.socket), std::move(handover.tls),
                               handover.leftover, udp_spec(), mode));
}

void Connection::act(const action::Renew& action) {
  endpoint_ = action.endpoint;
  log::info("tunnel", "another connection is made beside the tunnel",
            {{"why", wire::name_of(action.mode)}, {"server", endpoint_.to_string()}});
  Renewal::Observer& observer = *this;
  renewal_ = std::make_unique<Renewal>(
      parts_.loop, parts_.profile, parts_.tls,
      Renewal::Request{action.endpoint, action.cookie, action.mode, inside_now()}, observer);
  auto socket = parts_.sockets.take(MarkedSockets::Kind::kStream, action.endpoint.address.family());
  const Status started =
      socket ? renewal_->start(std::move(*socket)) : Status(std::move(socket.error()));
  if (!started) handle(event::RenewalFailed{started.error()});
}

void Connection::act(const action::DropRenewal& /*action*/) {
  renewal_.reset();
}

void Connection::act(const action::StartTimer& action) {
  timer_.start(action.deadline - parts_.loop.now(), [this] { handle(event::Tick{}); });
}

void Connection::act(const action::StopTimer& /*action*/) {
  timer_.stop();
}

void Connection::drop_attempts() {
  resolver_ = {};
  dialogue_.cancel();
  racer_.reset();
  transport_.reset();
  renewal_.reset();
  handover_.reset();
}

void Connection::act(const action::DropTransport& /*action*/) {
  drop_attempts();
  carrying_ = false;
  if (tunnel::TunnelSession* const session = tunnel_.find(kSession)) session->close({});
}

void Connection::act(const action::Undo& /*action*/) {
  drop_attempts();
  undo_parts_left_ = 1;
  if (channel() != nullptr) {
    ++undo_parts_left_;
    saying_goodbye_ = true;
    tunnel_.find(kSession)->disconnect(wire::kReasonUser, "Client disconnected");
  }
  inside_.undo([this](Status status) {
    if (!status) {
      log::error("routes", "not everything could be put back", {{"why", status.error().message()}});
      undo_error_ = std::move(status.error());
    }
    undone_in_part();
  });
}

void Connection::undone_in_part() {
  if (--undo_parts_left_ == 0) handle(event::Undone{});
}

void Connection::act(const action::Finish& action) {
  tunnel_.remove(kSession);
  parts_.observer.on_finished(action.error ? action.error : undo_error_);
}

void Connection::fail_if_error(Status status) {
  if (status) return;
  Error error = std::move(status.error());
  const bool transient = is_transient(error);
  handle(event::Failed{std::move(error), transient});
}

// ---- what became of it --------------------------------------------------------------------------

void Connection::on_connected() {
  handle(event::Connected{endpoint_});
}

void Connection::on_secured() {
  const tls::TlsSession& tls = transport_->tls();
  note_secured(tls);
  const auto& server = tls.server_verdict().peer;
  report("secured with " + tls_version_ + " " + cipher_ + "; the server is " +
         (server ? tls::describe(*server) : "unknown"));
  if (const Status mutual = check_mutual(tls, endpoint_); !mutual) {
    return handle(event::Failed{mutual.error(), false});
  }
  handle(event::Secured{});
}

void Connection::note_secured(const tls::TlsSession& tls) {
  tls_version_ = tls.version();
  cipher_ = tls.cipher();
  const auto& server = tls.server_verdict().peer;
  server_certificate_ = server ? server->subject : "";
}

void Connection::on_transport_failed(const Error& error, bool unanswered) {
  if (unanswered && error.code == ErrorCode::kNetwork && !connector_.has_been_up()) {
    // Some servers say no in this way; once the tunnel has been up it is an ordinary loss.
    handle(event::Failed{
        fail(ErrorCode::kAuthRefused,
             "the server closed the connection after it had seen our certificate (" +
                 parts_.tls->own_certificate().subject + "), and gave no reason",
             error.where, "it probably does not accept the certificate: ask the administrator"),
        false});
    return;
  }
  handle(event::Failed{error, is_transient(error)});
}

void Connection::on_response(wire::HttpResponse response) {
  if (connector_.state() == State::kLoggingIn) return on_login_answer(response);
  if (connector_.state() == State::kAttaching) return on_attach_answer(response);
}

void Connection::on_login_answer(const wire::HttpResponse& response) {
  auto outcome = judge_login(response);
  if (!outcome) {
    Error error = std::move(outcome.error());
    if (error.where.empty()) error.where = parts_.profile.url();
    // A server that is only just starting, or a portal in between, says strange things for a while.
    const bool strange = error.code == ErrorCode::kFailure && connector_.has_been_up();
    return handle(event::Failed{error, error.code == ErrorCode::kNetwork || strange});
  }
  if (auto* const question = std::get_if<LoginQuestion>(&*outcome)) {
    const std::string words = words_of(question->response);
    if (!words.empty()) report("the server says: " + words);
    const bool reusable = question->reusable;
    dialogue_.take(std::move(*question));
    return handle(event::FormAsked{reusable});
  }
  auto* const success = std::get_if<LoginSuccess>(&*outcome);
  report("logged in with the certificate " + parts_.tls->own_certificate().subject);
  if (!success->banner.empty()) report("the server says: " + escape_for_display(success->banner));
  handle(event::LoggedIn{std::move(success->cookie), success->reusable});
}

void Connection::on_attach_answer(const wire::HttpResponse& response) {
  auto params = judge_attach(response);
  if (params) return take_parameters(std::move(*params));
  Error error = std::move(params.error());
  if (error.where.empty()) error.where = parts_.profile.url();
  if (error.code == ErrorCode::kAuthRefused) return handle(event::CookieRefused{std::move(error)});
  handle(event::Failed{error, error.code == ErrorCode::kNetwork || connector_.has_been_up()});
}

void Connection::note_parameters(wire::TunnelParams params) {
  for (const std::string& line : params.ignored)
    log::warning("tunnel", "parameter of the server left out", {{"line", line}});
  params_ = std::move(params);
}

void Connection::take_parameters(wire::TunnelParams params) {
  handover_ = transport_->release();
  note_parameters(std::move(params));
  path_mtu_.reset();
  report("address " + inside_addresses(*params_) + ", MTU " + std::to_string(mtu().value()));
  handle(event::Attached{});
}

// ---- what the tunnel is told
// ---------------------------------------------------------------------

void Connection::route(std::span<const MutableBytes> /*packets*/,
                       std::span<tunnel::TunnelSession*> sessions) {
  std::fill(sessions.begin(), sessions.end(), tunnel_.find(kSession));
}

tunnel::CstpChannel* Connection::channel() {
  tunnel::TunnelSession* const session = tunnel_.find(kSession);
  return session == nullptr ? nullptr : session->channel();
}

tunnel::SessionSpec Connection::session_spec() const {
  tunnel::SessionSpec spec;
  spec.id = kSession;
  const bool announced = params_->dpd > std::chrono::seconds(0);
  spec.cstp.liveness.dpd = announced ? Duration(params_->dpd) : kDefaultDpd;
  spec.cstp.liveness.keepalive = params_->keepalive;
  spec.cstp.agree(params_->features, params_->mtu);
  spec.mtu = mtu();
  spec.client = true;
  return spec;
}

std::optional<tunnel::UdpSpec> Connection::udp_spec() {
  if (!params_->dtls || !parts_.profile.udp) return std::nullopt;
  tls::DtlsOptions options;
  options.role = tls::Role::kClient;
  // Puts the server's connection ID into its records, and wants none in what it receives: a client
  // has a socket for each association.
  if (params_->features.cid) options.cid_size = 0;
  auto config = tls::DtlsConfig::build(std::move(options));
  if (!config) {
    log::warning("tunnel", "no UDP channel", {{"why", config.error().message()}});
    return std::nullopt;
  }
  tunnel::UdpSpec spec;
  spec.dtls.config = std::move(*config);
  spec.dtls.app_id = params_->dtls->app_id;
  const uint16_t link = params_->base_mtu != 0 ? params_->base_mtu : tunnel::kDefaultLinkMtu;
  const auto bounds = tunnel::udp_payload_bounds(link, endpoint_.address.family());
  spec.dtls.floor = bounds.floor;
  spec.dtls.ceiling = bounds.ceiling;
  spec.dtls.server = Endpoint{endpoint_.address, params_->dtls->port};
  spec.dtls.open_socket = [&sockets = parts_.sockets](Family family) {
    return sockets.take(MarkedSockets::Kind::kDatagram, family);
  };
  spec.dtls.unsummed = params_->features.unsummed;
  spec.dtls.gso = parts_.profile.udp_gso;
  spec.dtls.gro = parts_.profile.udp_gro;
  const bool announced = params_->dtls->dpd > std::chrono::seconds(0);
  spec.choice.dpd = announced ? Duration(params_->dtls->dpd) : kDefaultDpd;
  spec.choice.dead_after = 2 * spec.choice.dpd;
  spec.choice.retries = true;
  spec.inner_ipv6 = params_->ipv6.has_value();
  // Otherwise it gets its keys with those of the TLS connection.
  if (!params_->features.rekey) spec.rekey = params_->rekey_time;
  return spec;
}

RouteInput Connection::route_input() {
  const std::string& device = tunnel_.tun().name();
  // Those that we have loosened stay in the plan, or it would put them back.
  std::vector<std::string> strict = strict_devices(device);
  strict.insert(strict.end(), strict_devices_.begin(), strict_devices_.end());
  std::sort(strict.begin(), strict.end());
  strict.erase(std::unique(strict.begin(), strict.end()), strict.end());
  strict_devices_ = strict;
  return {device,      parts_.profile.routes, parts_.profile.routing, device_mtu(),
          host_ipv6(), endpoint_.address,     std::move(strict)};
}

Mtu Connection::mtu() const {
  const uint16_t granted = params_->mtu.value();
  return Mtu(std::min(granted, parts_.profile.mtu.value_or(granted)));
}

Mtu Connection::device_mtu() const {
  return std::min(mtu(), path_mtu_.value_or(mtu()));
}

std::string Connection::routes_text() const {
  if (parts_.profile.routes == RouteMode::kNone) return "none";
  const auto& summary = inside_.routes().summary;
  return summary.empty() ? "none" : joined(summary);
}

}  // namespace culvert::client
