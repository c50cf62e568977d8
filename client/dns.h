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
#include "common/loop/child.h"
#include "common/loop/loop.h"
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

// Letters, digits, "-", "_" and dots between labels of at most 63: safe as a program's argument.
[[nodiscard]] bool is_domain(std::string_view name);

enum class DnsMethod { kNone, kResolved, kResolvconf };
[[nodiscard]] std::string_view name_of(DnsMethod method);
[[nodiscard]] DnsMethod detect_dns_method();

struct DnsCommand {
  std::vector<std::string> argv;
  std::string input;
};
// Pure. REQUIRES: method is not kNone.
[[nodiscard]] std::vector<DnsCommand> apply_commands(DnsMethod method, const std::string& device,
                                                     const DnsPlan& plan);
[[nodiscard]] std::vector<DnsCommand> undo_commands(DnsMethod method, const std::string& device);

class Dns {
 public:
  using Done = std::function<void(Status)>;

  // `note`: a file that remembers what to take back should this process be killed.
  Dns(loop::Loop& loop, std::string note, DnsMethod method);

  // Takes back what a killed process left, if the note is there. `done` may come at once.
  void undo_leftovers(Done done);
  // Replaces what was applied before. An error leaves the resolver as it was, or says otherwise.
  void apply(const std::string& device, const DnsPlan& plan, Done done);
  // Harmless if nothing was applied. What apply() had under way is given up.
  void undo(Done done);

  [[nodiscard]] DnsMethod method() const { return method_; }
  [[nodiscard]] bool applied() const { return applied_; }

 private:
  void run(std::vector<DnsCommand> commands, Done done);

  loop::Loop& loop_;
  std::string note_;
  DnsMethod method_;
  std::string device_;  // of what is applied, or may be in part
  bool applied_ = false;
  loop::Child child_;
};

}  // namespace culvert::client
