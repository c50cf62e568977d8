// UdpSocket on the real kernel, in a network namespace of its own: two sockets on lo, whose MTU is
// that of a real path.
#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <tuple>

#include "common/net/netlink.h"
#include "common/net/udp_socket.h"
#include "tests/unit/net/offload_packets.h"
#include "tests/unit/net/own_network.h"
#include "tests/unit/net/same_packets.h"

namespace culvert::net {
namespace {

using testing::Packet;

class UdpOnKernel : public testing::OwnNetwork {
 protected:
  void SetUp() override {
    OwnNetwork::SetUp();
    if (IsSkipped()) return;
    auto netlink = Netlink::open();
    ASSERT_TRUE(netlink);
    ASSERT_TRUE(netlink->set_link({.device = "lo", .mtu = 1500}));
    ASSERT_TRUE(netlink->set_link({.device = "lo", .up = true}));
    const int lo = netlink->link_index("lo").value_or(0);
    for (const char* second : {"10.9.0.2/32", "fd00::2/128"}) {
      const auto added = netlink->add_address(lo, Prefix::parse(second).value());
      ASSERT_TRUE(added) << second << ": " << added.error().message();
    }
    ASSERT_NO_FATAL_FAILURE(wait_for_address(testing::address("fd00::2")));
  }

  UdpSocket open(const char* address, bool offloads = true) {
    auto socket = UdpSocket::open(
        sys_, {.local = {testing::address(address), 0}, .gso = offloads, .gro = offloads});
    EXPECT_TRUE(socket) << socket.error().message();
    return std::move(*socket);
  }

  // Everything until `count` datagrams are there.
  std::vector<Packet> receive(UdpSocket& socket, size_t count) {
    std::vector<Packet> datagrams;
    pollfd waiting{.fd = socket.fd(), .events = POLLIN, .revents = 0};
    while (datagrams.size() < count && poll(&waiting, 1, 5000) == 1) {
      const ReceiveOutcome outcome = socket.receive(arena_);
      EXPECT_EQ(outcome.error, 0);
      for (const UdpTrain& train : arena_.trains()) {
        longest_train_ = std::max(longest_train_, train.count());
        path_ = train.path;
        for (size_t i = 0; i < train.count(); ++i)
          datagrams.emplace_back(train[i].begin(), train[i].end());
      }
    }
    return datagrams;
  }

  static std::vector<Packet> some_datagrams() {
    std::vector<Packet> datagrams;
    for (unsigned i = 0; i < 130; ++i)
      datagrams.push_back(testing::pattern(i % 50 == 49 ? 33 : 1400, i));
    return datagrams;
  }
  static std::vector<OutDatagram> batch_of(const std::vector<Packet>& datagrams) {
    std::vector<OutDatagram> batch;
    for (const Packet& datagram : datagrams)
      batch.push_back({datagram, 0});
    return batch;
  }

