// NetworkEvents on the real kernel, in a network namespace of its own with one TUN interface, "t0".
#include "common/net/network_events.h"

#include <gtest/gtest.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>
#include <optional>

#include "common/net/netlink.h"
#include "common/net/tun_device.h"
#include "tests/unit/net/own_network.h"
#include "tests/unit/net/packets.h"

namespace culvert::net {
namespace {

using testing::address;

class NetworkEventsOnKernel : public testing::OwnNetwork {
 protected:
  void SetUp() override {
    OwnNetwork::SetUp();
    if (IsSkipped()) return;
    netlink_.emplace(Netlink::open().value());
    device_.emplace(TunDevice::open(sys_, {.name = "t0"}).value());
  }

  static NetworkEvents watch(int own_device = 0) { return NetworkEvents::open(own_device).value(); }
  // What has been done is told before the request is answered, but for carriers.
  static bool comes(NetworkEvents& events) {
    pollfd ready{events.fd(), POLLIN, 0};
    while (poll(&ready, 1, 5000) == 1) {
      if (events.read()) return true;
    }
    return false;
  }
  // The kernel says a little later that the carrier is there.
  void up(const char* device) {
    ASSERT_TRUE(netlink_->set_link({.device = device, .up = true}));
    const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    for (int ms = 0; ms < 5000; ++ms) {
      if (ioctl(fd.get(), SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_RUNNING) != 0)
        return;
      poll(nullptr, 0, 1);
    }
    FAIL() << device << " has no carrier";
  }
  [[nodiscard]] bool add(const char* ip) {
    return netlink_->add_address(interface_index("t0"), *Prefix::parse(ip)).has_value();
  }

  KernelSys sys_;
  std::optional<Netlink> netlink_;
  std::optional<TunDevice> device_;
};

TEST_F(NetworkEventsOnKernel, TellsOfLinksAddressesAndRoutes) {
  auto events = watch();
  EXPECT_FALSE(events.read());
  up("t0");
  EXPECT_TRUE(comes(events));
  EXPECT_FALSE(events.read()) << "once";
  ASSERT_TRUE(add("10.9.0.1/24"));
  EXPECT_TRUE(comes(events));
  ASSERT_TRUE(netlink_->add_route({.destination = *Prefix::parse("10.8.0.0/16"), .device = "t0"}));
  EXPECT_TRUE(comes(events));
  device_.reset();
  EXPECT_TRUE(comes(events));
}

TEST_F(NetworkEventsOnKernel, OurOwnDeviceIsNoNews) {
  auto events = watch(interface_index("t0"));
  up("t0");
  ASSERT_TRUE(add("10.9.0.1/24"));
  ASSERT_TRUE(add("fd09::1/64"));
  const Route::Type unreachable = Route::Type::kUnreachable;
  for (const char* destination : {"10.8.0.0/16", "fd08::/64"}) {
    const Prefix prefix = *Prefix::parse(destination);
    ASSERT_TRUE(netlink_->add_route({.destination = prefix, .device = "t0", .table = 700}));
    ASSERT_TRUE(netlink_->add_route(
        {.destination = prefix, .table = 701, .type = unreachable, .metric = 4000}));
  }
  wait_for_address(address("fd09::1"));
  EXPECT_FALSE(events.read());
}

TEST_F(NetworkEventsOnKernel, WhatIsSaidAgainIsNoNews) {
  up("t0");
  auto events = watch();
  ASSERT_TRUE(add("10.9.0.1/24"));
  ASSERT_TRUE(comes(events));
  ASSERT_TRUE(netlink_->set_link({.device = "t0", .mtu = 1400}));
  (void)events.read();  // the first word about this link
  ASSERT_TRUE(netlink_->set_link({.device = "t0", .mtu = 1300}));
  ASSERT_TRUE(netlink_->set_link({.device = "t0", .tx_queue_len = 50}));
  EXPECT_FALSE(events.read());
}

}  // namespace
}  // namespace culvert::net
