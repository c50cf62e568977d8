#include "server/control_commands.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>
#include <utility>

#include "common/base/text.h"
#include "common/control/protocol.h"

namespace culvert::server {
namespace {

using control::Json;
using control::Responder;

// ---- views --------------------------------------------------------------------------------------

template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(value->to_string()) : Json();
}

Json text_or_null(const std::string& text) {
  return text.empty() ? Json() : Json(text);
}

int64_t whole_seconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::seconds>(duration).count();
}

void add_traffic(Json& object, const tunnel::Counters& counters) {
  object["rx_packets"] = counters.rx_packets;
  object["rx_bytes"] = counters.rx_bytes;
  object["tx_packets"] = counters.tx_packets;
  object["tx_bytes"] = counters.tx_bytes;
}

Json drops_of(const tunnel::Counters& counters) {
  Json drops = Json::object();
  for (size_t i = 0; i < tunnel::kDropReasonCount; ++i) {
    const auto reason = static_cast<tunnel::DropReason>(i);
    if (counters.dropped(reason) == 0) continue;
    drops[std::string(tunnel::name_of(reason))] = counters.dropped(reason);
  }
  return drops;
}

Json session_view(const Session& session, TimePoint now) {
  Json networks = Json::array();
  for (const Prefix& network : session.networks)
    networks.push_back(network.to_string());
  Json view{{"id", session.id.value()},
            {"user", session.user},
            {"group", session.group},
            {"state", name_of(session.state)},
            {"remote", session.remote.to_string()},
            {"ipv4", or_null(session.ipv4)},
            {"ipv6", or_null(session.ipv6)},
            {"networks", std::move(networks)},
            {"channel", text_or_null(session.channel)},
            {"channel_reason", text_or_null(session.channel_reason)},
            {"channel_since", nullptr},
            {"dtls_cipher", text_or_null(session.dtls_cipher)},
            {"path_mtu", nullptr},
            {"worker", session.worker},
            {"since", to_iso8601(session.logged_in_at)},
            {"connected_since", nullptr},
            {"expires_s", nullptr},
            {"tls", text_or_null(session.tls_version)},
            {"cipher", text_or_null(session.cipher)},
            {"mtu", nullptr},
            {"rekeys", session.rekeys},
            {"roams", session.roams},
            {"drops", drops_of(session.counters)},
            {"user_agent", session.user_agent},
            {"certificate",
             {{"subject", session.certificate.subject},
              {"serial", session.certificate.serial_hex},
              {"not_after", to_iso8601(session.certificate.not_after)}}}};
  if (session.connected_at) view["connected_since"] = to_iso8601(*session.connected_at);
  if (session.expires) {
    view["expires_s"] = std::max<int64_t>(0, whole_seconds(*session.expires - now));
  }
  if (session.mtu) view["mtu"] = session.mtu->value();
  if (session.mtu) view["path_mtu"] = session.path_mtu.value_or(*session.mtu).value();
  if (session.channel_since) view["channel_since"] = to_iso8601(*session.channel_since);
  add_traffic(view, session.counters);
  return view;
}

Json sessions_view(ControlTarget& target) {
  Json list = Json::array();
  target.sessions().table().for_each([&](const Session& session) {
    if (session.state == SessionState::kEnding) return;
    list.push_back(session_view(session, target.now()));
  });
  return {{"sessions", std::move(list)}};
}

Json certificate_view(const tls::CertificateInfo& certificate) {
  Json names = certificate.dns_names;
  for (const IpAddress& address : certificate.ip_addresses)
    names.push_back(address.to_string());
  const auto left = std::chrono::floor<std::chrono::days>(certificate.not_after - wall_now());
  return {{"subject", certificate.subject},
          {"names", std::move(names)},
          {"not_after", to_iso8601(certificate.not_after)},
          {"days_left", left.count()}};
}

Json logins_view(const LoginCounters& logins) {
  uint64_t total = 0;
  for (const auto& [reason, count] : logins.refused)
    total += count;
  return {{"accepted", logins.accepted}, {"refused_total", total}, {"refused", logins.refused}};
}

Json sessions_summary(const SessionTable& table) {
  const size_t attached = table.count(SessionState::kAttached);
  const size_t detached = table.count(SessionState::kDetached);
  const size_t logged_in = table.count(SessionState::kLoggedIn);
  return {{"attached", attached},
          {"detached", detached},
          {"logged_in", logged_in},
          {"total", attached + detached + logged_in}};
}

Json udp_view(const DataPlaneStats::Udp& udp) {
  const tunnel::UdpPort::Stats& traffic = udp.traffic;
  const tunnel::DtlsFront::Stats& strangers = udp.strangers;
  return {{"gso", udp.gso},
          {"gro", udp.gro},
          {"sent", traffic.sent},
          {"send_calls", traffic.send_calls},
          {"received", traffic.received},
          {"receive_calls", traffic.receive_calls},
          {"dropped", traffic.dropped},
          {"too_large", traffic.too_large},
          {"failed", traffic.failed},
          {"truncated", traffic.truncated},
          {"handshakes", strangers.accepted},
          {"challenged", strangers.challenged},
          {"unknown_app_id", strangers.unknown_app},
          {"stray", strangers.stray}};
}

