// UdpSocket on the fake system calls; on the real ones in udp_kernel_test.cc.
#include "common/net/udp_socket.h"

#include <gtest/gtest.h>

#include <numeric>

#define CULVERT_READS_ALLOCATIONS_ONLY
#include "tests/fakes/allocation_counter.h"
#include "tests/fakes/fake_sys.h"
#include "tests/unit/net/offload_packets.h"

namespace culvert::net {
namespace {

using fakes::FakeSys;
using testing::Packet;

const Endpoint kAny6{testing::address("::"), 443};
const Endpoint kPeer{testing::address("192.0.2.7"), 5000};
const Endpoint kPeer6{testing::address("2001:db8::7"), 5000};

// Datagrams that lie one behind the other in one block, as they are sealed.
struct Sealed {
  explicit Sealed(const std::vector<size_t>& sizes, uint16_t path = 0) {
    block = testing::pattern(std::accumulate(sizes.begin(), sizes.end(), size_t{0}), 1);
    size_t at = 0;
    for (const size_t size : sizes) {
      batch.push_back({Bytes(block).subspan(at, size), path});
      at += size;
    }
  }
  Packet block;
  std::vector<OutDatagram> batch;
};

class UdpSocketOnFakes : public ::testing::Test {
 protected:
  UdpSocket open(const UdpOptions& options = {.local = kAny6}) {
    auto socket = UdpSocket::open(sys_, options);
    EXPECT_TRUE(socket) << socket.error().message();
    return std::move(*socket);
  }
  // The bytes of everything that was sent, in order.
  [[nodiscard]] Packet sent_bytes() const {
    Packet all;
    for (const FakeSys::Message& message : sys_.sent)
      testing::append(all, message.bytes);
    return all;
  }
  [[nodiscard]] std::vector<int> sent_segments() const {
    std::vector<int> sizes;
    for (const FakeSys::Message& message : sys_.sent)
      sizes.push_back(message.segment_size);
    return sizes;
  }
  using Sizes = std::vector<int>;