  KernelSys sys_;
  UdpArena arena_{16};
  size_t longest_train_ = 0;
  UdpPath path_;
};

// A byte of the datagram says which of the sockets gets it; the rest goes by hash.
TEST_F(UdpOnKernel, AGroupOfSocketsIsSteeredByAByte) {
  for (const char* name : {"127.0.0.1", "::1"}) {
    std::vector<UdpSocket> group;
    Endpoint local{testing::address(name), 0};
    for (int i = 0; i < 3; ++i) {
      auto socket = UdpSocket::open(sys_, {.local = local, .reuse_port = true});
      ASSERT_TRUE(socket) << socket.error().message();
      local = socket->local();
      group.push_back(std::move(*socket));
    }
    ASSERT_TRUE(group[2].steer_by_byte(25, 11));
    for (size_t i = 0; i < 12; ++i) {
      UdpSocket from = open(name);  // each from another port, so that the hash would differ
      Packet datagram = testing::pattern(40, 1);
      datagram[0] = std::byte{25};
      datagram[11] = std::byte(i % 3);
      const UdpPath paths[] = {{.peer = local, .local = {}}};
      ASSERT_EQ(from.send(batch_of({datagram}), paths).sent, 1U);
      EXPECT_EQ(receive(group[i % 3], 1), std::vector<Packet>{datagram});
    }
    // No such number, too short, and of another kind: to whomever, but not lost.
    for (const auto& [first, number, size] :
         {std::tuple{25, 200, 40}, std::tuple{25, 0, 5}, std::tuple{22, 1, 40}}) {
      UdpSocket from = open(name);
      Packet datagram = testing::pattern(40, 1);
      datagram[0] = std::byte(first);
      datagram[11] = std::byte(number);
      datagram.resize(static_cast<size_t>(size));
      const UdpPath paths[] = {{.peer = local, .local = {}}};
      ASSERT_EQ(from.send(batch_of({datagram}), paths).sent, 1U);
      std::array<pollfd, 3> waiting{};
      for (size_t i = 0; i < 3; ++i)
        waiting[i] = {.fd = group[i].fd(), .events = POLLIN, .revents = 0};
      ASSERT_EQ(poll(waiting.data(), waiting.size(), 5000), 1);
      for (size_t i = 0; i < 3; ++i) {
        if (waiting[i].revents != 0) EXPECT_EQ(receive(group[i], 1).size(), 1U);
      }
    }
  }
}

TEST_F(UdpOnKernel, CarriesBatchesInEveryCombinationOfOffloads) {
  for (const bool sender : {true, false}) {
    for (const bool receiver : {true, false}) {
      for (const char* name : {"127.0.0.1", "::1"}) {
        UdpSocket from = open(name, sender);
        UdpSocket to = open(name, receiver);
        EXPECT_EQ(from.gso(), sender);
        EXPECT_EQ(to.gro(), receiver);
        const auto datagrams = some_datagrams();
        const UdpPath paths[] = {{.peer = to.local(), .local = {}}};
        longest_train_ = 0;
        const SendOutcome outcome = from.send(batch_of(datagrams), paths);
        EXPECT_EQ(outcome.sent, datagrams.size());
        EXPECT_EQ(outcome.last_error, 0);
        EXPECT_TRUE(testing::same_packets(receive(to, datagrams.size()), datagrams));
        if (!receiver) {
          EXPECT_EQ(longest_train_, 1u);
        }
        if (sender && receiver) {
          EXPECT_GT(longest_train_, 10u);
        }
      }
    }
  }
}

TEST_F(UdpOnKernel, RepliesLeaveFromTheAddressThatWasAsked) {
  struct Row {
    const char* server;
    const char* asked;
  };
  for (const Row& row : {Row{"::", "10.9.0.2"}, Row{"::", "fd00::2"}, Row{"0.0.0.0", "10.9.0.2"}}) {
    UdpSocket server = open(row.server);
    const IpAddress asked = testing::address(row.asked);
    UdpSocket client = open(asked.is_v4() ? "127.0.0.1" : "::1");
    // Connected: an answer from another address would not arrive.
    ASSERT_TRUE(client.connect({asked, server.local().port}));
    const std::vector<Packet> question = {testing::pattern(100, 1)};
    ASSERT_EQ(client.send(batch_of(question), {}).sent, 1u);
    ASSERT_TRUE(testing::same_packets(receive(server, 1), question))
        << row.server << " " << row.asked;
    EXPECT_EQ(path_.local, asked);
    EXPECT_EQ(path_.peer, client.local());

    const auto answer = some_datagrams();
    const UdpPath back[] = {path_};
    EXPECT_EQ(server.send(batch_of(answer), back).sent, answer.size());
    EXPECT_TRUE(testing::same_packets(receive(client, answer.size()), answer)) << row.server;
  }
}

TEST_F(UdpOnKernel, TooLargeForTheDeviceIsToldAndNotFragmented) {
  for (const char* name : {"127.0.0.1", "::1"}) {
    UdpSocket from = open(name);
    UdpSocket to = open(name);
    const size_t largest = to.local().address.is_v4() ? 1472 : 1452;
    const UdpPath paths[] = {{.peer = to.local(), .local = {}}};
    std::vector<Packet> datagrams;
    for (unsigned i = 0; i < 4; ++i)
      datagrams.push_back(testing::pattern(largest + 1, i));
    datagrams.push_back(testing::pattern(200, 9));
    const SendOutcome outcome = from.send(batch_of(datagrams), paths);
    EXPECT_EQ(outcome.too_large, 4u) << name;
    EXPECT_EQ(outcome.too_large_size, largest + 1);
    EXPECT_EQ(outcome.sent, 1u);
    EXPECT_TRUE(from.gso());
    EXPECT_TRUE(testing::same_packets(receive(to, 1), {datagrams.back()}));

    const std::vector<Packet> fits(3, testing::pattern(largest, 1));
    EXPECT_EQ(from.send(batch_of(fits), paths).sent, 3u);
    EXPECT_TRUE(testing::same_packets(receive(to, 3), fits));
  }
}

TEST_F(UdpOnKernel, AClosedPortCostsNoLaterDatagram) {
  UdpSocket client = open("127.0.0.1");
  Endpoint gone;
  {
    const UdpSocket server = open("127.0.0.1");
    gone = server.local();
  }
  ASSERT_TRUE(client.connect(gone));
  const std::vector<Packet> question = {testing::pattern(100, 1)};
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(client.send(batch_of(question), {}).sent, 1u);
  EXPECT_TRUE(client.receive(arena_).drained);
}

TEST_F(UdpOnKernel, SeveralSocketsShareAPortWhenAsked) {
  const UdpOptions options{.local = {testing::address("::"), 4433}, .reuse_port = true};
  auto first = UdpSocket::open(sys_, options);
  ASSERT_TRUE(first);
  auto second = UdpSocket::open(sys_, options);
  EXPECT_TRUE(second);
  auto selfish = UdpSocket::open(sys_, {.local = {testing::address("::"), 4433}});
  ASSERT_FALSE(selfish);
  EXPECT_EQ(selfish.error().code, ErrorCode::kFailure);
}

}  // namespace
}  // namespace culvert::net
