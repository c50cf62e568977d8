// TunDevice on the fake system calls; on the real ones in tun_kernel_test.cc.
#include "common/net/tun_device.h"

#include <gtest/gtest.h>
#include <linux/if_tun.h>

#include "common/net/ip_packet.h"
#include "common/net/vnet_header.h"
#include "tests/fakes/allocation_counter.h"
#include "tests/fakes/fake_sys.h"
#include "tests/unit/net/packets.h"

namespace culvert::net {
namespace {

using fakes::FakeSys;
using testing::Packet;

constexpr size_t kPlenty = size_t{1} << 20;

Packet packet_of(size_t length) {
  return Packet(length, std::byte{0x45});
}

class TunDeviceOnFakes : public ::testing::Test {
 protected:
  FakeSys sys_;
  TunDevice device_ = TunDevice::open(sys_, {}).value();
  PacketBatch batch_{4, 1500, 8};
};

TEST_F(TunDeviceOnFakes, OpensWithoutBlockingAndTakesTheKernelsName) {
  EXPECT_EQ(sys_.opened_path, "/dev/net/tun");
  EXPECT_NE(sys_.opened_flags & O_NONBLOCK, 0);
  EXPECT_NE(sys_.opened_flags & O_CLOEXEC, 0);
  EXPECT_EQ(sys_.asked_name, "culvert%d");
  EXPECT_EQ(sys_.asked_flags, unsigned{IFF_TUN | IFF_NO_PI});
  EXPECT_EQ(device_.name(), "tun7");
}

TEST_F(TunDeviceOnFakes, AsksForQueuesAndForANewInterface) {
  const TunOptions options{.name = "vpn0", .multi_queue = true, .must_be_new = true};
  ASSERT_TRUE(TunDevice::open(sys_, options));
  EXPECT_EQ(sys_.asked_flags, unsigned{IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE | IFF_TUN_EXCL});
}

TEST_F(TunDeviceOnFakes, ReadsUntilTheQueueIsEmpty) {
  sys_.to_read = {packet_of(100), packet_of(200)};
  const ReadOutcome outcome = device_.read_batch(batch_, kPlenty);
  EXPECT_EQ(outcome.packets, 2u);
  EXPECT_EQ(outcome.bytes, 300u);
  EXPECT_TRUE(outcome.drained);
  EXPECT_EQ(outcome.error, 0);
  ASSERT_EQ(batch_.size(), 2u);
  EXPECT_EQ(batch_[1].size(), 200u);
}

TEST_F(TunDeviceOnFakes, StopsWhenTheBatchIsFull) {
  for (int i = 0; i < 5; ++i)
    sys_.to_read.push_back(packet_of(10));
  const ReadOutcome outcome = device_.read_batch(batch_, kPlenty);
  EXPECT_EQ(outcome.packets, 4u);
  EXPECT_FALSE(outcome.drained);
  EXPECT_EQ(sys_.reads, 4u);
}

TEST_F(TunDeviceOnFakes, StopsAtItsBudgetOfBytes) {
  for (int i = 0; i < 4; ++i)
    sys_.to_read.push_back(packet_of(100));
  const ReadOutcome outcome = device_.read_batch(batch_, 150);
  EXPECT_EQ(outcome.packets, 2u);
  EXPECT_FALSE(outcome.drained);
}

TEST_F(TunDeviceOnFakes, ReadsOnAfterAnInterruptionAndReportsRealErrors) {
  sys_.read_errors = {EINTR, 0, EBADFD};
  sys_.to_read = {packet_of(10), packet_of(10)};
  const ReadOutcome outcome = device_.read_batch(batch_, kPlenty);
  EXPECT_EQ(outcome.packets, 1u);
  EXPECT_FALSE(outcome.drained);
  EXPECT_EQ(outcome.error, EBADFD);
}

TEST_F(TunDeviceOnFakes, AppendsToWhatTheBatchHolds) {
  batch_.commit(1);
  sys_.to_read = {packet_of(10)};
  EXPECT_EQ(device_.read_batch(batch_, kPlenty).packets, 1u);
  EXPECT_EQ(batch_.size(), 2u);
}

TEST_F(TunDeviceOnFakes, WritesOnAfterADrop) {
  for (size_t i = 1; i <= 3; ++i)
    batch_.commit(i);
  sys_.write_errors = {0, EIO, EINTR, 0};
  const WriteOutcome outcome = device_.write_batch(batch_.packets());
  EXPECT_EQ(outcome.written, 2u);
  EXPECT_EQ(outcome.dropped, 1u);
  EXPECT_EQ(outcome.last_error, EIO);
  ASSERT_EQ(sys_.written.size(), 2u);
  EXPECT_EQ(sys_.written[1].size(), 3u);
}

TEST_F(TunDeviceOnFakes, PacketPathAllocatesNothing) {
  const auto packet = testing::ipv4("10.0.0.1", "10.0.0.2", 17, testing::udp(7, 9));
  for (int i = 0; i < 4; ++i)
    sys_.to_read.push_back(packet);
  sys_.write_errors.assign(4, EAGAIN);  // a fake write would allocate
  const fakes::AllocationCounter allocations;
  batch_.clear();
  device_.read_batch(batch_, kPlenty);
  size_t parsed = 0;
  uint32_t hashes = 0;
  for (const MutableBytes read : batch_.packets()) {
    parsed += parse_ip(read) ? 1 : 0;
    hashes |= flow_hash(read);
  }
  const WriteOutcome outcome = device_.write_batch(batch_.packets());
  const size_t count = allocations.count();
  EXPECT_EQ(count, 0u);
  EXPECT_EQ(parsed, 4u);
  EXPECT_NE(hashes, 0u);
  EXPECT_EQ(outcome.dropped, 4u);
}

TEST(TunDevice, ErrorsSayWhatToDo) {
  FakeSys sys;
  sys.ioctl_error = EPERM;
  auto refused = TunDevice::open(sys, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kPermission);
  EXPECT_NE(refused.error().hint.find("CAP_NET_ADMIN"), std::string::npos);

  sys.ioctl_error = EBUSY;
  auto busy = TunDevice::open(sys, {.name = "vpn0"});
  ASSERT_FALSE(busy);
  EXPECT_EQ(busy.error().code, ErrorCode::kFailure);
  EXPECT_EQ(busy.error().where, "vpn0");
  EXPECT_FALSE(busy.error().hint.empty());

  sys.open_error = ENOENT;
  auto absent = TunDevice::open(sys, {});
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().where, "/dev/net/tun");
}

TEST(TunDevice, RefusesImpossibleNames) {
  FakeSys sys;
  for (const char* name : {"", "a/b", "..", "sixteen-letters-", "with space", "%s", "a%db%d"}) {
    auto opened = TunDevice::open(sys, {.name = name});
    ASSERT_FALSE(opened) << name;
    EXPECT_EQ(opened.error().code, ErrorCode::kUsage) << name;
  }
  EXPECT_TRUE(sys.opened_path.empty());
}

TEST(InterfaceName, IsWhatTheKernelTakes) {
  for (const char* name : {"eth0", "culvert-1", "br_0.100", "fifteen-letters"}) {
    EXPECT_TRUE(is_interface_name(name)) << name;
  }
  for (const char* name : {"", ".", "..", "a:1", "a b", "tun%d", "\x01", "sixteen-letters-"}) {
    EXPECT_FALSE(is_interface_name(name)) << name;
  }
}

TEST_F(TunDeviceOnFakes, WithOffloadsTheVirtioHeaderLiesInTheHeadroom) {
  auto device = TunDevice::open(sys_, {.offloads = true}).value();
  ASSERT_TRUE(device.has_vnet_header());
  EXPECT_NE(sys_.asked_flags & IFF_VNET_HDR, 0U);
  EXPECT_EQ(sys_.asked_vnet_header, int{kVnetHeaderSize});
  PacketBatch batch(4, 1500, 16);
  Packet wire(kVnetHeaderSize + 100, std::byte{0x45});
  VnetHeader header;
  header.flags = kVnetNeedsChecksum;
  header.checksum_start = 20;
  header.checksum_offset = 16;
  encode_vnet(MutableBytes(wire).first(kVnetHeaderSize), header);
  sys_.to_read = {wire, Packet(kVnetHeaderSize)};  // and one that is a header alone
  const ReadOutcome outcome = device.read_batch(batch, kPlenty);
  ASSERT_EQ(outcome.packets, 1u);
  EXPECT_EQ(batch[0].size(), 100u);
  EXPECT_EQ(decode_vnet(extend_front(batch[0], kVnetHeaderSize)), header);
  EXPECT_EQ(outcome.error, EIO);
}

TEST_F(TunDeviceOnFakes, TakesWhatTheKernelHas) {
  constexpr unsigned kTcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  const struct {
    unsigned kernel;
    const char* granted;
  } cases[] = {{0xff, "tcp udp"}, {kTcp, "tcp"}, {0, "none"}};
  for (const auto& c : cases) {
    sys_.offload_flags = c.kernel;
    const auto device = TunDevice::open(sys_, {.offloads = true}).value();
    EXPECT_TRUE(device.has_vnet_header());
    EXPECT_EQ(name_of(device.offloads()), c.granted);
  }
}

TEST_F(TunDeviceOnFakes, WithoutOffloadsPacketsAreBare) {
  EXPECT_FALSE(device_.has_vnet_header());
  EXPECT_EQ(name_of(device_.offloads()), "none");
}

TEST_F(TunDeviceOnFakes, MergedWritesCountPackets) {
  auto device = TunDevice::open(sys_, {.offloads = true}).value();
  Packet header(kVnetHeaderSize);
  Packet packet = packet_of(100);
  const iovec parts[] = {{header.data(), header.size()}, {packet.data(), packet.size()}};
  const TunWrite writes[] = {{parts, 3}, {parts, 5}, {parts, 1}};
  sys_.write_errors = {0, EIO, EINTR, 0};
  const WriteOutcome outcome = device.write_merged(writes);
  EXPECT_EQ(outcome.written, 4u);
  EXPECT_EQ(outcome.dropped, 5u);
  EXPECT_EQ(outcome.last_error, EIO);
  ASSERT_EQ(sys_.written.size(), 2u);
  EXPECT_EQ(sys_.written[0].size(), kVnetHeaderSize + 100);
}

}  // namespace
}  // namespace culvert::net
