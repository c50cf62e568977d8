#include "client/inside.h"

#include <utility>
#include <vector>

#include "common/base/log.h"

namespace culvert::client {

void Inside::configure(const std::string& device, RoutePlan routes, DnsPlan dns, Done done) {
  if (routes == routes_) return configure_dns(device, std::move(dns), std::move(done));
  for (const std::string& note : routes.notes)
    log::warning("routes", "left out", {{"what", note}});
  auto requests = route_changes(routes_, routes);
  routes_ = std::move(routes);
  system_.submit(std::move(requests), [this, device, dns = std::move(dns), done = std::move(done)](
                                          const std::vector<net::SystemAnswer>& answers) {
    if (undoing_) return;
    if (auto status = net::first_error(answers); !status) return give_up(std::move(status), done);
    configure_dns(device, dns, done);
  });
}

// What was done in part is taken back, so that the next attempt starts from what is known.
void Inside::give_up(Status failure, const Done& done) {
  system_.undo_all([this, failure = std::move(failure), done](const Status& undone) {
    if (undoing_) return;
    if (!undone)
      log::error("routes", "not everything could be put back", {{"why", undone.error().message()}});
    routes_ = {};
    done(failure);
  });
}

void Inside::configure_dns(const std::string& device, DnsPlan dns, Done done) {
  if (dns == dns_plan_ && !dns_error_) return done({});
  dns_plan_ = std::move(dns);
  auto applied = [this, before = std::exchange(dns_error_, {}),
                  done = std::move(done)](Status status) {
    if (undoing_) return;
    if (!status) {
      const std::string why = status.error().message();
      // Said once, not at every reconnect.
      if (!before || before->message() != why)
        log::warning("dns", "name servers were not set", {{"why", why}});
      dns_error_ = std::move(status.error());
    }
    done({});
  };
  if (dns_plan_.empty())
    dns_.undo(std::move(applied));
  else
    dns_.apply(device, dns_plan_, std::move(applied));
}

void Inside::undo(Done done) {
  undoing_ = true;
  dns_.undo([this, done = std::move(done)](const Status& dns_status) {
    if (!dns_status)
      log::warning("dns", "could not be put back", {{"why", dns_status.error().message()}});
    system_.undo_all([this, done](Status status) {
      routes_ = {};
      dns_plan_ = {};
      done(std::move(status));
    });
  });
}

}  // namespace culvert::client
