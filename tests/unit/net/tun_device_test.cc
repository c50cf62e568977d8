// TunDevice on the fake system calls; on the real ones in tun_kernel_test.cc.
#include "common/net/tun_device.h"

#include <gtest/gtest.h>
#include <linux/if_tun.h>

#include "common/net/ip_packet.h"
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

}  // namespace
}  // namespace culvert::net
