#include "client/status_view.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "common/base/text.h"

namespace culvert::client {
namespace {

using control::Json;

Json error_members(const Error& error) {
  return {{"code", name_of(error.code)},
          {"what", error.what},
          {"where", error.where},
          {"hint", error.hint}};
}

Json dns_json(const DnsStatus& dns) {
  return {{"servers", dns.servers},
          {"domains", dns.domains},
          {"method", dns.method},
          {"applied", dns.applied},
          {"problem", dns.problem}};
}

std::string text_of(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

uint64_t number_of(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number_integer()) return 0;
  return static_cast<uint64_t>(std::max<int64_t>(found->get<int64_t>(), 0));
}

std::vector<std::string> list_of(const Json& json, const char* key) {
  std::vector<std::string> list;
  const auto found = json.find(key);
  if (found == json.end() || !found->is_array()) return list;
  for (const Json& item : *found)
    if (item.is_string()) list.push_back(item.get<std::string>());
  return list;
}

Json object_of(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_object() ? *found : Json::object();
}

std::optional<Error> error_from(const Json& json) {
  if (json.empty()) return std::nullopt;
  Error error;
  error.what = text_of(json, "what");
  error.where = text_of(json, "where");
  error.hint = text_of(json, "hint");
  return error;
}

void read_counters(const Json& json, TunnelStatus& status) {
  const Json rx = object_of(json, "rx");
  const Json tx = object_of(json, "tx");
  status.rx_packets = number_of(rx, "packets");
  status.rx_bytes = number_of(rx, "bytes");
  status.tx_packets = number_of(tx, "packets");
  status.tx_bytes = number_of(tx, "bytes");
  const Json drops = object_of(json, "drops");
  for (const auto& [reason, count] : drops.items())
    if (count.is_number_unsigned()) status.drops[reason] = count.get<uint64_t>();
}

std::string joined(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items)
    text += (text.empty() ? "" : ", ") + escape_for_display(item);
  return text;
}

// Aligned "  label: value" lines; empty values are left out.
class Lines {
 public:
  void add(std::string_view label, const std::string& value) {
    if (value.empty()) return;
    text_ += "  " + std::string(label) + ":";
    text_.append(label.size() < kWidth ? kWidth - label.size() : 1, ' ');
    text_ += value + "\n";
  }
  [[nodiscard]] std::string take() && { return std::move(text_); }

 private:
  static constexpr size_t kWidth = 10;
  std::string text_;
};

std::string dns_text(const DnsStatus& dns) {
  if (dns.servers.empty()) return {};
  std::string text = joined(dns.servers);
  if (!dns.domains.empty()) text += " for " + joined(dns.domains);
  if (dns.applied) return text + " (" + dns.method + ")";
  return text + " (not applied: " + escape_for_display(dns.problem) + ")";
}

std::string traffic_text(const TunnelStatus& status) {
  std::string text = "received " + human_bytes(status.rx_bytes) + " in " +
                     std::to_string(status.rx_packets) + " packets, sent " +
                     human_bytes(status.tx_bytes) + " in " + std::to_string(status.tx_packets);
  uint64_t dropped = 0;
  for (const auto& [reason, count] : status.drops)
    dropped += count;
  if (dropped > 0) text += ", dropped " + std::to_string(dropped);
  return text;
}

// "dtls for 5m, TLS-PSK-WITH-AES-128-GCM-SHA256", "tls for 5m, TLSv1.3, … (udp silent)".
std::string channel_text(const TunnelStatus& status, WallTime now) {
  if (status.channel.empty()) return {};
  std::string text = status.channel;
  if (status.channel_since) text += " for " + human_time(now - *status.channel_since);
  if (status.channel == "dtls") return text + ", " + status.dtls_cipher;
  text += ", " + status.tls + ", " + status.cipher;
  if (!status.channel_reason.empty()) text += " (" + status.channel_reason + ")";
  return text;
}

std::string state_text(const TunnelStatus& status, WallTime now) {
  std::string text = status.state;
  std::replace(text.begin(), text.end(), '_', ' ');
  if (status.since) text += " for " + human_time(now - *status.since);
  if (status.next_attempt_seconds)
    text += ", next attempt in " + std::to_string(*status.next_attempt_seconds) + "s";
  return text;
}

}  // namespace

