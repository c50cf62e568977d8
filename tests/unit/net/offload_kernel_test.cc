// Splitting and merging between two real kernels' stacks:
//
//   namespace 1: sockets on 10.9.0.1, fd00:9::1 -- tun a ─┐ superpackets of a are checked, split to
//                                                         │ packets of the path's MTU, merged again
//   namespace 2: sockets on 10.9.0.2, fd00:9::2 -- tun b ─┘ and written to b; and the other way
//
// Streams and datagrams must arrive bit for bit whatever the offloads and the MTU between are.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <optional>

#include "common/base/unique_fd.h"
#include "common/net/gro_merge.h"
#include "common/net/gso_split.h"
#include "common/net/netlink.h"
#include "common/net/packet_batch.h"
#include "common/net/tun_device.h"
#include "common/net/udp_socket.h"
#include "tests/unit/net/offload_packets.h"
#include "tests/unit/net/own_network.h"
#include "tests/unit/net/same_packets.h"

namespace culvert::net {
namespace {

using testing::Packet;

// What the device hands out, as flags of TUNSETOFFLOAD.
constexpr unsigned kNothing = 0;
constexpr unsigned kChecksum = TUN_F_CSUM;
constexpr unsigned kTcp = kChecksum | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
constexpr unsigned kTcpAndUdp = kTcp | 0x20 | 0x40;  // USO: names newer than Debian 12's headers
constexpr int kPatienceMs = 5000;

// What was seen on the way.
struct Traffic {
  size_t superpackets = 0;  // read
  size_t packets = 0;       // after splitting
  size_t writes = 0;        // after merging
  size_t refused = 0;       // by check_vnet(), for want of room, or by the kernel
};

class OffloadsOnKernel : public testing::OwnNetwork {
 protected:
  struct Side {
    UniqueFd network;  // its namespace
    std::optional<TunDevice> tun;
    IpAddress v4, v6;
  };

  // Enters a new namespace and makes one side in it.
  void make_side(Side& side, int number, unsigned offloads) {
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    side.network.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    auto device = TunDevice::open(sys_, {.name = "tun0", .offloads = true});
    ASSERT_TRUE(device) << device.error().message();
    has_udp_ = device->offloads().udp;
    side.tun.emplace(std::move(*device));
    const unsigned granted = offloads & (has_udp_ ? kTcpAndUdp : kTcp);
    ASSERT_EQ(ioctl(side.tun->fd(), TUNSETOFFLOAD, granted), 0);
    auto netlink = Netlink::open();
    ASSERT_TRUE(netlink);
    EXPECT_TRUE(netlink->set_link({.device = "tun0", .addr_gen_mode_none = true}));
    EXPECT_TRUE(netlink->set_link(
        {.device = "tun0", .up = true, .mtu = static_cast<uint32_t>(mtu_), .gso_max_size = 65000}));
    const int index = netlink->link_index("tun0").value_or(0);
    side.v4 = testing::address("10.9.0.0").plus(static_cast<uint64_t>(number));
    side.v6 = testing::address("fd00:9::").plus(static_cast<uint64_t>(number));
    EXPECT_TRUE(netlink->add_address(index, {side.v4, 24}));
    EXPECT_TRUE(netlink->add_address(index, {side.v6, 64}));
    ASSERT_NO_FATAL_FAILURE(wait_for_address(side.v6));
  }

  void set_up(unsigned offloads, size_t mtu) {
    mtu_ = mtu;
    ASSERT_NO_FATAL_FAILURE(make_side(a_, 1, offloads));
    ASSERT_NO_FATAL_FAILURE(make_side(b_, 2, offloads));
    merger_.set_options(
        {.tcp = (offloads & TUN_F_TSO4) != 0, .udp = has_udp_ && offloads == kTcpAndUdp});
    traffic_ = {};
  }

  static Endpoint endpoint(const Side& side, bool v6, uint16_t port) {
    return {v6 ? side.v6 : side.v4, port};
  }
  // Sockets belong to the namespace in which they are made.
  static void enter(const Side& side) { ASSERT_EQ(setns(side.network.get(), CLONE_NEWNET), 0); }
  static UniqueFd tcp_socket(const Side& side, bool v6, uint16_t port) {
    enter(side);
    const Endpoint local = endpoint(side, v6, port);
    UniqueFd fd(socket(local.address.is_v6() ? AF_INET6 : AF_INET,
                       SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_storage address;
    const socklen_t length = local.to_sockaddr(address);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), length), 0)
        << strerror(errno);
    return fd;
  }

