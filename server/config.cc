#include "server/config.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "common/base/text.h"
#include "common/config/toml_file.h"
#include "common/net/tun_device.h"
#include "common/tls/certificate.h"
#include "server/identity.h"
#include "server/users.h"

namespace culvert::server {
namespace {

using config::TomlFile;
using config::TomlReader;
using std::chrono::hours;
using std::chrono::seconds;

// A pool must hold the server and a client; a larger one than these serves nobody.
constexpr uint8_t kShortestPool4 = 8;
constexpr uint8_t kLongestPool4 = 30;
constexpr uint8_t kShortestPool6 = 32;
constexpr uint8_t kLongestPool6 = 126;

std::string path_or(TomlReader& reader, std::string_view key, std::string_view dir) {
  const auto path = reader.path(key);
  if (path) return path->string();
  if (!reader.has(key)) {
    reader.problem(key, "missing", "the path of a PEM file, relative to " + std::string(dir));
  }
  return {};
}

void read_tls(TomlReader& reader, ServerConfig& out) {
  TlsSettings& tls = out.tls;
  tls.certificate = path_or(reader, "tls.certificate", out.dir);
  tls.key = path_or(reader, "tls.key", out.dir);
  tls.client_ca = path_or(reader, "tls.client_ca", out.dir);
  // A CA without a list is accepted in so many words only.
  if (const auto crl = reader.string("tls.crl"); crl != "none") {
    if (crl || !reader.has("tls.crl")) tls.crl = path_or(reader, "tls.crl", out.dir);
  }
  tls.accept_expired_crl = reader.choice("tls.crl_expired", {"refuse", "warn"}) == "warn";
  if (reader.choice("tls.min_version", {"1.2", "1.3"}) == "1.3") tls.min_version = TlsVersion::k13;
  const auto strength = reader.integer("tls.strength", 128, 256);
  if (strength && *strength != 128 && *strength != 256) {
    reader.problem("tls.strength", "must be 128 or 256");
  }
  tls.strength_256 = strength == 256;
}

std::optional<Prefix> read_pool(TomlReader& reader, std::string_view key, Family family) {
  const auto pool = reader.prefix(key);
  if (!pool) return std::nullopt;
  if (const auto status = check_pool(*pool, family); !status) {
    reader.problem(key, status.error().what, status.error().hint);
    return std::nullopt;
  }
  return pool;
}

void read_routes(TomlReader& reader, NetworkSettings& network) {
  network.routes = reader.prefix_list("network.routes");
  if (reader.has("network.routes") && network.routes.empty()) {
    reader.problem("network.routes", "is empty",
                   "list at least one network, or remove the key to send everything through the "
                   "tunnel");
  }
  for (const Prefix& route : network.routes) {
    if (route == route.network()) continue;
    reader.problem("network.routes", route.to_string() + " has bits set behind its length",
                   "the network is " + route.network().to_string());
  }
}

void read_network(TomlReader& reader, NetworkSettings& network) {
  network.ipv4 = read_pool(reader, "network.ipv4", Family::kV4);
  network.ipv6 = read_pool(reader, "network.ipv6", Family::kV6);
  if (!reader.has("network.ipv4") && !reader.has("network.ipv6")) {
    reader.problem("network.ipv4", "missing", "at least one of ipv4 and ipv6 is needed");
  }
  network.dns = reader.address_list("network.dns");
  read_routes(reader, network);
}

// RFC 8446 section 5.5: 2^24.5 records of full size.
constexpr int64_t kMostRekeyRecords = int64_t{1} << 24;

void read_seconds(TomlReader& reader, std::string_view key, seconds min, seconds max,
                  seconds& out) {
  const auto value = reader.duration(key, min, max);
  if (!value) return;
  out = std::chrono::duration_cast<seconds>(*value);
  if (out != *value) reader.problem(key, "must be whole seconds");
}

void read_session(TomlReader& reader, SessionSettings& session) {
  read_seconds(reader, "session.dpd", seconds(1), hours(1), session.dpd);
  read_seconds(reader, "session.keepalive", seconds(1), hours(24), session.keepalive);
  read_seconds(reader, "session.idle_timeout", seconds(0), hours(24 * 30), session.idle_timeout);
  read_seconds(reader, "session.rekey_time", seconds(0), hours(24 * 30), session.rekey_time);
  if (const auto records = reader.integer("session.rekey_records", 1000, kMostRekeyRecords)) {
    session.rekey_records = static_cast<uint64_t>(*records);
  }
  read_seconds(reader, "session.max_lifetime", seconds(0), hours(24 * 365), session.max_lifetime);
  read_seconds(reader, "session.cookie_timeout", seconds(1), hours(24 * 30),
               session.cookie_timeout);
  const auto limit = reader.integer("session.max_per_user", 1, 65535);
  if (limit) session.max_per_user = static_cast<uint32_t>(*limit);
}

// "dn:NAME" with a name that certificates can be searched for; nothing if it is something else. A
// name that no certificate ever has would shut everybody out.
std::optional<std::string> attribute_of(std::string_view text) {
  constexpr std::string_view kPrefix = "dn:";
  if (!text.starts_with(kPrefix)) return std::nullopt;
  const std::string_view name = text.substr(kPrefix.size());
  const auto known = tls::attribute_names();
  const bool good = std::any_of(known.begin(), known.end(), [&](std::string_view attribute) {
    return is_same_attribute(attribute, name);
  });
  return good ? std::optional(std::string(name)) : std::nullopt;
}

std::string attributes_hint() {
  std::string hint = "ATTRIBUTE is one of ";
  for (const std::string_view name : tls::attribute_names())
    hint += (hint.back() == ' ' ? "" : ", ") + std::string(name);
  return hint;
}

void read_identity(TomlReader& reader, IdentityRules& identity) {
  using Source = IdentityRules::Source;
  if (const auto user = reader.string("identity.user")) {
    if (*user == "email") {
      identity.source = Source::kEmail;
    } else if (*user == "upn") {
      identity.source = Source::kPrincipalName;
    } else if (const auto attribute =
                   *user == "cn" ? std::optional<std::string>("CN") : attribute_of(*user)) {
      identity.attribute = *attribute;
    } else {
      reader.problem("identity.user", "must be \"cn\", \"email\", \"upn\" or \"dn:ATTRIBUTE\"",
                     attributes_hint());
    }
  }
  identity.strip_domain = reader.boolean("identity.strip_domain").value_or(identity.strip_domain);
  if (const auto group = reader.string("identity.group")) {
    if (*group == "none") {
      identity.group_attribute.clear();
    } else if (const auto attribute =
                   *group == "ou" ? std::optional<std::string>("OU") : attribute_of(*group)) {
      identity.group_attribute = *attribute;
    } else {
      reader.problem("identity.group", "must be \"ou\", \"none\" or \"dn:ATTRIBUTE\"",
                     attributes_hint());
    }
  }
}

void read_listen(TomlReader& reader, ServerConfig& out) {
  const auto endpoint = reader.endpoint("listen.address");
  if (!reader.has("listen.address")) {
    reader.problem("listen.address", "missing", "for example \"[::]:443\"");
  }
  if (!endpoint) return;
  if (endpoint->port == 0) reader.problem("listen.address", "the port must not be 0");
  if (endpoint->address.is_multicast()) {
    reader.problem("listen.address", "a multicast address cannot be listened on");
  }
  out.listen = *endpoint;
}

// A name for an interface, in which one %d may stand for a number of up to two digits.
bool is_device_pattern(std::string name) {
  if (const auto number = name.find("%d"); number != std::string::npos) {
    name.replace(number, 2, "00");
  }
  return net::is_interface_name(name);
}

void read_tun(TomlReader& reader, ServerConfig& out) {
  out.tun_offloads = reader.boolean("tun.offloads").value_or(out.tun_offloads);
  out.tun_steering = reader.boolean("tun.steering").value_or(out.tun_steering);
  const auto device = reader.string("tun.device");
  if (!device) return;
  if (!is_device_pattern(*device)) {
    reader.problem("tun.device", "not a name for a network device",
                   "at most 15 characters; %d stands for the first free number");
  }
  out.tun_device = *device;
}

void read_udp(TomlReader& reader, UdpSettings& udp) {
  udp.enabled = reader.boolean("udp.enabled").value_or(udp.enabled);
  udp.gso = reader.boolean("udp.gso").value_or(udp.gso);
  udp.gro = reader.boolean("udp.gro").value_or(udp.gro);
}

void read_profile(TomlReader& reader, ProfileSettings& profile) {
  profile.name = reader.required_string("profile.name", "the name in the server's certificate");
  if (!profile.name.empty() && !is_host_name(profile.name) && !IpAddress::parse(profile.name)) {
    reader.problem("profile.name", "neither a host name nor an IP address");
  }
  profile.address = reader.string("profile.address").value_or(profile.name);
  if (const auto parsed = HostPort::parse(profile.address);
      !parsed && reader.has("profile.address")) {
    reader.problem("profile.address", parsed.error().what, parsed.error().hint);
  }
}

void read_log(TomlReader& reader, LogSettings& settings) {
  const auto level = reader.choice("log.level", {"trace", "debug", "info", "warning", "error"});
  if (level) settings.level = log::parse_level(*level).value_or(settings.level);
  const auto format = reader.choice("log.format", {"text", "json"});
  if (format) settings.format = log::parse_format(*format).value_or(settings.format);
}

// Keys that the documentation of later versions knows: silence would be taken for obedience.
void refuse_later_keys(TomlReader& reader) {
  const std::string remedy = "remove it; this version does without";
  if (reader.has("group")) {
    reader.problem("group", "access rules for groups are not supported yet", remedy);
  }
  for (const std::string_view key : {"network.forward", "network.nat", "network.mtu"}) {
    if (reader.has(key)) reader.problem(key, "not supported yet", remedy);
  }
}

// A number, or "auto"; a number in quotes is understood as well.
void read_workers(TomlReader& reader, ServerConfig& out) {
  if (!reader.has("workers.count")) return;
  if (!reader.is_string("workers.count")) {
    const auto count = reader.integer("workers.count", 1, kMostWorkers);
    if (count) out.workers = static_cast<uint32_t>(*count);
    return;
  }
  const auto word = reader.string("workers.count");
  if (!word || *word == "auto") return;
  if (const auto count = parse_decimal(*word, 1, kMostWorkers)) {
    out.workers = static_cast<uint32_t>(*count);
  } else {
    reader.problem("workers.count",
                   "must be \"auto\" or a number from 1 to " + std::to_string(kMostWorkers));
  }
}

void read_general(TomlReader& reader, ServerConfig& out) {
  if (reader.choice("unknown_users", {"allow", "refuse"}) == "refuse") {
    out.unknown_users = UnknownUsers::kRefuse;
  }
  const auto user = reader.string("user");
  if (!user) return;
  if (!is_user_name(*user)) reader.problem("user", "not the name of a system user");
  out.user = *user;
}

Result<ServerConfig> read_config(const TomlFile& file, const std::string& path) {
  ServerConfig out;
  out.file = std::filesystem::absolute(path).lexically_normal().string();
  out.dir = std::filesystem::path(out.file).parent_path().string();
  TomlReader reader(file);
  refuse_later_keys(reader);
  read_general(reader, out);
  read_listen(reader, out);
  read_tls(reader, out);
  read_network(reader, out.network);
  read_session(reader, out.session);
  read_identity(reader, out.identity);
  read_profile(reader, out.profile);
  read_tun(reader, out);
  read_udp(reader, out.udp);
  read_workers(reader, out);
  read_log(reader, out.log);
  if (auto status = reader.finish(); !status) return status.error();
  return out;
}

bool is_label(std::string_view label) {
  const auto good = [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  };
  return !label.empty() && label.size() <= 63 && label.front() != '-' && label.back() != '-' &&
         std::all_of(label.begin(), label.end(), good);
}

}  // namespace

Result<ServerConfig> load_config(const std::string& path) {
  const std::string absolute = std::filesystem::absolute(path).lexically_normal().string();
  const auto file = TomlFile::load(absolute);
  if (!file) {
    Error error = file.error();
    std::error_code ignored;
    if (!std::filesystem::exists(absolute, ignored) && !ignored) {
      error.hint = "culvertd init makes one; --dir or -c says where it is";
    }
    return error;
  }
  return read_config(*file, absolute);
}

Result<ServerConfig> parse_config(std::string_view text, const std::string& path) {
  const auto file = TomlFile::parse(text, path);
  if (!file) return file.error();
  return read_config(*file, path);
}

Status check_pool(const Prefix& pool, Family family) {
  const bool v4 = family == Family::kV4;
  const auto bad = [&](std::string what, std::string hint = {}) {
    return fail(ErrorCode::kUsage, std::move(what), pool.to_string(), std::move(hint));
  };
  if (pool.address.family() != family) {
    return bad(v4 ? "not an IPv4 network" : "not an IPv6 network");
  }
  const uint8_t shortest = v4 ? kShortestPool4 : kShortestPool6;
  const uint8_t longest = v4 ? kLongestPool4 : kLongestPool6;
  if (pool.length < shortest || pool.length > longest) {
    return bad("the length must be between /" + std::to_string(shortest) + " and /" +
               std::to_string(longest));
  }
  if (pool != pool.network()) {
    return bad("has bits set behind its length", "the network is " + pool.network().to_string());
  }
  if (pool.address.is_multicast() || pool.address.is_loopback() || pool.address.is_link_local()) {
    return bad("cannot be given to clients", "use a private network");
  }
  return {};
}

bool is_host_name(std::string_view text) {
  if (text.empty() || text.size() > 253) return false;
  const auto labels = split(text, '.');
  // An all-numeric last label would be a mistyped IPv4 address (RFC 1123 section 2.1).
  const std::string_view last = labels.back();
  if (std::all_of(last.begin(), last.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return false;
  }
  return std::all_of(labels.begin(), labels.end(), is_label);
}

Result<HostPort> HostPort::parse(std::string_view text) {
  const auto bad = [&](std::string what) {
    return fail(ErrorCode::kUsage, std::move(what), std::string(text),
                "HOST or HOST:PORT; an IPv6 address with a port goes in brackets");
  };
  if (const auto bare = IpAddress::parse(text)) return HostPort{std::string(text), std::nullopt};

  HostPort out;
  std::string_view rest;
  const bool bracketed = text.substr(0, 1) == "[";
  if (bracketed) {
    const auto end = text.find(']');
    if (end == std::string_view::npos) return bad("']' is missing");
    out.host = text.substr(1, end - 1);
    rest = text.substr(end + 1);
    const auto address = IpAddress::parse(out.host);
    if (!address || address->is_v4()) return bad("no IPv6 address in the brackets");
  } else {
    const auto colon = text.find(':');
    out.host = text.substr(0, colon);
    rest = colon == std::string_view::npos ? std::string_view() : text.substr(colon);
    if (!is_host_name(out.host) && !IpAddress::parse(out.host)) {
      return bad("neither a host name nor an IP address");
    }
  }
  if (rest.empty()) return out;
  const auto port = parse_decimal(rest.substr(1), 1, 65535);
  if (rest.front() != ':' || !port) return bad("not a port (1-65535) behind the host");
  out.port = static_cast<uint16_t>(*port);
  return out;
}

std::string HostPort::to_string() const {
  const bool brackets = host.find(':') != std::string::npos;
  std::string out = brackets ? "[" + host + "]" : host;
  if (port && *port != kDefaultPort) out += ":" + std::to_string(*port);
  return out;
}

}  // namespace culvert::server
