// culvertd.toml and users' files through their readers: what is accepted holds to the limits that
// culvertd.toml(5) names, and what is not says why in one printable line.
#include "common/base/text.h"
#include "server/config.h"
#include "server/users.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

namespace {

void check_error(const Error& error) {
  require(error.code == ErrorCode::kUsage, "a bad file is a usage error");
  require(!error.what.empty() && !error.where.empty(), "an error says what and where");
  require(has_no_control_characters(error.message()), "an error can be printed");
}

void check_limits(const server::ServerConfig& config) {
  const auto& network = config.network;
  require(network.ipv4 || network.ipv6, "there is a pool");
  require(!network.ipv4 || server::check_pool(*network.ipv4, Family::kV4), "the IPv4 pool is one");
  require(!network.ipv6 || server::check_pool(*network.ipv6, Family::kV6), "the IPv6 pool is one");
  for (const Prefix& route : network.routes)
    require(route == route.network(), "routes have no bits behind their length");
  for (const std::string& path : {config.tls.certificate, config.tls.key, config.tls.client_ca})
    require(path.starts_with('/'), "paths are absolute");
  using std::chrono::hours;
  using std::chrono::seconds;
  const auto& session = config.session;
  require(session.dpd >= seconds(1) && session.dpd <= hours(1), "dpd is in its range");
  require(session.cookie_timeout >= seconds(1), "a cookie lives");
  require(session.idle_timeout >= seconds(0) && session.max_lifetime >= seconds(0),
          "no time is negative");
  require(session.max_per_user >= 1, "a user may come in");
  require(config.listen.port != 0 && !config.listen.address.is_multicast(),
          "it can be listened on");
  require(config.workers <= server::kMostWorkers, "workers are in their range");
  require(config.dir == "/etc/culvert", "the folder is that of the file");
}

void check_user(std::string_view text) {
  const auto user = server::parse_user(text, "alice", "users/alice.toml");
  if (!user) return check_error(user.error());
  const auto again = server::parse_user(server::to_toml(*user), "alice", "users/alice.toml");
  require(again && *again == *user, "a user survives being written");
}

void check_host_port(std::string_view text) {
  const auto parsed = server::HostPort::parse(text);
  if (!parsed) return;
  const auto again = server::HostPort::parse(parsed->to_string());
  require(
      again && again->host == parsed->host &&
          again->port.value_or(server::kDefaultPort) == parsed->port.value_or(server::kDefaultPort),
      "an address survives being written");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = as_text(fuzz::input(data, size));
  if (const auto config = server::parse_config(text, "/etc/culvert/culvertd.toml")) {
    check_limits(*config);
  } else {
    check_error(config.error());
  }
  check_user(text);
  check_host_port(text);
  return 0;
}