  // One packet or superpacket from the kernel, into the batch as what it stands for.
  void take(MutableBytes packet, TunDevice& to) {
    VnetHeader header = decode_vnet(extend_front(packet, kVnetHeaderSize)).value();
    if (check_vnet(header, packet, kKernelBounds) != VnetVerdict::kOk) {
      ++traffic_.refused;
      return;
    }
    if (header.is_superpacket()) ++traffic_.superpackets;
    GsoSplitter splitter(header, packet, mtu_);
    if (!splitter.fits()) ++traffic_.refused;
    for (MutableBytes one = splitter.next(); !one.empty(); one = splitter.next()) {
      if (split_.full()) flush(to);
      EXPECT_LE(one.size(), mtu_);
      std::copy(one.begin(), one.end(), split_.free_space().begin());
      split_.commit(one.size());
      ++traffic_.packets;
    }
  }
  void flush(TunDevice& to) {
    const auto writes = merger_.merge(split_.packets());
    traffic_.writes += writes.size();
    traffic_.refused += to.write_merged(writes).dropped;
    split_.clear();
  }
  // Everything that is waiting in one TUN goes to the other.
  void carry(TunDevice& from, TunDevice& to) {
    bool drained = false;
    while (!drained) {
      drained = from.read_batch(read_, SIZE_MAX).drained;
      for (const MutableBytes packet : read_.packets())
        take(packet, to);
      read_.clear();
    }
    flush(to);
  }
  void carry_both_ways() {
    carry(*a_.tun, *b_.tun);
    carry(*b_.tun, *a_.tun);
  }
  void wait(std::initializer_list<int> sockets) {
    std::vector<pollfd> waiting = {{a_.tun->fd(), POLLIN, 0}, {b_.tun->fd(), POLLIN, 0}};
    for (const int fd : sockets)
      waiting.push_back({fd, POLLIN, 0});
    ASSERT_GT(poll(waiting.data(), waiting.size(), kPatienceMs), 0) << "nothing moves any more";
  }

  // A connection from a to b.
  void connect_pair(bool v6, UniqueFd& client, UniqueFd& server) {
    const Endpoint target = endpoint(b_, v6, 5001);
    const UniqueFd listener = tcp_socket(b_, v6, target.port);
    ASSERT_EQ(listen(listener.get(), 1), 0);
    client = tcp_socket(a_, v6, 0);
    sockaddr_storage address;
    const socklen_t length = target.to_sockaddr(address);
    ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), length), -1);
    ASSERT_EQ(errno, EINPROGRESS);
    while (!server.valid()) {
      ASSERT_NO_FATAL_FAILURE(wait({listener.get()}));
      carry_both_ways();
      server.reset(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    }
  }

  // One direction of a connection: what goes in must come out.
  struct Stream {
    int from, to;
    const Packet& data;  // repeated
    size_t total;
    size_t sent = 0, received = 0;

    [[nodiscard]] bool done() const { return received == total; }
    void send_some() {
      while (sent < total) {
        const size_t at = sent % data.size();
        const size_t size = std::min(data.size() - at, total - sent);
        const ssize_t done = send(from, data.data() + at, size, MSG_NOSIGNAL);
        if (done <= 0) return;
        sent += static_cast<size_t>(done);
      }
    }
    void receive_some() {
      static Packet buffer(256 << 10);
      for (;;) {
        const ssize_t got = recv(to, buffer.data(), buffer.size(), 0);
        if (got <= 0) return;
        for (size_t i = 0; i < static_cast<size_t>(got);) {
          const size_t at = received % data.size();
          const size_t size = std::min(static_cast<size_t>(got) - i, data.size() - at);
          ASSERT_EQ(memcmp(buffer.data() + i, data.data() + at, size), 0) << "at " << received;
          i += size;
          received += size;
        }
      }
    }
  };

  void exchange(bool v6, size_t total) {
    UniqueFd client;
    UniqueFd server;
    ASSERT_NO_FATAL_FAILURE(connect_pair(v6, client, server));
    const Packet data = testing::pattern(1000003, 5);  // a prime: no cut repeats
    Stream up{client.get(), server.get(), data, total};
    Stream down{server.get(), client.get(), data, total};
    while (!up.done() || !down.done()) {
      up.send_some();
      down.send_some();
      ASSERT_NO_FATAL_FAILURE(wait({client.get(), server.get()}));
      carry_both_ways();
      ASSERT_NO_FATAL_FAILURE(up.receive_some());
      ASSERT_NO_FATAL_FAILURE(down.receive_some());
    }
  }

  // Datagrams, until `count` are there or nothing comes.
  static std::vector<Packet> receive(UdpSocket& socket, size_t count) {
    UdpArena arena(16);
    std::vector<Packet> datagrams;
    pollfd waiting{.fd = socket.fd(), .events = POLLIN, .revents = 0};
    while (datagrams.size() < count && poll(&waiting, 1, kPatienceMs) == 1) {
      (void)socket.receive(arena);
      for (const UdpTrain& train : arena.trains())
        for (size_t i = 0; i < train.count(); ++i)
          datagrams.emplace_back(train[i].begin(), train[i].end());
    }
    return datagrams;
  }

  KernelSys sys_;
  Side a_, b_;
  bool has_udp_ = false;
  size_t mtu_ = 1500;
  PacketBatch read_{16, 65600, kVnetHeaderSize};
  PacketBatch split_{256, 9000, kVnetHeaderSize};
  GroMerger merger_{256, {}};
  Traffic traffic_;
};

