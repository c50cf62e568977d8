// Host facts: what this machine's kernel is set to, as far as routes depend on it. Reads /proc.
#pragma once

#include <string>
#include <vector>

#include "client/routes.h"

namespace culvert::client {

[[nodiscard]] HostIpv6 host_ipv6();

// Devices on which the kernel drops IPv4 packets that it would not answer over the same device
// (rp_filter is 1, RFC 3704), sorted; without loopback and `own`.
[[nodiscard]] std::vector<std::string> strict_devices(const std::string& own);

}  // namespace culvert::client
