// Inside: the system's side of the tunnel — link, addresses, routes, rules, DNS — brought to a plan
// and back. Knows what is in force, so that a reconnect with the same parameters changes nothing.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "client/dns.h"
#include "client/routes.h"
#include "common/base/result.h"
#include "common/net/system_ops.h"

namespace culvert::client {

class Inside {
 public:
  using Done = std::function<void(Status)>;

  // Both must outlive this. `system` journals what it does.
  Inside(net::SystemOps& system, Dns& dns) : system_(system), dns_(dns) {}
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

  // Brings the system to the plan; what was in force and is not wanted any more goes first. DNS
  // that cannot be set is no failure: see dns_error(). After an error nothing of either plan is in
  // force but DNS: call undo(), or configure() again.
  // REQUIRES: no configure() is under way.
  void configure(const std::string& device, RoutePlan routes, DnsPlan dns, Done done);

  // Takes everything back, also what a configure() under way is doing; that one is not answered.
  void undo(Done done);

  [[nodiscard]] const RoutePlan& routes() const { return routes_; }
  [[nodiscard]] const DnsPlan& dns_plan() const { return dns_plan_; }
  // Why the resolver does not have dns_plan().
  [[nodiscard]] const std::optional<Error>& dns_error() const { return dns_error_; }

 private:
  void configure_dns(const std::string& device, DnsPlan dns, Done done);
  void give_up(Status failure, const Done& done);

  net::SystemOps& system_;
  Dns& dns_;
  RoutePlan routes_;
  DnsPlan dns_plan_;
  std::optional<Error> dns_error_;
  bool undoing_ = false;
};

}  // namespace culvert::client
