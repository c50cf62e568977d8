// ResolverSetup: what the machine's resolver is to know of a tunnel, and the commands that tell it.
// With systemd-resolved per device (resolvectl(1)), else through resolvconf(8). /etc/resolv.conf is
// never written by us.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/address.h"
#include "common/base/result.h"

namespace culvert::net {

enum class ResolverKind : uint8_t { kResolved, kResolvconf };
[[nodiscard]] std::string_view name_of(ResolverKind kind);  // "resolved", "resolvconf"

struct ResolverSetup {
  ResolverKind kind = ResolverKind::kResolved;
  std::string device;
  std::vector<IpAddress> servers;
  std::vector<std::string> search;  // appended to short names
  std::vector<std::string> routed;  // asked of `servers`, but no search domains
  bool all = false;                 // every name is asked of `servers`

  friend bool operator==(const ResolverSetup&, const ResolverSetup&) = default;
};

constexpr size_t kMaxResolverServers = 8;
constexpr size_t kMaxResolverDomains = 64;

// Letters, digits, "-", "_" and dots between labels of at most 63: safe as a program's argument.
[[nodiscard]] bool is_domain(std::string_view name);

struct ResolverCommand {
  std::vector<std::string> argv;
  std::string input;
};
// Pure.
[[nodiscard]] std::vector<ResolverCommand> apply_commands(const ResolverSetup& setup);
[[nodiscard]] std::vector<ResolverCommand> clear_commands(ResolverKind kind,
                                                          const std::string& device);

// One after the other, up to the first failure. Blocks.
Status run_resolver(const std::vector<ResolverCommand>& commands);

}  // namespace culvert::net
