// What `culvertd check` looks at, one function per subject: certificates, files, users, networks,
// port, TUN, account. Each finding says what was found and what to do; nothing is changed (a TUN
// device is opened for a moment, to see whether that works).
#pragma once

#include <string>
#include <vector>

#include "common/base/address.h"
#include "common/base/clock.h"
#include "common/base/result.h"
#include "server/config.h"

namespace culvert::server {

enum class Grade { kGood, kWarning, kBad };

struct Finding {
  Grade grade = Grade::kGood;
  std::string subject;  // one or two words: "certificate"
  std::string text;
  std::string hint;                      // what to do; may be empty
  ErrorCode code = ErrorCode::kFailure;  // of a kBad finding
};
using Findings = std::vector<Finding>;

// [tls]: the files, key against certificate, purpose, name and dates; CA and revocation list.
[[nodiscard]] Findings check_certificates(const ServerConfig& config, WallTime now);
// The account to run as, and whether it can read what it must. REQUIRES nothing of the caller; what
// only root can know is left out for others.
[[nodiscard]] Findings check_account(const ServerConfig& config);
// users/: every file, addresses and networks against each other and the pools.
[[nodiscard]] Findings check_users(const ServerConfig& config);

// [identity]: where names come from, and users/ entries that no certificate can lead to.
[[nodiscard]] Findings check_identity(const ServerConfig& config);

// A network that an interface of this machine is in.
struct LocalNetwork {
  std::string device;
  Prefix prefix;
  bool tunnel = false;  // the device has one other end, as those of VPNs have
};
// Pools against this machine's networks, routes and DNS against each other. Pure.
[[nodiscard]] Findings check_networks(const ServerConfig& config,
                                      const std::vector<LocalNetwork>& local);
// Those of all interfaces but loopback and the TUN devices that `tun_device` could name.
[[nodiscard]] std::vector<LocalNetwork> local_networks(const std::string& tun_device);
// Not only for `culvertd check`: another VPN of this machine, such as another culvertd, that has an
// address inside a pool would get packets of our clients, and we some of its. Pure.
[[nodiscard]] Status check_other_tunnels(const ServerConfig& config,
                                         const std::vector<LocalNetwork>& local);

// Kernel settings: forwarding for routes beyond the pools, IPv6 switched off.
[[nodiscard]] Findings check_kernel(const ServerConfig& config);
// `running`: our own server holds the port and the device.
[[nodiscard]] Findings check_port(const ServerConfig& config, bool running);
[[nodiscard]] Findings check_tun(const ServerConfig& config, bool running);

}  // namespace culvert::server
