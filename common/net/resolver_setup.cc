#include "common/net/resolver_setup.h"

#include <algorithm>
#include <utility>

#include "common/base/text.h"
#include "common/net/program_runner.h"

namespace culvert::net {
namespace {

std::string record_of(const std::string& device) {
  return device + ".culvert";
}

std::vector<ResolverCommand> resolved_commands(const ResolverSetup& setup) {
  ResolverCommand servers{{"resolvectl", "dns", setup.device}, {}};
  for (const IpAddress& server : setup.servers)
    servers.argv.push_back(server.to_string());
  ResolverCommand domains{{"resolvectl", "domain", setup.device}, {}};
  domains.argv.insert(domains.argv.end(), setup.search.begin(), setup.search.end());
  for (const std::string& domain : setup.routed)
    domains.argv.push_back("~" + domain);
  if (setup.all) domains.argv.emplace_back("~.");
  if (domains.argv.size() == 3) domains.argv.emplace_back("");  // empties the list
  // With domains of its own the tunnel answers for those alone.
  const bool for_anything = setup.all || (setup.routed.empty() && setup.search.empty());
  ResolverCommand fallback{
      {"resolvectl", "default-route", setup.device, for_anything ? "yes" : "no"}, {}};
  return {std::move(servers), std::move(domains), std::move(fallback)};
}

std::string resolvconf_text(const ResolverSetup& setup) {
  std::string text;
  for (const IpAddress& server : setup.servers)
    text += "nameserver " + server.to_string() + "\n";
  if (setup.search.empty()) return text;
  text += "search";
  for (const std::string& domain : setup.search)
    text += " " + domain;
  return text + "\n";
}

}  // namespace

std::string_view name_of(ResolverKind kind) {
  return kind == ResolverKind::kResolved ? "resolved" : "resolvconf";
}

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

std::vector<ResolverCommand> apply_commands(const ResolverSetup& setup) {
  if (setup.kind == ResolverKind::kResolved) return resolved_commands(setup);
  return {{{"resolvconf", "-a", record_of(setup.device)}, resolvconf_text(setup)}};
}

std::vector<ResolverCommand> clear_commands(ResolverKind kind, const std::string& device) {
  if (kind == ResolverKind::kResolved) return {{{"resolvectl", "revert", device}, {}}};
  return {{{"resolvconf", "-d", record_of(device)}, {}}};
}

Status run_resolver(const std::vector<ResolverCommand>& commands) {
  for (const ResolverCommand& command : commands) {
    const std::string& program = command.argv.front();
    const bool resolved = program == "resolvectl";
    const auto result =
        run_program(command.argv, command.input, resolved ? "systemd-resolved" : "resolvconf");
    if (!result) return result.error();
    if (result->succeeded) continue;
    const std::string said = escape_for_display(trim(result->output).substr(0, 300));
    return fail(ErrorCode::kFailure, said.empty() ? "failed" : "failed: " + said, program);
  }
  return {};
}

}  // namespace culvert::net
