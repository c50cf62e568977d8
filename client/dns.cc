#include "client/dns.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "common/base/file.h"
#include "common/base/text.h"
#include "common/net/tun_device.h"

namespace culvert::client {
namespace {

constexpr Duration kCommandLimit = std::chrono::seconds(10);
constexpr size_t kMaxServers = 8;
constexpr size_t kMaxDomains = 64;

bool is_installed(std::string_view program) {
  constexpr std::array<std::string_view, 4> kFolders = {"/usr/sbin/", "/usr/bin/", "/sbin/",
                                                        "/bin/"};
  return std::any_of(kFolders.begin(), kFolders.end(), [&](std::string_view folder) {
    return ::access((std::string(folder) + std::string(program)).c_str(), X_OK) == 0;
  });
}

bool is_usable_server(const IpAddress& address) {
  return !address.is_unspecified() && !address.is_multicast();
}

void add_domain(std::vector<std::string>& domains, std::string_view name) {
  while (!name.empty() && name.front() == '.')
    name.remove_prefix(1);
  if (!is_domain(name) || domains.size() >= kMaxDomains) return;
  if (std::find(domains.begin(), domains.end(), name) == domains.end()) domains.emplace_back(name);
}

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> found;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of(" ,;\t"), text.size());
    if (end > 0) found.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return found;
}

std::string record_of(const std::string& device) {
  return device + ".culvert";
}

std::vector<DnsCommand> resolved_commands(const std::string& device, const DnsPlan& plan) {
  DnsCommand servers{{"resolvectl", "dns", device}, {}};
  for (const IpAddress& server : plan.servers)
    servers.argv.push_back(server.to_string());
  DnsCommand domains{{"resolvectl", "domain", device}, {}};
  domains.argv.insert(domains.argv.end(), plan.search.begin(), plan.search.end());
  for (const std::string& domain : plan.routed)
    domains.argv.push_back("~" + domain);
  if (plan.all) domains.argv.emplace_back("~.");
  if (domains.argv.size() == 3) domains.argv.emplace_back("");  // empties the list
  // With domains of its own the tunnel answers for those alone.
  const bool for_anything = plan.all || (plan.routed.empty() && plan.search.empty());
  DnsCommand fallback{{"resolvectl", "default-route", device, for_anything ? "yes" : "no"}, {}};
  return {std::move(servers), std::move(domains), std::move(fallback)};
}

std::string resolvconf_text(const DnsPlan& plan) {
  std::string text;
  for (const IpAddress& server : plan.servers)
    text += "nameserver " + server.to_string() + "\n";
  if (plan.search.empty()) return text;
  text += "search";
  for (const std::string& domain : plan.search)
    text += " " + domain;
  return text + "\n";
}

Status judge(const DnsCommand& command, const Result<loop::ChildResult>& result) {
  if (!result) return Error(result.error());
  if (result->succeeded()) return {};
  const std::string said = escape_for_display(trim(result->err).substr(0, 300));
  return fail(ErrorCode::kFailure, said.empty() ? "failed" : "failed: " + said, command.argv[0]);
}

}  // namespace

bool is_domain(std::string_view name) {
  if (!name.empty() && name.back() == '.') name.remove_suffix(1);
  if (name.empty() || name.size() > 253) return false;
  for (const std::string_view label : split(name, '.')) {
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-')
      return false;
    const bool clean = std::all_of(label.begin(), label.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '-' || c == '_';
    });
    if (!clean) return false;
  }
  return true;
}

DnsPlan plan_dns(const wire::TunnelParams& params, bool full) {
  DnsPlan plan;
  for (const IpAddress& server : params.dns)
    if (is_usable_server(server) && plan.servers.size() < kMaxServers)
      plan.servers.push_back(server);
  for (const std::string_view domain : words(params.default_domain))
    add_domain(plan.search, domain);
  for (const std::string& domain : params.split_dns)
    add_domain(plan.routed, domain);
  plan.all = full;
  return plan;
}

std::string_view name_of(DnsMethod method) {
  switch (method) {
    case DnsMethod::kNone:
      return "none";
    case DnsMethod::kResolved:
      return "resolved";
    case DnsMethod::kResolvconf:
      return "resolvconf";
  }
  return "none";
}

DnsMethod detect_dns_method() {
  if (::access("/run/systemd/resolve", F_OK) == 0 && is_installed("resolvectl"))
    return DnsMethod::kResolved;
  return is_installed("resolvconf") ? DnsMethod::kResolvconf : DnsMethod::kNone;
}

std::vector<DnsCommand> apply_commands(DnsMethod method, const std::string& device,
                                       const DnsPlan& plan) {
  if (method == DnsMethod::kResolved) return resolved_commands(device, plan);
  return {{{"resolvconf", "-a", record_of(device)}, resolvconf_text(plan)}};
}

std::vector<DnsCommand> undo_commands(DnsMethod method, const std::string& device) {
  if (method == DnsMethod::kResolved) return {{{"resolvectl", "revert", device}, {}}};
  return {{{"resolvconf", "-d", record_of(device)}, {}}};
}

Dns::Dns(loop::Loop& loop, std::string note, DnsMethod method)
    : loop_(loop), note_(std::move(note)), method_(method) {}

// The note holds the device's name. With systemd-resolved nothing is left: the device is gone.
void Dns::undo_leftovers(Done done) {
  const auto note = read_file(note_);
  if (!note) return done({});
  const std::string device(trim(*note));
  ::unlink(note_.c_str());
  if (!net::is_interface_name(device) || !is_installed("resolvconf")) return done({});
  run(undo_commands(DnsMethod::kResolvconf, device), std::move(done));
}

void Dns::apply(const std::string& device, const DnsPlan& plan, Done done) {
  if (method_ == DnsMethod::kNone)
    return done(fail(ErrorCode::kFailure, "neither systemd-resolved nor resolvconf is here", {},
                     "set the name servers by hand, or install one of the two"));
  if (method_ == DnsMethod::kResolvconf)
    if (auto noted = replace_file(note_, device + "\n"); !noted) return done(std::move(noted));
  device_ = device;
  run(apply_commands(method_, device, plan), [this, done = std::move(done)](Status status) {
    applied_ = status.has_value();
    done(std::move(status));
  });
}

void Dns::undo(Done done) {
  if (device_.empty()) return done({});
  const std::string device = std::exchange(device_, {});
  applied_ = false;
  run(undo_commands(method_, device), [this, done = std::move(done)](Status status) {
    if (status) ::unlink(note_.c_str());
    done(std::move(status));
  });
}

// One after the other; the first failure ends it.
void Dns::run(std::vector<DnsCommand> commands, Done done) {
  if (commands.empty()) return done({});
  const DnsCommand first = commands.front();
  commands.erase(commands.begin());
  auto next = [this, first, rest = std::move(commands), done](Result<loop::ChildResult> result) {
    if (auto status = judge(first, result); !status) return done(std::move(status));
    run(rest, done);
  };
  auto child = loop::Child::run(loop_, first.argv, first.input, kCommandLimit, std::move(next));
  if (!child) return done(std::move(child.error()));
  child_ = std::move(*child);
}

}  // namespace culvert::client
