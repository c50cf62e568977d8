#include "server/live_views.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "common/base/text.h"

namespace culvert::server {
namespace {

using Json = nlohmann::json;

const Json& member(const Json& object, const char* name) {
  static const Json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(name);
  return found == object.end() ? nothing : *found;
}

// Peers have a say in some of the strings.
std::string text(const Json& value) {
  if (value.is_string()) {
    const auto& raw = value.get_ref<const std::string&>();
    return raw.empty() ? "-" : escape_for_display(raw);
  }
  if (value.is_number_float()) return std::to_string(value.get<double>());
  if (value.is_number_unsigned()) return std::to_string(value.get<uint64_t>());
  if (value.is_number_integer()) return std::to_string(value.get<int64_t>());
  return "-";
}

double number(const Json& value) {
  return value.is_number() ? value.get<double>() : 0;
}

std::string joined(const Json& list) {
  std::string out;
  if (!list.is_array()) return "-";
  for (const Json& item : list)
    out += (out.empty() ? "" : ", ") + text(item);
  return out.empty() ? "-" : out;
}

// {"revoked": 1, "no_certificate": 2} to "no_certificate 2, revoked 1".
std::string counts(const Json& object) {
  std::string out;
  if (!object.is_object()) return out;
  for (const auto& item : object.items()) {
    if (number(item.value()) == 0) continue;
    out += (out.empty() ? "" : ", ") + escape_for_display(item.key()) + " " + text(item.value());
  }
  return out;
}

void row(std::string& out, std::string label, const std::string& value) {
  label.resize(std::max<size_t>(label.size() + 1, 14), ' ');
  out += label + value + "\n";
}

std::string traffic(const Json& object) {
  return human_bytes(number(member(object, "rx_bytes"))) + " in " +
         text(member(object, "rx_packets")) + " packets received, " +
         human_bytes(number(member(object, "tx_bytes"))) + " in " +
         text(member(object, "tx_packets")) + " sent";
}

std::string logins(const Json& object) {
  std::string out = text(member(object, "accepted")) + " accepted, " +
                    text(member(object, "refused_total")) + " refused";
  const std::string reasons = counts(member(object, "refused"));
  if (!reasons.empty()) out += " (" + reasons + ")";
  return out;
}

// How many there are in an IPv6 network is of no interest.
std::string pool_view(const Json& pool) {
  const Json& capacity = member(pool, "capacity");
  std::string out = text(member(pool, "used"));
  if (number(capacity) < 1e8) out += " of " + text(capacity);
  return out + " used in " + text(member(pool, "network"));
}

std::string listens_for(const Json& udp) {
  if (!udp.is_object()) return ", TCP only";
  const auto is_on = [&](const char* name) { return member(udp, name) == Json(true); };
  std::string out = ", TCP and UDP";
  if (!is_on("gso") || !is_on("gro")) {
    out += std::string(" (without") + (is_on("gso") ? "" : " gso") + (is_on("gro") ? "" : " gro") +
           ")";
  }
  return out;
}

std::string threads(const Json& workers) {
  if (!workers.is_array()) return "-";
  double packets = 0;
  double drops = 0;
  for (const Json& worker : workers) {
    packets += number(member(worker, "packets_handed_over"));
    drops += number(member(worker, "handover_drops"));
  }
  std::string out = std::to_string(workers.size());
  if (workers.size() < 2) return out;
  out += ", " + std::to_string(static_cast<uint64_t>(packets)) + " packets passed on to each other";
  if (drops > 0) out += ", " + std::to_string(static_cast<uint64_t>(drops)) + " dropped there";
  return out;
}

std::string addresses(const Json& session) {
  std::string out;
  for (const char* family : {"ipv4", "ipv6"}) {
    const std::string address = text(member(session, family));
    if (address != "-") out += (out.empty() ? "" : " ") + address;
  }
  return out.empty() ? "-" : out;
}

using Row = std::vector<std::string>;

std::string table(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows.front().size());
  for (const Row& cells : rows) {
    for (size_t i = 0; i < cells.size(); ++i)
      widths[i] = std::max(widths[i], cells[i].size());
  }
  std::string out;
  for (const Row& cells : rows) {
    for (size_t i = 0; i < cells.size(); ++i) {
      out += cells[i];
      if (i + 1 < cells.size()) out.append(widths[i] - cells[i].size() + 2, ' ');
    }
    out += "\n";
  }
  return out;
}

}  // namespace

