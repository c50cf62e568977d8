#include "client/dns.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "common/net/program_runner.h"

namespace culvert::client {
namespace {

bool is_usable_server(const IpAddress& address) {
  return !address.is_unspecified() && !address.is_multicast();
}

void add_domain(std::vector<std::string>& domains, std::string_view name) {
  while (!name.empty() && name.front() == '.')
    name.remove_prefix(1);
  if (!net::is_domain(name) || domains.size() >= net::kMaxResolverDomains) return;
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

net::ResolverSetup setup_for(net::ResolverKind kind, const std::string& device,
                             const DnsPlan& plan) {
  return {kind, device, plan.servers, plan.search, plan.routed, plan.all};
}

}  // namespace

DnsPlan plan_dns(const wire::TunnelParams& params, bool full) {
  DnsPlan plan;
  for (const IpAddress& server : params.dns)
    if (is_usable_server(server) && plan.servers.size() < net::kMaxResolverServers)
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
  if (::access("/run/systemd/resolve", F_OK) == 0 && net::is_installed("resolvectl"))
    return DnsMethod::kResolved;
  return net::is_installed("resolvconf") ? DnsMethod::kResolvconf : DnsMethod::kNone;
}

net::ResolverKind Dns::kind() const {
  return method_ == DnsMethod::kResolvconf ? net::ResolverKind::kResolvconf
                                           : net::ResolverKind::kResolved;
}

void Dns::apply(const std::string& device, const DnsPlan& plan, Done done) {
  if (method_ == DnsMethod::kNone)
    return done(fail(ErrorCode::kFailure, "neither systemd-resolved nor resolvconf is here", {},
                     "set the name servers by hand, or install one of the two"));
  device_ = device;
  submit(net::SetResolver{setup_for(kind(), device, plan)},
         [this, done = std::move(done)](Status status) {
           applied_ = status.has_value();
           done(std::move(status));
         });
}

void Dns::undo(Done done) {
  if (device_.empty()) return done({});
  submit(net::ClearResolver{kind(), std::exchange(device_, {})},
         [this, done = std::move(done)](Status status) {
           applied_ = false;
           done(std::move(status));
         });
}

void Dns::submit(net::SystemRequest request, Done done) {
  system_->submit({std::move(request)},
                  [done = std::move(done)](const std::vector<net::SystemAnswer>& answers) {
                    done(net::first_error(answers));
                  });
}

}  // namespace culvert::client
