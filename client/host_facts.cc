#include "client/host_facts.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace culvert::client {
namespace {

const std::string kIpv4Settings = "/proc/sys/net/ipv4/conf";

uint64_t setting(const std::string& path) {
  uint64_t value = 0;
  std::ifstream(path) >> value;  // stays 0 if there is no such file
  return value;
}

uint64_t reverse_path_filter(const std::string& device) {
  return setting(kIpv4Settings + "/" + device + "/rp_filter");
}

}  // namespace

HostIpv6 host_ipv6() {
  if (::access("/proc/net/if_inet6", F_OK) != 0) return HostIpv6::kAbsent;
  return setting("/proc/sys/net/ipv6/conf/default/disable_ipv6") == 1 ? HostIpv6::kNotOnNewDevices
                                                                      : HostIpv6::kUsable;
}

// connect(2): AF_UNSPEC takes a datagram socket's peer, and with it the source, away again.
std::optional<IpAddress> source_towards(const Endpoint& peer, const UniqueFd& socket) {
  const sockaddr nobody{AF_UNSPEC, {}};
  sockaddr_storage name{};
  socklen_t length = peer.to_sockaddr(name);
  auto* const generic = reinterpret_cast<sockaddr*>(&name);
  if (!socket.valid() || ::connect(socket.get(), &nobody, sizeof nobody) != 0 ||
      ::connect(socket.get(), generic, length) != 0) {
    return std::nullopt;
  }
  length = sizeof name;
  if (::getsockname(socket.get(), generic, &length) != 0) return std::nullopt;
  return Endpoint::from_sockaddr(name).address;
}

// The larger of the device's setting and that of "all" counts (Documentation/networking/
// ip-sysctl.rst), and 2 is the loose one.
std::vector<std::string> strict_devices(const std::string& own) {
  const uint64_t all = reverse_path_filter("all");
  std::vector<std::string> strict;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(kIpv4Settings, ignored)) {
    const std::string device = entry.path().filename().string();
    if (device == "all" || device == "default" || device == "lo" || device == own) continue;
    if (std::max(all, reverse_path_filter(device)) == 1) strict.push_back(device);
  }
  std::sort(strict.begin(), strict.end());
  return strict;
}

}  // namespace culvert::client