TEST_F(OffloadsOnKernel, StreamsArriveBitForBitInEveryCombination) {
  struct Row {
    unsigned offloads;
    size_t mtu;
  };
  constexpr size_t kTotal = 8u << 20;
  for (const Row& row : {Row{kTcpAndUdp, 1500}, Row{kTcp, 1500}, Row{kTcp, 9000}, Row{kTcp, 1280},
                         Row{kChecksum, 1500}, Row{kNothing, 1500}}) {
    for (const bool v6 : {false, true}) {
      SCOPED_TRACE(::testing::Message()
                   << "offloads " << row.offloads << " mtu " << row.mtu << " v6 " << v6);
      ASSERT_NO_FATAL_FAILURE(set_up(row.offloads, row.mtu));
      ASSERT_NO_FATAL_FAILURE(exchange(v6, kTotal));
      EXPECT_EQ(traffic_.refused, 0u);
      if (row.offloads >= kTcp) {
        EXPECT_GT(traffic_.superpackets, 200u);
        EXPECT_LT(traffic_.writes * 4, traffic_.packets) << "superpackets on both sides";
      } else {
        EXPECT_EQ(traffic_.superpackets, 0u);
        EXPECT_EQ(traffic_.writes, traffic_.packets);
      }
    }
  }
}

TEST_F(OffloadsOnKernel, DatagramTrainsArriveBitForBitInEveryCombination) {
  for (const bool udp : {true, false}) {
    for (const bool v6 : {false, true}) {
      SCOPED_TRACE(::testing::Message() << "udp " << udp << " v6 " << v6);
      ASSERT_NO_FATAL_FAILURE(set_up(udp ? kTcpAndUdp : kTcp, 1500));
      if (udp && !has_udp_) GTEST_SKIP() << "this kernel has no UDP trains on a TUN";
      enter(a_);
      auto sender = UdpSocket::open(sys_, {.local = endpoint(a_, v6, 6000)});
      ASSERT_TRUE(sender) << sender.error().message();
      enter(b_);
      auto receiver = UdpSocket::open(sys_, {.local = endpoint(b_, v6, 6000)});
      ASSERT_TRUE(receiver) << receiver.error().message();

      std::vector<Packet> datagrams;
      for (unsigned i = 0; i < 100; ++i)
        datagrams.push_back(testing::pattern(i % 40 == 39 ? 77 : 1200, i));
      std::vector<OutDatagram> batch;
      for (const Packet& datagram : datagrams)
        batch.push_back({datagram, 0});
      const UdpPath paths[] = {{.peer = receiver->local(), .local = {}}};
      ASSERT_EQ(sender->send(batch, paths).sent, datagrams.size());
      carry(*a_.tun, *b_.tun);
      EXPECT_TRUE(testing::same_packets(receive(*receiver, datagrams.size()), datagrams));
      EXPECT_EQ(traffic_.refused, 0u);
      EXPECT_EQ(traffic_.packets, datagrams.size());
      if (udp) {
        EXPECT_GE(traffic_.superpackets, 2u);
        EXPECT_LE(traffic_.writes, 4u);
      } else {
        EXPECT_EQ(traffic_.writes, datagrams.size());
      }
    }
  }
}

}  // namespace
}  // namespace culvert::net