  FakeSys sys_;
};

TEST_F(UdpSocketOnFakes, DualStackIsSetUpForBothFamilies) {
  const UdpSocket socket = open({.local = kAny6, .reuse_port = true, .mark = 77});
  EXPECT_EQ(sys_.socket_family, AF_INET6);
  EXPECT_EQ(sys_.socket_type, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC);
  EXPECT_EQ(sys_.bound, kAny6);
  EXPECT_EQ(socket.local(), kAny6);
  const std::map<FakeSys::Option, int> wanted = {
      {{IPPROTO_IPV6, IPV6_V6ONLY}, 0},
      {{SOL_SOCKET, SO_REUSEPORT}, 1},
      {{SOL_SOCKET, SO_MARK}, 77},
      {{IPPROTO_IP, IP_MTU_DISCOVER}, IP_PMTUDISC_PROBE},
      {{IPPROTO_IPV6, IPV6_MTU_DISCOVER}, IPV6_PMTUDISC_PROBE},
      {{IPPROTO_IPV6, IPV6_RECVPKTINFO}, 1},
      {{SOL_SOCKET, SO_RCVBUFFORCE}, 4 << 20},
      {{SOL_SOCKET, SO_SNDBUFFORCE}, 4 << 20},
      {{IPPROTO_UDP, UDP_GRO}, 1},
      {{IPPROTO_UDP, UDP_SEGMENT}, 0},
  };
  EXPECT_EQ(sys_.options, wanted);
  EXPECT_TRUE(socket.gso());
  EXPECT_TRUE(socket.gro());
}

TEST_F(UdpSocketOnFakes, Ipv4AloneHasOptionsOfItsOwn) {
  open({.local = {testing::address("192.0.2.1"), 443}});
  EXPECT_EQ(sys_.socket_family, AF_INET);
  EXPECT_EQ(sys_.options.count({IPPROTO_IP, IP_PKTINFO}), 1u);
  EXPECT_EQ(sys_.options.count({IPPROTO_IPV6, IPV6_MTU_DISCOVER}), 0u);
}

TEST_F(UdpSocketOnFakes, OldKernelsAndConfigurationGoWithoutOffloads) {
  sys_.option_errors = {{{IPPROTO_UDP, UDP_SEGMENT}, ENOPROTOOPT},
                        {{IPPROTO_UDP, UDP_GRO}, ENOPROTOOPT}};
  const UdpSocket old = open();
  EXPECT_FALSE(old.gso());
  EXPECT_FALSE(old.gro());
  sys_.option_errors.clear();
  const UdpSocket configured = open({.local = kAny6, .gso = false, .gro = false});
  EXPECT_FALSE(configured.gso());
  EXPECT_FALSE(configured.gro());
}

TEST_F(UdpSocketOnFakes, BuffersAreTakenAsLargeAsAllowed) {
  sys_.option_errors = {{{SOL_SOCKET, SO_RCVBUFFORCE}, EPERM}};
  open();
  EXPECT_EQ(sys_.options.count({SOL_SOCKET, SO_RCVBUF}), 1u);
  EXPECT_EQ(sys_.options.count({SOL_SOCKET, SO_SNDBUF}), 0u);
}

TEST_F(UdpSocketOnFakes, SaysWhyItCannotOpen) {
  struct Row {
    int socket, bind, mark, discover;
    ErrorCode code;
    const char* text;
  };
  for (const Row& row : {Row{EAFNOSUPPORT, 0, 0, 0, ErrorCode::kFailure, "no IPv6"},
                         Row{0, EADDRINUSE, 0, 0, ErrorCode::kFailure, "another program"},
                         Row{0, EADDRNOTAVAIL, 0, 0, ErrorCode::kFailure, "no interface"},
                         Row{0, EACCES, 0, 0, ErrorCode::kPermission, "CAP_NET_BIND_SERVICE"},
                         Row{0, 0, EPERM, 0, ErrorCode::kPermission, "SO_MARK"},
                         Row{0, 0, 0, EINVAL, ErrorCode::kFailure, "IP_MTU_DISCOVER"}}) {
    FakeSys sys;
    sys.socket_error = row.socket;
    sys.bind_error = row.bind;
    if (row.mark != 0) sys.option_errors[{SOL_SOCKET, SO_MARK}] = row.mark;
    if (row.discover != 0) sys.option_errors[{IPPROTO_IP, IP_MTU_DISCOVER}] = row.discover;
    const auto socket = UdpSocket::open(sys, {.local = kAny6, .mark = 1});
    ASSERT_FALSE(socket);
    EXPECT_EQ(socket.error().code, row.code) << row.text;
    EXPECT_NE(socket.error().message().find(row.text), std::string::npos)
        << socket.error().message();
  }
}

TEST_F(UdpSocketOnFakes, SendsARunAsOneMessageOfOnePiece) {
  UdpSocket socket = open();
  const Sealed sealed({1400, 1400, 1400, 300});
  const UdpPath paths[] = {{.peer = kPeer, .local = testing::address("198.51.100.1")}};
  const SendOutcome outcome = socket.send(sealed.batch, paths);
  EXPECT_EQ(outcome.sent, 4u);
  EXPECT_EQ(outcome.calls, 1u);
  ASSERT_EQ(sys_.sent.size(), 1u);
  EXPECT_EQ(sys_.sent[0].bytes, sealed.block);
  EXPECT_EQ(sys_.sent[0].segment_size, 1400);
  EXPECT_EQ(sys_.sent[0].peer, kPeer);
  EXPECT_EQ(sys_.sent[0].local, testing::address("198.51.100.1"));
}

TEST_F(UdpSocketOnFakes, SendsSeveralRunsAndPathsWithOneCall) {
  UdpSocket socket = open();
  const Sealed a({1400, 1400, 90}, 0);
  const Sealed b({64}, 1);
  const Sealed c({500, 500}, 0);
  std::vector<OutDatagram> batch = a.batch;
  batch.insert(batch.end(), b.batch.begin(), b.batch.end());
  batch.insert(batch.end(), c.batch.begin(), c.batch.end());
  const UdpPath paths[] = {{.peer = kPeer, .local = {}}, {.peer = kPeer6, .local = {}}};
  const SendOutcome outcome = socket.send(batch, paths);
  EXPECT_EQ(outcome.sent, 6u);
  EXPECT_EQ(outcome.calls, 1u);
  EXPECT_EQ(sent_segments(), Sizes({1400, 0, 500}));
  EXPECT_EQ(sys_.sent[1].peer, kPeer6);
  EXPECT_TRUE(sys_.sent[1].local.is_unspecified());
  EXPECT_EQ(sys_.sent[2].peer, kPeer);
}

TEST_F(UdpSocketOnFakes, GathersDatagramsThatLieApart) {
  UdpSocket socket = open();
  const Sealed one({100});
  const Sealed two({100});
  const OutDatagram batch[] = {one.batch[0], two.batch[0]};
  const UdpPath paths[] = {{.peer = kPeer, .local = {}}};
  EXPECT_EQ(socket.send(batch, paths).sent, 2u);
  Packet both = one.block;
  testing::append(both, two.block);
  EXPECT_EQ(sent_bytes(), both);
  EXPECT_EQ(sent_segments(), Sizes{100});
}

TEST_F(UdpSocketOnFakes, LinkLocalPathsNameTheirInterface) {
  UdpSocket socket = open();
  const Sealed sealed({100});
  const UdpPath paths[] = {{.peer = {testing::address("fe80::7"), 5000},
                            .local = testing::address("fe80::1"),
                            .interface = 3}};
  EXPECT_EQ(socket.send(sealed.batch, paths).sent, 1u);
  EXPECT_EQ(sys_.sent[0].interface, 3u);
}

TEST_F(UdpSocketOnFakes, ConnectedSocketsNeedNoPaths) {
  UdpSocket socket = open({.local = {testing::address("0.0.0.0"), 0}, .packet_info = false});
  ASSERT_TRUE(socket.connect(kPeer));
  EXPECT_EQ(sys_.connected, kPeer);
  const Sealed sealed({100, 100});
  EXPECT_EQ(socket.send(sealed.batch, {}).sent, 2u);
  EXPECT_EQ(sys_.sent[0].peer, Endpoint{});
  EXPECT_EQ(sent_segments(), Sizes{100});
  sys_.connect_error = ENETUNREACH;
  EXPECT_EQ(socket.connect(kPeer).error().code, ErrorCode::kNetwork);
}

TEST_F(UdpSocketOnFakes, SendsBatchesOfAnySize) {
  for (const bool gso : {true, false}) {
    FakeSys sys;
    auto socket = UdpSocket::open(sys, {.local = kAny6, .gso = gso});
    ASSERT_TRUE(socket);
    std::vector<size_t> sizes;
    for (size_t i = 0; i < 1000; ++i)
      sizes.push_back(40 + i % 7);
    const Sealed sealed(sizes);
    const UdpPath paths[] = {{.peer = kPeer, .local = {}}};
    const SendOutcome outcome = socket->send(sealed.batch, paths);
    EXPECT_EQ(outcome.sent, 1000u);
    Packet all;
    for (const auto& message : sys.sent)
      testing::append(all, message.bytes);
    EXPECT_EQ(all == sealed.block, true);
    EXPECT_LE(outcome.calls, gso ? 15u : 16u);
  }
}

TEST_F(UdpSocketOnFakes, AFullBufferDropsTheRestAndCounts) {
  UdpSocket socket = open();
  const Sealed sealed({1400, 1400, 90, 500, 500, 700});
  sys_.send_errors = {0, EAGAIN};
  const UdpPath paths[] = {{.peer = kPeer, .local = {}}};
  const SendOutcome outcome = socket.send(sealed.batch, paths);
  EXPECT_EQ(outcome.sent, 3u);
  EXPECT_EQ(outcome.dropped, 3u);
  EXPECT_EQ(outcome.last_error, EAGAIN);
  EXPECT_TRUE(socket.gso());
}

TEST_F(UdpSocketOnFakes, AFullDeviceQueueDropsOneRun) {
  UdpSocket socket = open();
  const Sealed sealed({1400, 1400, 90, 500, 500, 700});
  sys_.send_errors = {ENOBUFS};
  const UdpPath paths[] = {{.peer = kPeer, .local = {}}};
  const SendOutcome outcome = socket.send(sealed.batch, paths);
  EXPECT_EQ(outcome.sent, 3u);
  EXPECT_EQ(outcome.dropped, 3u);
}

TEST_F(UdpSocketOnFakes, EioGivesUpSegmentationAndLosesNothing) {
  UdpSocket socket = open();
  const Sealed sealed({500, 1400, 1400, 90, 600, 600, 600});
  sys_.segmented_send_error = EIO;
  const UdpPath paths[] = {{.peer = kPeer, .local = testing::address("198.51.100.1")}};
  SendOutcome outcome = socket.send(sealed.batch, paths);
  EXPECT_EQ(outcome.sent, 7u);
  EXPECT_TRUE(outcome.gso_lost);
  EXPECT_EQ(outcome.failed, 0u);
  EXPECT_FALSE(socket.gso());
  EXPECT_EQ(sent_bytes(), sealed.block);
  EXPECT_EQ(sent_segments(), Sizes(7, 0));
  for (const FakeSys::Message& message : sys_.sent) {
    EXPECT_EQ(message.peer, kPeer);
    EXPECT_EQ(message.local, testing::address("198.51.100.1"));
  }
  const size_t calls = sys_.send_calls;
  outcome = socket.send(sealed.batch, paths);
  EXPECT_FALSE(outcome.gso_lost) << "said once";
  EXPECT_EQ(sys_.send_calls, calls + 1);
}

TEST_F(UdpSocketOnFakes, TooLargeIsAnEventOfThePathNotOfSegmentation) {
  for (const int error : {0, EINVAL}) {  // EINVAL: what older kernels say to segments too large
    FakeSys sys;
    auto socket = UdpSocket::open(sys, {.local = kAny6});
    ASSERT_TRUE(socket);
    sys.largest_datagram = 1300;
    sys.segmented_send_error = error;
    const Sealed sealed({1400, 1400, 90}, 1);
    const Sealed fits({1300});
    std::vector<OutDatagram> batch = sealed.batch;
    batch.push_back(fits.batch[0]);
    const UdpPath paths[] = {{.peer = kPeer6, .local = {}}, {.peer = kPeer, .local = {}}};
    const SendOutcome outcome = socket->send(batch, paths);
    EXPECT_EQ(outcome.sent, 2u);
    EXPECT_EQ(outcome.too_large, 2u);
    EXPECT_EQ(outcome.too_large_size, 1400);
    EXPECT_EQ(outcome.too_large_path, 1);
    EXPECT_EQ(outcome.last_error, EMSGSIZE);
    EXPECT_TRUE(socket->gso());
  }
}

TEST_F(UdpSocketOnFakes, ErrorsLeftBehindByIcmpCostNoDatagram) {
  for (const int error : {ECONNREFUSED, EHOSTUNREACH, EMSGSIZE}) {
    FakeSys sys;
    auto socket = UdpSocket::open(sys, {.local = kAny6});
    ASSERT_TRUE(socket);
    sys.send_errors = {error};
    const Sealed sealed({100});
    const UdpPath paths[] = {{.peer = kPeer, .local = {}}};
    const SendOutcome outcome = socket->send(sealed.batch, paths);
    EXPECT_EQ(outcome.sent, 1u) << error;
    EXPECT_EQ(outcome.too_large, 0u);
  }
}

TEST_F(UdpSocketOnFakes, OtherErrorsCountAsFailedAndTheRestGoesOn) {
  UdpSocket socket = open();
  const Sealed sealed({100, 200, 300});
  sys_.send_errors = {0, EPERM, 0};
  const UdpPath paths[] = {{.peer = kPeer, .local = {}}};
  const SendOutcome outcome = socket.send(sealed.batch, paths);
  EXPECT_EQ(outcome.sent, 2u);
  EXPECT_EQ(outcome.failed, 1u);
  EXPECT_EQ(outcome.last_error, EPERM);
}

TEST_F(UdpSocketOnFakes, InterruptedCallsAreRepeated) {
  UdpSocket socket = open();
  sys_.send_errors = {EINTR, EINTR};
  const Sealed sealed({100});
  const UdpPath paths[] = {{.peer = kPeer, .local = {}}};
  EXPECT_EQ(socket.send(sealed.batch, paths).sent, 1u);
  sys_.receive_errors = {EINTR, 0};
  UdpArena arena(4);
  EXPECT_TRUE(socket.receive(arena).drained);
}

TEST_F(UdpSocketOnFakes, ReceivesTrainsWithBothEndsOfTheirPath) {
  UdpSocket socket = open();
  const Packet bytes = testing::pattern(2500, 4);
  sys_.to_receive = {
      {.bytes = bytes,
       .segment_size = 1000,
       .peer = kPeer,
       .local = testing::address("10.0.0.1"),
       .interface = 2},
      {.bytes = testing::pattern(70, 5),
       .peer = kPeer6,
       .local = testing::address("fd00::1"),
       .interface = 2},
      {.bytes = testing::pattern(80, 6),
       .peer = {testing::address("fe80::2"), 9},
       .local = testing::address("fe80::1"),
       .interface = 2},
  };
  UdpArena arena(8);
  const ReceiveOutcome outcome = socket.receive(arena);
  EXPECT_EQ(outcome.trains, 3u);
  EXPECT_EQ(outcome.bytes, 2650u);
  EXPECT_TRUE(outcome.drained);
  ASSERT_EQ(arena.trains().size(), 3u);

  const UdpTrain& train = arena.trains()[0];
  ASSERT_EQ(train.count(), 3u);
  Packet joined;
  for (size_t i = 0; i < train.count(); ++i) {
    EXPECT_EQ(train[i].size(), i == 2 ? 500u : 1000u);
    testing::append(joined, train[i]);
  }
  EXPECT_EQ(joined, bytes);
  EXPECT_EQ(train.path, (UdpPath{kPeer, testing::address("10.0.0.1"), 0}));
  EXPECT_EQ(arena.trains()[1].count(), 1u);
  EXPECT_EQ(arena.trains()[1].path, (UdpPath{kPeer6, testing::address("fd00::1"), 0}));
  EXPECT_EQ(arena.trains()[2].path,
            (UdpPath{{testing::address("fe80::2"), 9}, testing::address("fe80::1"), 2}));
}

TEST_F(UdpSocketOnFakes, TheArenaIsFreshForEveryReceive) {
  UdpSocket socket = open();
  UdpArena arena(2, 2048);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 3; ++i)
      sys_.to_receive.push_back({.bytes = testing::pattern(100, 1),
                                 .segment_size = 50,
                                 .peer = kPeer6,
                                 .local = testing::address("fd00::1")});
    ReceiveOutcome outcome = socket.receive(arena);
    EXPECT_EQ(outcome.trains, 2u);
    EXPECT_FALSE(outcome.drained);
    outcome = socket.receive(arena);
    EXPECT_EQ(outcome.trains, 1u);
    EXPECT_TRUE(outcome.drained);
    ASSERT_EQ(arena.trains().size(), 1u);
    EXPECT_EQ(arena.trains()[0].count(), 2u);
    EXPECT_EQ(arena.trains()[0].path.local, testing::address("fd00::1"));
  }
}