control::Json to_json(const TunnelStatus& status) {
  Json json = {
      {"schema", kStatusSchema},
      {"name", status.name},
      {"pid", status.pid},
      {"state", status.state},
      {"since", status.since ? Json(to_iso8601(*status.since)) : Json()},
      {"since_unix", status.since ? Json(status.since->time_since_epoch().count()) : Json()},
      {"server", status.server},
      {"address", status.address},
      {"user", status.user},
      {"certificate", status.certificate},
      {"server_certificate", status.server_certificate},
      {"device", status.device},
      {"ipv4", status.ipv4.empty() ? Json() : Json(status.ipv4)},
      {"ipv6", status.ipv6.empty() ? Json() : Json(status.ipv6)},
      {"mtu", status.mtu},
      {"channel", status.channel.empty() ? Json() : Json(status.channel)},
      {"channel_reason", status.channel_reason},
      {"channel_since", status.channel_since ? Json(to_iso8601(*status.channel_since)) : Json()},
      {"channel_since_unix",
       status.channel_since ? Json(status.channel_since->time_since_epoch().count()) : Json()},
      {"dtls_cipher", status.dtls_cipher.empty() ? Json() : Json(status.dtls_cipher)},
      {"offloads",
       {{"tun", status.offloads}, {"udp_gso", status.udp_gso}, {"udp_gro", status.udp_gro}}},
      {"tls", status.tls},
      {"cipher", status.cipher},
      {"routing", status.routing},
      {"routes", status.routes},
      {"dns", dns_json(status.dns)},
      {"banner", status.banner},
      {"rx", {{"packets", status.rx_packets}, {"bytes", status.rx_bytes}}},
      {"tx", {{"packets", status.tx_packets}, {"bytes", status.tx_bytes}}},
      {"drops", status.drops},
      {"reconnects", status.reconnects},
      {"rekeys", status.rekeys},
      {"roams", status.roams}};
  json["last_error"] = status.last_error ? error_members(*status.last_error) : Json();
  json["next_attempt_seconds"] =
      status.next_attempt_seconds ? Json(*status.next_attempt_seconds) : Json();
  return json;
}

TunnelStatus status_from_json(const control::Json& json) {
  TunnelStatus status;
  if (!json.is_object()) return status;
  status.name = text_of(json, "name");
  status.pid = static_cast<int64_t>(number_of(json, "pid"));
  status.state = text_of(json, "state");
  if (const uint64_t since = number_of(json, "since_unix"); since != 0)
    status.since = WallTime(std::chrono::seconds(since));
  status.server = text_of(json, "server");
  status.address = text_of(json, "address");
  status.user = text_of(json, "user");
  status.certificate = text_of(json, "certificate");
  status.server_certificate = text_of(json, "server_certificate");
  status.device = text_of(json, "device");
  status.ipv4 = text_of(json, "ipv4");
  status.ipv6 = text_of(json, "ipv6");
  status.mtu = static_cast<uint16_t>(number_of(json, "mtu"));
  status.channel = text_of(json, "channel");
  status.channel_reason = text_of(json, "channel_reason");
  if (const uint64_t since = number_of(json, "channel_since_unix"); since != 0)
    status.channel_since = WallTime(std::chrono::seconds(since));
  status.dtls_cipher = text_of(json, "dtls_cipher");
  const Json offloads = object_of(json, "offloads");
  status.offloads = text_of(offloads, "tun");
  status.udp_gso = offloads.value("udp_gso", false);
  status.udp_gro = offloads.value("udp_gro", false);
  status.tls = text_of(json, "tls");
  status.cipher = text_of(json, "cipher");
  status.routing = text_of(json, "routing");
  status.routes = list_of(json, "routes");
  const Json dns = object_of(json, "dns");
  status.dns = {list_of(dns, "servers"), list_of(dns, "domains"), text_of(dns, "method"),
                dns.value("applied", false), text_of(dns, "problem")};
  status.banner = text_of(json, "banner");
  read_counters(json, status);
  status.reconnects = number_of(json, "reconnects");
  status.rekeys = number_of(json, "rekeys");
  status.roams = number_of(json, "roams");
  status.last_error = error_from(object_of(json, "last_error"));
  if (const auto next = json.find("next_attempt_seconds");
      next != json.end() && next->is_number_integer())
    status.next_attempt_seconds = next->get<int64_t>();
  return status;
}

std::string to_text(const TunnelStatus& status, WallTime now) {
  Lines lines;
  lines.add("server", escape_for_display(status.server) +
                          (status.address.empty() ? "" : " at " + status.address));
  lines.add("identity", escape_for_display(status.certificate));
  lines.add("channel", channel_text(status, now));
  lines.add("device",
            status.device + (status.mtu == 0 ? "" : ", MTU " + std::to_string(status.mtu)));
  lines.add("IPv4", status.ipv4);
  lines.add("IPv6", status.ipv6);
  lines.add("routes", status.routing == "none" ? std::string("none") : joined(status.routes));
  lines.add("DNS", dns_text(status.dns));
  lines.add("traffic", traffic_text(status));
  if (status.reconnects > 0) lines.add("reconnected", std::to_string(status.reconnects) + " times");
  if (status.last_error) lines.add("last error", escape_for_display(status.last_error->message()));
  lines.add("message", escape_for_display(status.banner));
  return status.name + ": " + state_text(status, now) + "\n" + std::move(lines).take();
}

control::Json to_json(const Error& error) {
  return {{"error", error_members(error)}};
}

std::string human_bytes(uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f %s", value, kUnits[unit]);
  return text.data();
}

std::string human_time(std::chrono::seconds time) {
  const int64_t seconds = std::max<int64_t>(time.count(), 0);
  constexpr int64_t kMinute = 60, kHour = 3600, kDay = 86400;
  const auto with = [](int64_t value, const char* unit) { return std::to_string(value) + unit; };
  if (seconds < kMinute) return with(seconds, "s");
  if (seconds < kHour) return with(seconds / kMinute, "m");
  if (seconds < kDay) return with(seconds / kHour, "h ") + with(seconds % kHour / kMinute, "m");
  return with(seconds / kDay, "d ") + with(seconds % kDay / kHour, "h");
}

}  // namespace culvert::client
