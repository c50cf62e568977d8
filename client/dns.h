// Dns: gives the machine's resolver what the server pushes, and takes it back.
// With systemd-resolved per device (resolvectl), else through resolvconf; where neither is there,
// nothing is changed and status says so. /etc/resolv.conf is never written by us.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/address.h"
#include "common/base/result.h"
#include "common/net/system_ops.h"
#include "common/wire/tunnel_params.h"

namespace culvert::client {

struct DnsPlan {
  std::vector<IpAddress> servers;
  std::vector<std::string> search;  // appended to short names
  std::vector<std::string> routed;  // asked of `servers`, but no search domains
  bool all = false;                 // every name is asked of `servers`

  [[nodiscard]] bool empty() const { return servers.empty(); }
  friend bool operator==(const DnsPlan&, const DnsPlan&) = default;
};

// What the server pushed, checked: domains that are none are left out. `full`: the tunnel takes
// everything, so names must not be asked beside it. Pure.
[[nodiscard]] DnsPlan plan_dns(const wire::TunnelParams& params, bool full);

enum class DnsMethod { kNone, kResolved, kResolvconf };
[[nodiscard]] std::string_view name_of(DnsMethod method);
[[nodiscard]] DnsMethod detect_dns_method();

class Dns {
 public:
  using Done = std::function<void(Status)>;

  // `system` must outlive this; it journals what it does.
  Dns(net::SystemOps& system, DnsMethod method) : system_(&system), method_(method) {}

  // Replaces what was applied before. An error leaves the resolver as it was, or says otherwise.
  void apply(const std::string& device, const DnsPlan& plan, Done done);
  // Harmless if nothing was applied.
  void undo(Done done);

  [[nodiscard]] DnsMethod method() const { return method_; }
  [[nodiscard]] bool applied() const { return applied_; }

 private:
  [[nodiscard]] net::ResolverKind kind() const;
  void submit(net::SystemRequest request, Done done);

  net::SystemOps* system_;
  DnsMethod method_;
  std::string device_;  // of what is applied, or may be in part
  bool applied_ = false;
};

}  // namespace culvert::client
