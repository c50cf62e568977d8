// TunDevice on the real kernel, in a network namespace of its own:
//
//   UDP socket 10.9.0.1 -- culvert0 -- this test, which plays 10.9.0.2 on the descriptor
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <vector>

#include "common/base/unique_fd.h"
#include "common/net/ip_packet.h"
#include "common/net/netlink.h"
#include "common/net/tun_device.h"
#include "common/net/tun_steering.h"
#include "tests/unit/net/own_network.h"
#include "tests/unit/net/packets.h"

namespace culvert::net {
namespace {

constexpr size_t kNoLimit = size_t{1} << 20;

class TunOnKernel : public testing::OwnNetwork {
 protected:
  // Up, without a link-local address (whose announcements would get in the way), 10.9.0.1/24.
  Status set_up(const std::string& device) {
    auto netlink = Netlink::open();
    if (!netlink) return netlink.error();
    auto done = netlink->set_link({.device = device, .addr_gen_mode_none = true});
    if (done) done = netlink->set_link({.device = device, .up = true});
    if (!done) return done;
    return netlink->add_address(netlink->link_index(device).value_or(0),
                                Prefix::parse("10.9.0.1/24").value());
  }

  // A UDP socket on 10.9.0.1:5000.
  UniqueFd bound_socket() {
    UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const sockaddr_in local = address_of("10.9.0.1", 5000);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local), 0);
    return fd;
  }
  static sockaddr_in address_of(const char* text, uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    inet_pton(AF_INET, text, &address.sin_addr);
    return address;
  }
  static bool readable(int fd) {
    pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
    return poll(&waiting, 1, 5000) == 1;
  }

  KernelSys sys_;
  PacketBatch batch_{8, 1500, 8};
};

TEST_F(TunOnKernel, CarriesPacketsBothWays) {
  auto device = TunDevice::open(sys_, {});
  ASSERT_TRUE(device) << device.error().message();
  EXPECT_EQ(device->name(), "culvert0");
  const auto status = set_up(device->name());
  ASSERT_TRUE(status) << status.error().message();
  const UniqueFd fd = bound_socket();

  const sockaddr_in peer = address_of("10.9.0.2", 7000);
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(sendto(fd.get(), "ping", 4, 0, reinterpret_cast<const sockaddr*>(&peer), sizeof peer),
              4);
  }
  ASSERT_TRUE(readable(device->fd()));
  const ReadOutcome read = device->read_batch(batch_, kNoLimit);
  EXPECT_TRUE(read.drained);
  ASSERT_EQ(batch_.size(), 3u);
  const auto view = parse_ip(batch_[0]);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->source, testing::address("10.9.0.1"));
  EXPECT_EQ(view->destination, testing::address("10.9.0.2"));
  EXPECT_EQ(view->total_length, 32u);
  EXPECT_EQ(as_text(view->payload.subspan(8)), "ping");

  auto answer = testing::ipv4("10.9.0.2", "10.9.0.1", 17, testing::udp(7000, 5000, 4));
  auto nonsense = testing::bytes_of({0xff, 0, 0, 0});
  const MutableBytes packets[] = {answer, nonsense, answer};
  const WriteOutcome written = device->write_batch(packets);
  EXPECT_EQ(written.written, 2u);
  EXPECT_EQ(written.dropped, 1u);
  EXPECT_EQ(written.last_error, EINVAL);
  ASSERT_TRUE(readable(fd.get()));
  char buffer[100];
  EXPECT_EQ(recv(fd.get(), buffer, sizeof buffer, 0), 4);
}

TEST_F(TunOnKernel, HasQueuesThatShareTheTraffic) {
  const TunOptions options{.name = "mq0", .multi_queue = true};
  auto first = TunDevice::open(sys_, options);
  ASSERT_TRUE(first) << first.error().message();
  auto second = TunDevice::open(sys_, options);
  ASSERT_TRUE(second) << second.error().message();
  ASSERT_TRUE(set_up("mq0"));
  const UniqueFd fd = bound_socket();
  const sockaddr_in peer = address_of("10.9.0.2", 7000);
  ASSERT_EQ(sendto(fd.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&peer), sizeof peer), 1);
  pollfd waiting[] = {{.fd = first->fd(), .events = POLLIN, .revents = 0},
                      {.fd = second->fd(), .events = POLLIN, .revents = 0}};
  EXPECT_EQ(poll(waiting, 2, 5000), 1);
}

TEST_F(TunOnKernel, RefusesANameThatIsTaken) {
  auto first = TunDevice::open(sys_, {.name = "one0"});
  ASSERT_TRUE(first) << first.error().message();
  auto second = TunDevice::open(sys_, {.name = "one0"});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kFailure);
  EXPECT_NE(second.error().hint, "");
  auto exclusive = TunDevice::open(sys_, {.name = "lo", .must_be_new = true});
  EXPECT_FALSE(exclusive);
}