TEST_F(UdpSocketOnFakes, TruncatedAndEmptyDatagramsAreNoTrains) {
  UdpSocket socket = open();
  UdpArena arena(4, 100);
  sys_.to_receive = {{.bytes = testing::pattern(101, 1), .peer = kPeer, .local = {}},
                     {.bytes = {}, .peer = kPeer, .local = {}},
                     {.bytes = testing::pattern(100, 1), .peer = kPeer, .local = {}}};
  const ReceiveOutcome outcome = socket.receive(arena);
  EXPECT_EQ(outcome.truncated, 1u);
  EXPECT_EQ(outcome.trains, 1u);
}

TEST_F(UdpSocketOnFakes, ReceivingPassesOverErrorsOfIcmpAndReportsRealOnes) {
  UdpSocket socket = open();
  UdpArena arena(4);
  sys_.to_receive = {{.bytes = testing::pattern(10, 1), .peer = kPeer, .local = {}}};
  sys_.receive_errors = {ECONNREFUSED, EHOSTUNREACH, 0};
  EXPECT_EQ(socket.receive(arena).trains, 1u);
  sys_.receive_errors = std::deque<int>(100, ECONNREFUSED);
  EXPECT_EQ(socket.receive(arena).error, ECONNREFUSED) << "not for ever";
  sys_.receive_errors = {ENOTSOCK};
  const ReceiveOutcome outcome = socket.receive(arena);
  EXPECT_EQ(outcome.error, ENOTSOCK);
  EXPECT_FALSE(outcome.drained);
  EXPECT_TRUE(arena.trains().empty());
}