Json workers_view(const std::vector<DataPlaneStats::Worker>& workers) {
  Json list = Json::array();
  for (const DataPlaneStats::Worker& worker : workers) {
    list.push_back({{"sessions", worker.sessions},
                    {"packets_handed_over", worker.packets_handed_over},
                    {"trains_handed_over", worker.trains_handed_over},
                    {"handover_drops", worker.handover_drops}});
  }
  return list;
}

Json status_view(ControlTarget& target) {
  SessionManager& sessions = target.sessions();
  const ServerFacts& facts = target.facts();
  Json pools = Json::array();
  Json addresses = Json::array();
  for (const Family family : {Family::kV4, Family::kV6}) {
    const auto& pool = sessions.pool(family);
    if (!pool) continue;
    addresses.push_back(pool->server_address().to_string());
    pools.push_back({{"network", pool->network().to_string()},
                     {"used", pool->used()},
                     {"capacity", pool->capacity()}});
  }
  Json traffic = Json::object();
  add_traffic(traffic, sessions.traffic());
  traffic["no_session"] = sessions.unrouted();
  return {{"version", CULVERT_VERSION},
          {"pid", ::getpid()},
          {"user", facts.user},
          {"started", to_iso8601(facts.started)},
          {"uptime_s", whole_seconds(target.now() - facts.started_at)},
          {"config", facts.config_file},
          {"listen", facts.listen},
          {"workers", workers_view(sessions.workers())},
          {"udp", sessions.udp() ? udp_view(*sessions.udp()) : Json()},
          {"tun",
           {{"device", facts.device},
            {"offloads", facts.offloads},
            {"steering", facts.steering},
            {"addresses", std::move(addresses)}}},
          {"sessions", sessions_summary(sessions.table())},
          {"pools", std::move(pools)},
          {"certificate", certificate_view(target.tls().own_certificate())},
          {"logins", logins_view(sessions.logins())},
          {"traffic", std::move(traffic)}};
}

Json ids_view(const std::vector<SessionId>& ids) {
  Json list = Json::array();
  for (const SessionId id : ids)
    list.push_back(id.value());
  return list;
}

// ---- actions ------------------------------------------------------------------------------------

// The sessions of a user of that name, else the session with that number.
std::vector<SessionId> sessions_named(const SessionTable& table, std::string_view who) {
  std::vector<SessionId> by_user;
  std::vector<SessionId> by_id;
  table.for_each([&](const Session& session) {
    if (session.state == SessionState::kEnding) return;
    if (session.user == who) by_user.push_back(session.id);
    if (std::to_string(session.id.value()) == who) by_id.push_back(session.id);
  });
  return by_user.empty() ? by_id : by_user;
}

Result<Json> disconnect(ControlTarget& target, const control::Request& request) {
  const auto who = request.text("who");
  if (!who) return who.error();
  const auto ids = sessions_named(target.sessions().table(), *who);
  if (ids.empty()) {
    return fail(ErrorCode::kFailure, "there is no session of that user or with that number",
                escape_for_display(*who), "culvertd sessions lists them");
  }
  for (const SessionId id : ids)
    target.sessions().end(id, "disconnected by the administrator");
  return Json{{"ended", ids_view(ids)}};
}

void reload(ControlTarget& target, Responder responder) {
  target.reload([r = std::move(responder)](Result<ReloadOutcome> outcome) mutable {
    if (!outcome) return r.answer(outcome.error());
    r.answer(Json{{"ended", ids_view(outcome->ended)}, {"needs_restart", outcome->needs_restart}});
  });
}

void handle(ControlTarget& target, const control::Request& request, Responder responder) {
  const std::string& command = request.command;
  if (command == "status" || command == "sessions") {
    const auto view = command == "status" ? status_view : sessions_view;
    target.refresh([&target, view, r = std::move(responder)]() mutable { r.answer(view(target)); });
  } else if (command == "disconnect") {
    responder.answer(disconnect(target, request));
  } else if (command == "reload") {
    reload(target, std::move(responder));
  } else {
    responder.answer(fail(ErrorCode::kUsage, "the server does not know this command",
                          escape_for_display(command)));
  }
}

}  // namespace

Result<std::unique_ptr<control::ControlServer>> serve_control(loop::Loop& loop,
                                                              const std::string& path,
                                                              ControlTarget& target) {
  return control::ControlServer::listen(
      loop, path, 0600, [&target](const control::Request& request, Responder responder) {
        handle(target, request, std::move(responder));
      });
}

}  // namespace culvert::server