TEST_F(TunOnKernel, WritingToALinkThatIsDownIsADrop) {
  auto device = TunDevice::open(sys_, {});
  ASSERT_TRUE(device);
  auto packet = testing::ipv4("10.9.0.2", "10.9.0.1", 17, testing::udp(1, 2));
  const MutableBytes packets[] = {packet};
  const WriteOutcome outcome = device->write_batch(packets);
  EXPECT_EQ(outcome.dropped, 1u);
  EXPECT_EQ(outcome.last_error, EIO);
}

TEST_F(TunOnKernel, InterfaceGoesWithItsLastDescriptor) {
  auto netlink = Netlink::open();
  ASSERT_TRUE(netlink);
  {
    auto device = TunDevice::open(sys_, {.name = "gone0"});
    ASSERT_TRUE(device);
    const TunDevice moved = *std::move(device);
    EXPECT_TRUE(netlink->link("gone0"));
  }
  EXPECT_FALSE(netlink->link("gone0"));
}

// Three queues; which of them a destination's packets come out of is said for hosts and networks.
TEST_F(TunOnKernel, IsSteeredByDestination) {
  std::vector<TunDevice> queues;
  TunOptions options{.multi_queue = true};
  for (int i = 0; i < 3; ++i) {
    auto queue = TunDevice::open(sys_, options);
    ASSERT_TRUE(queue) << queue.error().message();
    options.name = queue->name();
    queues.push_back(std::move(*queue));
  }
  ASSERT_TRUE(set_up(options.name));
  auto netlink = Netlink::open();
  ASSERT_TRUE(netlink);
  ASSERT_TRUE(netlink->add_address(netlink->link_index(options.name).value_or(0),
                                   Prefix::parse("fd09::1/64").value()));
  ASSERT_NO_FATAL_FAILURE(wait_for_address(testing::address("fd09::1")));
  auto steering = TunSteering::attach(sys_, queues[0]);
  if (!steering) GTEST_SKIP() << steering.error().message();

  const auto say = [&](const char* prefix, uint32_t queue) {
    const Status said = steering->set(Prefix::parse(prefix).value(), queue);
    ASSERT_TRUE(said) << said.error().message();
  };
  // The queue that what is sent to the address comes out of; `from` gives each flow another hash.
  const auto queue_of = [&](const char* address, uint16_t from) -> int {
    sockaddr_storage name{};
    const Endpoint to{testing::address(address), 7000};
    const socklen_t length = to.to_sockaddr(name);
    const UniqueFd fd(socket(name.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_storage local{};
    const bool v4 = to.address.is_v4();
    const Endpoint own{testing::address(v4 ? "10.9.0.1" : "fd09::1"), from};
    const socklen_t own_length = own.to_sockaddr(local);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), own_length), 0);
    EXPECT_EQ(sendto(fd.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&name), length), 1);
    pollfd waiting[3];
    for (size_t i = 0; i < 3; ++i)
      waiting[i] = {.fd = queues[i].fd(), .events = POLLIN, .revents = 0};
    if (poll(waiting, 3, 5000) != 1) return -1;
    for (int i = 0; i < 3; ++i) {
      if (waiting[i].revents == 0) continue;
      batch_.clear();
      queues[static_cast<size_t>(i)].read_batch(batch_, kNoLimit);
      return i;
    }
    return -1;
  };
  say("10.9.0.2/32", 2);
  say("10.9.0.64/26", 1);
  say("10.9.0.65/32", 0);
  say("fd09::2/128", 1);
  say("fd09::/112", 2);
  for (uint16_t from = 5000; from < 5008; ++from) {
    EXPECT_EQ(queue_of("10.9.0.2", from), 2);
    EXPECT_EQ(queue_of("10.9.0.66", from), 1);
    EXPECT_EQ(queue_of("10.9.0.65", from), 0);
    EXPECT_EQ(queue_of("fd09::2", from), 1);
    EXPECT_EQ(queue_of("fd09::3", from), 2);
  }
  EXPECT_NE(queue_of("10.9.0.3", 5000), -1) << "nobody's, but not lost";
  say("10.9.0.2/32", 1);
  EXPECT_EQ(queue_of("10.9.0.2", 5000), 1);
  steering->erase(Prefix::parse("10.9.0.65/32").value());
  EXPECT_EQ(queue_of("10.9.0.65", 5000), 1) << "the network's";
  steering->detach();
  EXPECT_NE(queue_of("10.9.0.2", 5000), -1);
}

}  // namespace
}  // namespace culvert::net
