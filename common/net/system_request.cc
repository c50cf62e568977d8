#include "common/net/system_request.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>
#include <vector>

#include "common/base/text.h"
#include "common/net/request_line.h"
#include "common/net/tun_device.h"

namespace culvert::net {
namespace {

constexpr size_t kMaxSysctlValue = 64;
constexpr uint32_t kMinMtu = 68;  // RFC 791; the kernel's own lower limit
constexpr uint32_t kMaxMtu = 65535;

Error invalid(std::string what, std::string_view where) {
  return fail(ErrorCode::kUsage, std::move(what), escape_for_display(where));
}

// ---- validity

Status check_device(std::string_view device) {
  if (is_interface_name(device)) return {};
  return invalid("not the name of a network interface", device);
}

Status check_prefix(const Prefix& prefix) {
  if (prefix.length <= prefix.address.bits()) return {};
  return invalid("prefix length out of range", prefix.to_string());
}

Status check_mtu(const std::optional<uint32_t>& mtu) {
  if (!mtu || (*mtu >= kMinMtu && *mtu <= kMaxMtu)) return {};
  return invalid("MTU out of range (68 to 65535)", std::to_string(*mtu));
}

Status check_route(const Route& route) {
  const Family family = route.destination.address.family();
  const bool discards = route.type != Route::Type::kUnicast;
  if (auto status = check_prefix(route.destination); !status) return status;
  if (auto status = check_mtu(route.mtu); !status) return status;
  if (!route.device.empty()) {
    if (auto status = check_device(route.device); !status) return status;
  }
  if (discards && (!route.device.empty() || route.gateway)) {
    return invalid("a route that discards has neither device nor gateway", route.to_string());
  }
  if (!discards && route.device.empty() && !route.gateway) {
    return invalid("a route needs a device or a gateway", route.to_string());
  }
  if ((route.gateway && route.gateway->family() != family) ||
      (route.preferred_source && route.preferred_source->family() != family)) {
    return invalid("addresses of both families in one route", route.to_string());
  }
  if (route.table == 0) return invalid("table 0 does not exist", route.to_string());
  return {};
}

Status check_rule(const Rule& rule) {
  if (rule.table == 0) return invalid("table 0 does not exist", rule.to_string());
  return {};
}

bool is_sysctl_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

bool is_allowed_sysctl(std::string_view path) {
  if (path == "net/ipv6/conf/all/forwarding") return true;
  const auto parts = split(path, '/');
  return parts.size() == 5 && parts[0] == "net" && (parts[1] == "ipv4" || parts[1] == "ipv6") &&
         parts[2] == "conf" && is_interface_name(parts[3]) && parts[3] != "all" &&
         parts[3] != "default" && is_sysctl_name(parts[4]);
}

Status check_resolver(const ResolverSetup& setup) {
  if (auto status = check_device(setup.device); !status) return status;
  if (setup.servers.empty() || setup.servers.size() > kMaxResolverServers ||
      setup.search.size() > kMaxResolverDomains || setup.routed.size() > kMaxResolverDomains) {
    return invalid("no name servers, or too many names", setup.device);
  }
  for (const auto* domains : {&setup.search, &setup.routed}) {
    for (const std::string& domain : *domains) {
      if (!is_domain(domain)) return invalid("not a domain", domain);
    }
  }
  return {};
}

struct Validator {
  Status operator()(const SetLink& request) const {
    if (auto status = check_mtu(request.change.mtu); !status) return status;
    return check_device(request.change.device);
  }
  Status operator()(const AddAddress& request) const {
    if (auto status = check_device(request.device); !status) return status;
    return check_prefix(request.address);
  }
  Status operator()(const DelAddress& request) const {
    if (auto status = check_device(request.device); !status) return status;
    return check_prefix(request.address);
  }
  Status operator()(const AddRoute& request) const { return check_route(request.route); }
  Status operator()(const DelRoute& request) const { return check_route(request.route); }
  Status operator()(const AddRule& request) const { return check_rule(request.rule); }
  Status operator()(const DelRule& request) const { return check_rule(request.rule); }
  Status operator()(const SetSysctl& request) const {
    if (!is_allowed_sysctl(request.path)) return invalid("not a sysctl we change", request.path);
    if (request.value.empty() || request.value.size() > kMaxSysctlValue ||
        !has_no_control_characters(request.value)) {
      return invalid("not the value of a sysctl", request.value);
    }
    return {};
  }
  Status operator()(const RunNft& request) const {
    // Percent-encoding makes three characters of one at worst, and then there are the two keys.
    if (request.json.empty() || request.json.size() + request.undo.size() > kMaxRequestText / 4) {
      return invalid("empty or oversized nft transaction", std::to_string(request.json.size()));
    }
    return {};
  }
  Status operator()(const SetResolver& request) const { return check_resolver(request.setup); }
  Status operator()(const ClearResolver& request) const { return check_device(request.device); }
};

// ---- lists

template <typename Value, typename Text>
std::string joined(const std::vector<Value>& values, Text text) {
  std::string all;
  for (const Value& value : values)
    all += (all.empty() ? "" : " ") + text(value);
  return all;
}

std::vector<std::string> read_words(LineReader& line, std::string_view key) {
  std::vector<std::string> words;
  const std::string all = line.optional_text(key).value_or("");
  if (all.empty()) return words;
  for (const std::string_view word : split(all, ' '))
    words.emplace_back(word);
  return words;
}

// ---- writing

constexpr std::array<std::pair<Route::Type, std::string_view>, 4> kTypeWords{{
    {Route::Type::kUnicast, "unicast"},
    {Route::Type::kUnreachable, "unreachable"},
    {Route::Type::kThrow, "throw"},
    {Route::Type::kBlackhole, "blackhole"},
}};

LineWriter& write_route(LineWriter& line, const Route& route) {
  line.text("destination", route.destination.to_string());
  line.text("type", kTypeWords[static_cast<size_t>(route.type)].second);
  line.number("table", route.table);
  line.text_unless_empty("device", route.device);
  if (route.gateway) line.text("gateway", route.gateway->to_string());
  line.number("mtu", route.mtu);
  line.number("metric", route.metric);
  if (route.preferred_source) line.text("source", route.preferred_source->to_string());
  return line.flag("onlink", route.onlink);
}

LineWriter& write_rule(LineWriter& line, const Rule& rule) {
  line.text("family", rule.family == Family::kV4 ? "ipv4" : "ipv6");
  line.number("priority", rule.priority);
  line.number("fwmark", rule.fwmark);
  return line.number("table", rule.table);
}

struct TextWriter {
  std::string operator()(const SetLink& request) const {
    const LinkChange& change = request.change;
    LineWriter line("set_link");
    line.text("device", change.device);
    if (change.up) line.text("up", *change.up ? "1" : "0");
    line.number("mtu", change.mtu).number("tx_queue_len", change.tx_queue_len);
    line.flag("addr_gen_mode_none", change.addr_gen_mode_none);
    return line.number("gso_max_size", change.gso_max_size).take();
  }
  static std::string address(std::string_view verb, std::string_view device, const Prefix& prefix) {
    return LineWriter(verb).text("device", device).text("address", prefix.to_string()).take();
  }
  static std::string route(std::string_view verb, const Route& route) {
    LineWriter line(verb);
    return write_route(line, route).take();
  }
  static std::string rule(std::string_view verb, const Rule& rule) {
    LineWriter line(verb);
    return write_rule(line, rule).take();
  }
  std::string operator()(const AddAddress& r) const {
    return address("add_address", r.device, r.address);
  }
  std::string operator()(const DelAddress& r) const {
    return address("del_address", r.device, r.address);
  }
  std::string operator()(const AddRoute& r) const { return route("add_route", r.route); }
  std::string operator()(const DelRoute& r) const { return route("del_route", r.route); }
  std::string operator()(const AddRule& r) const { return rule("add_rule", r.rule); }
  std::string operator()(const DelRule& r) const { return rule("del_rule", r.rule); }
  std::string operator()(const SetSysctl& r) const {
    return LineWriter("set_sysctl").text("path", r.path).text("value", r.value).take();
  }
  std::string operator()(const RunNft& r) const {
    return LineWriter("run_nft").text("json", r.json).text_unless_empty("undo", r.undo).take();
  }
  std::string operator()(const SetResolver& r) const {
    const ResolverSetup& setup = r.setup;
    const auto itself = [](const std::string& domain) { return domain; };
    return LineWriter("set_resolver")
        .text("kind", name_of(setup.kind))
        .text("device", setup.device)
        .text("servers", joined(setup.servers, [](const auto& a) { return a.to_string(); }))
        .text_unless_empty("search", joined(setup.search, itself))
        .text_unless_empty("routed", joined(setup.routed, itself))
        .flag("all", setup.all)
        .take();
  }
  std::string operator()(const ClearResolver& r) const {
    return LineWriter("clear_resolver")
        .text("kind", name_of(r.kind))
        .text("device", r.device)
        .take();
  }
};

// ---- reading

LinkChange read_link(LineReader& line) {
  LinkChange change;
  change.device = line.text("device");
  if (const auto up = line.optional_text("up")) {
    if (*up != "0" && *up != "1") line.note("not 0 or 1", *up);
    change.up = *up == "1";
  }
  change.mtu = line.number("mtu");
  change.tx_queue_len = line.number("tx_queue_len");
  change.addr_gen_mode_none = line.flag("addr_gen_mode_none");
  change.gso_max_size = line.number("gso_max_size");
  return change;
}

Route::Type read_type(LineReader& line) {
  const std::string word = line.text("type");
  for (const auto& entry : kTypeWords) {
    if (entry.second == word) return entry.first;
  }
  line.note("unknown type of route", word);
  return Route::Type::kUnicast;
}

Route read_route(LineReader& line) {
  Route route;
  route.destination = line.prefix("destination");
  route.type = read_type(line);
  route.table = line.required_number("table");
  route.device = line.optional_text("device").value_or("");
  route.gateway = line.address("gateway");
  route.mtu = line.number("mtu");
  route.metric = line.number("metric");
  route.preferred_source = line.address("source");
  route.onlink = line.flag("onlink");
  return route;
}

Rule read_rule(LineReader& line) {
  Rule rule;
  const std::string family = line.text("family");
  if (family != "ipv4" && family != "ipv6") line.note("unknown family", family);
  rule.family = family == "ipv6" ? Family::kV6 : Family::kV4;
  rule.priority = line.required_number("priority");
  rule.fwmark = line.number("fwmark");
  rule.table = line.required_number("table");
  return rule;
}

ResolverKind read_kind(LineReader& line) {
  const std::string kind = line.text("kind");
  if (kind != "resolved" && kind != "resolvconf") line.note("unknown kind of resolver", kind);
  return kind == "resolvconf" ? ResolverKind::kResolvconf : ResolverKind::kResolved;
}

ResolverSetup read_resolver(LineReader& line) {
  ResolverSetup setup;
  setup.kind = read_kind(line);
  setup.device = line.text("device");
  for (const std::string& word : read_words(line, "servers")) {
    const auto address = IpAddress::parse(word);
    if (!address) line.note("not an address", word);
    setup.servers.push_back(address.value_or(IpAddress()));
  }
  setup.search = read_words(line, "search");
  setup.routed = read_words(line, "routed");
  setup.all = line.flag("all");
  return setup;
}

SystemRequest read_request(LineReader& line) {
  const std::string_view verb = line.verb();
  if (verb == "set_link") return SetLink{read_link(line)};
  if (verb == "add_address") {
    std::string device = line.text("device");
    return AddAddress{std::move(device), line.prefix("address")};
  }
  if (verb == "del_address") {
    std::string device = line.text("device");
    return DelAddress{std::move(device), line.prefix("address")};
  }
  if (verb == "add_route") return AddRoute{read_route(line)};
  if (verb == "del_route") return DelRoute{read_route(line)};
  if (verb == "add_rule") return AddRule{read_rule(line)};
  if (verb == "del_rule") return DelRule{read_rule(line)};
  if (verb == "set_sysctl") {
    std::string path = line.text("path");
    return SetSysctl{std::move(path), line.text("value")};
  }
  if (verb == "run_nft") {
    std::string json = line.text("json");
    return RunNft{std::move(json), line.optional_text("undo").value_or("")};
  }
  if (verb == "set_resolver") return SetResolver{read_resolver(line)};
  if (verb == "clear_resolver") {
    const ResolverKind kind = read_kind(line);
    return ClearResolver{kind, line.text("device")};
  }
  line.note("unknown request", verb);
  return SetLink{};
}

struct Describer {
  std::string operator()(const SetLink& r) const { return "set up link " + r.change.device; }
  std::string operator()(const AddAddress& r) const {
    return "add address " + r.address.to_string() + " to " + r.device;
  }
  std::string operator()(const DelAddress& r) const {
    return "delete address " + r.address.to_string() + " from " + r.device;
  }
  std::string operator()(const AddRoute& r) const { return "add route " + r.route.to_string(); }
  std::string operator()(const DelRoute& r) const { return "delete route " + r.route.to_string(); }
  std::string operator()(const AddRule& r) const { return "add " + r.rule.to_string(); }
  std::string operator()(const DelRule& r) const { return "delete " + r.rule.to_string(); }
  std::string operator()(const SetSysctl& r) const { return "set " + r.path + " to " + r.value; }
  std::string operator()(const RunNft&) const { return "change the firewall's rules"; }
  std::string operator()(const SetResolver& r) const { return "set DNS of " + r.setup.device; }
  std::string operator()(const ClearResolver& r) const { return "clear DNS of " + r.device; }
};

}  // namespace

Status validate(const SystemRequest& request) {
  return std::visit(Validator{}, request);
}

std::string to_text(const SystemRequest& request) {
  return std::visit(TextWriter{}, request);
}

Result<SystemRequest> parse_request(std::string_view line) {
  if (line.size() > kMaxRequestText) return invalid("request too long", line.substr(0, 40));
  LineReader reader(line);
  SystemRequest request = read_request(reader);
  if (auto status = reader.finish(); !status) return status.error();
  if (auto status = validate(request); !status) return status.error();
  // A request has one text: keys in order, nothing abbreviated. So a line that was cut cannot pass
  // for a shorter way to say the same.
  if (to_text(request) != line) return invalid("not as we write it", line.substr(0, 80));
  return request;
}

std::string describe(const SystemRequest& request) {
  return std::visit(Describer{}, request);
}

}  // namespace culvert::net