std::string human_bytes(double bytes) {
  constexpr std::array<const char*, 6> kUnits{"B", "kB", "MB", "GB", "TB", "PB"};
  size_t unit = 0;
  while (bytes >= 1000 && unit + 1 < kUnits.size()) {
    bytes /= 1000;
    ++unit;
  }
  std::array<char, 32> buffer{};
  const int length = std::snprintf(buffer.data(), buffer.size(), unit == 0 ? "%.0f %s" : "%.1f %s",
                                   bytes, kUnits.at(unit));
  return {buffer.data(), static_cast<size_t>(std::max(length, 0))};
}

std::string human_seconds(double seconds) {
  const auto whole = static_cast<int64_t>(std::clamp(seconds, 0.0, 1e15));
  const struct {
    int64_t size;
    const char* name;
  } units[] = {{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}};
  std::string out;
  int parts = 0;
  int64_t rest = whole;
  for (const auto& unit : units) {
    const int64_t count = rest / unit.size;
    rest %= unit.size;
    if (count == 0 && (parts == 0 || rest == 0)) continue;
    if (parts == 2) break;
    if (count != 0) out += (parts == 0 ? "" : " ") + std::to_string(count) + unit.name;
    ++parts;
  }
  return out.empty() ? "0s" : out;
}

std::string status_view(const Json& status) {
  std::string out;
  row(out, "culvertd",
      text(member(status, "version")) + ", pid " + text(member(status, "pid")) + ", user " +
          text(member(status, "user")) + ", up " +
          human_seconds(number(member(status, "uptime_s"))));
  row(out, "configuration", text(member(status, "config")));
  row(out, "listens on", text(member(status, "listen")) + listens_for(member(status, "udp")));
  row(out, "data threads", threads(member(status, "workers")));
  const Json& tun = member(status, "tun");
  row(out, "inside",
      text(member(tun, "device")) + ", " + joined(member(tun, "addresses")) +
          ", offloads: " + text(member(tun, "offloads")));
  const Json& certificate = member(status, "certificate");
  row(out, "certificate",
      joined(member(certificate, "names")) + ", until " + text(member(certificate, "not_after")) +
          " (" + text(member(certificate, "days_left")) + " days)");
  const Json& sessions = member(status, "sessions");
  row(out, "sessions",
      text(member(sessions, "total")) + " (" + text(member(sessions, "attached")) + " connected, " +
          text(member(sessions, "detached")) + " waiting to come back)");
  if (const Json& pools = member(status, "pools"); pools.is_array()) {
    for (const Json& pool : pools) {
      row(out, "addresses", pool_view(pool));
    }
  }
  row(out, "logins", logins(member(status, "logins")));
  row(out, "traffic", traffic(member(status, "traffic")));
  return out;
}

std::string sessions_view(const Json& sessions) {
  const Json& list = member(sessions, "sessions");
  if (!list.is_array() || list.empty()) return "No sessions.\n";
  std::vector<Row> rows{{"ID", "USER", "STATE", "SINCE", "ADDRESSES", "FROM", "CHANNEL",
                         "CHANNEL SINCE", "WHY", "RECEIVED", "SENT"}};
  for (const Json& session : list) {
    std::string channel = text(member(session, "channel"));
    const std::string version = text(member(session, "tls"));
    if (channel == "tls" && version != "-") channel += " " + version;
    rows.push_back({text(member(session, "id")), text(member(session, "user")),
                    text(member(session, "state")), text(member(session, "since")),
                    addresses(session), text(member(session, "remote")), channel,
                    text(member(session, "channel_since")), text(member(session, "channel_reason")),
                    human_bytes(number(member(session, "rx_bytes"))),
                    human_bytes(number(member(session, "tx_bytes")))});
  }
  return table(rows);
}

}  // namespace culvert::server
