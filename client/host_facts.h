// Host facts: what this machine's kernel is set to, as far as routes depend on it, and what it
// would do with our own packets. Reads /proc, asks the kernel.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/routes.h"
#include "common/base/address.h"
#include "common/base/unique_fd.h"

namespace culvert::client {

[[nodiscard]] HostIpv6 host_ipv6();

// Devices on which the kernel drops IPv4 packets that it would not answer over the same device
// (rp_filter is 1, RFC 3704), sorted; without loopback and `own`.
[[nodiscard]] std::vector<std::string> strict_devices(const std::string& own);

// The address that packets to `peer` from this socket (one for datagrams, of the peer's family,
// used for nothing else) would be sent from now; nothing if there is no way to it. Sends none.
[[nodiscard]] std::optional<IpAddress> source_towards(const Endpoint& peer, const UniqueFd& socket);

}  // namespace culvert::client