// FakeSys allocates; this one doesn't. Segmented sends fail, so that the way down is walked too.
class Silent final : public Sys {
 public:
  int open(const char*, int) override { return -ENOSYS; }
  int ioctl(int, unsigned long, void*) override { return -ENOSYS; }
  ssize_t read(int, MutableBytes) override { return -ENOSYS; }
  ssize_t write(int, Bytes) override { return -ENOSYS; }
  ssize_t readv(int, std::span<const iovec>) override { return -ENOSYS; }
  ssize_t writev(int, std::span<const iovec>) override { return -ENOSYS; }
  int socket(int, int, int) override { return ::open("/dev/null", O_RDWR | O_CLOEXEC); }
  int bind(int, const sockaddr_storage&, socklen_t) override { return 0; }
  int connect(int, const sockaddr_storage&, socklen_t) override { return 0; }
  int setsockopt(int, int, int, Bytes) override { return 0; }
  int getsockname(int, sockaddr_storage&) override { return -ENOSYS; }
  int recvmmsg(int, std::span<mmsghdr> messages) override {
    for (mmsghdr& message : messages)
      message.msg_len = 1000;
    return static_cast<int>(messages.size());
  }
  int sendmmsg(int, std::span<mmsghdr> messages) override {
    return messages[0].msg_hdr.msg_iov->iov_len > 1500 ? -EIO : static_cast<int>(messages.size());
  }
};

TEST_F(UdpSocketOnFakes, AllocatesNothing) {
  UdpArena arena(8);
  const Sealed sealed({1400, 1400, 90, 500, 500, 700});
  const UdpPath paths[] = {{.peer = kPeer, .local = testing::address("198.51.100.1")}};
  Silent sys;
  auto silent = UdpSocket::open(sys, {.local = kAny6});
  ASSERT_TRUE(silent);
  const fakes::AllocationCounter counter;
  const SendOutcome sent = silent->send(sealed.batch, paths);
  const ReceiveOutcome received = silent->receive(arena);
  const size_t allocations = counter.count();
  EXPECT_EQ(allocations, 0u);
  EXPECT_EQ(sent.sent, 6u);
  EXPECT_TRUE(sent.gso_lost);
  EXPECT_EQ(received.trains, 8u);
}

}  // namespace
}  // namespace culvert::net
