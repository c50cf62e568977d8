#include "common/net/gso_split.h"

#include <gtest/gtest.h>

#include <random>

#define CULVERT_READS_ALLOCATIONS_ONLY
#include "tests/fakes/allocation_counter.h"
#include "tests/unit/net/offload_packets.h"
#include "tests/unit/net/same_packets.h"

namespace culvert::net {
namespace {

using testing::bytes_of;
using testing::Packet;
using testing::TcpFields;

constexpr size_t kRoomInFront = 16;
constexpr std::byte kUntouched{0xa5};

// A superpacket in a slot, with the header that the kernel would give it.
struct Slot {
  Slot(Bytes packet, GsoType type, size_t gso_size) : memory(kRoomInFront, kUntouched) {
    testing::append(memory, packet);
    const auto place = testing::transport_of(packet);
    header = {.flags = kVnetNeedsChecksum,
              .type = type,
              .gso_size = static_cast<uint16_t>(gso_size),
              .checksum_start = static_cast<uint16_t>(place.at),
              .checksum_offset = static_cast<uint16_t>(place.protocol == 6 ? 16 : 6)};
    verdict = check_vnet(header, bytes(), kKernelBounds);
  }
  [[nodiscard]] MutableBytes bytes() { return MutableBytes(memory).subspan(kRoomInFront); }

  Packet memory;
  VnetHeader header;
  VnetVerdict verdict;
};

std::vector<Packet> split(Slot& slot, size_t mtu) {
  EXPECT_EQ(slot.verdict, VnetVerdict::kOk);
  GsoSplitter splitter(slot.header, slot.bytes(), mtu);
  std::vector<Packet> packets;
  for (MutableBytes packet = splitter.next(); !packet.empty(); packet = splitter.next()) {
    packets.emplace_back(packet.begin(), packet.end());
    // What a layer below does with its headroom must not reach the rest.
    std::fill_n(packet.data() - kRoomInFront, kRoomInFront, std::byte{0xff});
  }
  EXPECT_EQ(packets.size(), splitter.count());
  EXPECT_TRUE(splitter.next().empty());
  return packets;
}

GsoType type_of(Bytes packet) {
  if (testing::transport_of(packet).protocol == 17) return GsoType::kUdpL4;
  return testing::is_v4(packet) ? GsoType::kTcpV4 : GsoType::kTcpV6;
}

Packet tcp_v4(const TcpFields& fields, size_t payload) {
  return testing::seal_partially(testing::ipv4(
      "10.0.0.1", "10.0.0.2", 6, testing::tcp(fields, testing::pattern(payload, 3)), 0x4000));
}

int flags_of(const Packet& packet) {
  return std::to_integer<int>(packet[testing::transport_of(packet).at + 13]);
}

TEST(GsoSplit, GivesWhatThePlainImplementationGives) {
  struct Row {
    const char* what;
    size_t payload, gso_size, mtu, segment;  // the last is what must come of it
  };
  const Row rows[] = {
      {"even cut", 4000, 1000, 1500, 1000},    {"short last", 4001, 1000, 1500, 1000},
      {"odd size", 3999, 777, 1500, 777},      {"smaller MTU", 9000, 1348, 1052, 1000},
      {"one byte each", 90, 1, 1500, 1},       {"less than a header", 500, 8, 1500, 8},
      {"a byte of room", 60, 59, 53, 1},       {"full size", 64900, 1348, 1400, 1348},
      {"two packets", 1001, 1000, 1500, 1000}, {"larger MTU", 9000, 1348, 9000, 1348},
  };
  for (const Row& row : rows) {
    const Packet packet = tcp_v4({.sequence = 0xfffffe00, .flags = 0x18}, row.payload);
    Slot slot(packet, GsoType::kTcpV4, row.gso_size);
    EXPECT_TRUE(
        testing::same_packets(split(slot, row.mtu), testing::plain_split(packet, row.segment)))
        << row.what;
  }
}

TEST(GsoSplit, KeepsToItsSlot) {
  Slot slot(tcp_v4({}, 5000), GsoType::kTcpV4, 1000);
  slot.memory.resize(slot.memory.size() + 64, kUntouched);  // not part of the packet
  GsoSplitter splitter(slot.header, slot.bytes().first(5052), 1500);
  while (!splitter.next().empty()) {
  }
  for (size_t i = 0; i < kRoomInFront; ++i)
    EXPECT_EQ(slot.memory[i], kUntouched);
  for (size_t i = kRoomInFront + 5052; i < slot.memory.size(); ++i)
    EXPECT_EQ(slot.memory[i], kUntouched);
}

TEST(GsoSplit, EndsAreToldByTheLastAndReductionByTheFirst) {
  using namespace testing;
  struct Row {
    int flags, first, middle, last;
  };
  for (const Row& row :
       {Row{kAck, kAck, kAck, kAck}, Row{kAck | kPsh, kAck, kAck, kAck | kPsh},
        Row{kAck | kFin, kAck, kAck, kAck | kFin}, Row{kAck | kCwr, kAck | kCwr, kAck, kAck},
        Row{kAck | kCwr | kEce | kPsh, kAck | kCwr | kEce, kAck | kEce, kAck | kEce | kPsh},
        Row{kAck | kUrg, kAck | kUrg, kAck | kUrg, kAck | kUrg}}) {
    Slot slot(tcp_v4({.flags = row.flags}, 3000), GsoType::kTcpV4, 1000);
    const auto packets = split(slot, 1500);
    ASSERT_EQ(packets.size(), 3u);
    EXPECT_EQ(flags_of(packets[0]), row.first) << row.flags;
    EXPECT_EQ(flags_of(packets[1]), row.middle) << row.flags;
    EXPECT_EQ(flags_of(packets[2]), row.last) << row.flags;
  }
}

TEST(GsoSplit, NumbersWrapAround) {
  Packet packet = tcp_v4({.sequence = 0xfffffffe}, 3000);
  store_be16(MutableBytes(packet).subspan(4), 0xfffe);
  Slot slot(packet, GsoType::kTcpV4, 1000);
  const auto packets = split(slot, 1500);
  ASSERT_EQ(packets.size(), 3u);
  EXPECT_EQ(load_be16(Bytes(packets[2]).subspan(4)), 0);
  EXPECT_EQ(load_be32(Bytes(packets[1]).subspan(24)), 998u);
}

TEST(GsoSplit, UdpTrainsKeepTheirCut) {
  const Packet packet =
      testing::seal_partially(testing::ipv4("10.0.0.1", "10.0.0.2", 17, testing::udp(1, 2, 3333)));
  Slot fits(packet, GsoType::kUdpL4, 1000);
  EXPECT_TRUE(testing::same_packets(split(fits, 1028), testing::plain_split(packet, 1000)));

  Slot too_large(packet, GsoType::kUdpL4, 1000);
  GsoSplitter splitter(too_large.header, too_large.bytes(), 1027);
  EXPECT_FALSE(splitter.fits());
  EXPECT_TRUE(splitter.next().empty());
}

TEST(GsoSplit, AnOrdinaryPacketPassesUnchanged) {
  Packet packet = testing::seal(tcp_v4({}, 1000));
  const Packet before = packet;
  GsoSplitter splitter({}, packet, 1052);
  EXPECT_EQ(splitter.count(), 1u);
  const MutableBytes out = splitter.next();
  EXPECT_EQ(out.data(), packet.data());
  EXPECT_EQ(packet, before);
  EXPECT_TRUE(splitter.next().empty());

  EXPECT_FALSE(GsoSplitter({}, packet, 1051).fits());
}

TEST(GsoSplit, CompletesTheChecksumThatWasLeftToUs) {
  for (const int protocol : {6, 17}) {
    for (const size_t size : {1u, 2u, 99u, 1000u}) {
      Packet transport =
          protocol == 6 ? testing::tcp({}, testing::pattern(size, 9)) : testing::udp(1, 2, size);
      Packet packet = testing::ipv6("fd00::1", "fd00::2", protocol, transport);
      Slot slot(testing::seal_partially(packet), GsoType::kNone, 0);
      EXPECT_TRUE(testing::same_packets(split(slot, 1500), {testing::seal(packet)}));
    }
  }
}

TEST(GsoSplit, UdpNeverSaysThatItHasNoChecksum) {
  // Two bytes of payload that make the sum come out as zero.
  Packet packet = testing::ipv4("10.0.0.1", "10.0.0.2", 17, testing::udp(1, 2, 2));
  packet[28] = packet[29] = std::byte{0};
  packet = testing::seal(packet);
  store_be16(MutableBytes(packet).subspan(28), load_be16(Bytes(packet).subspan(26)));
  packet = testing::seal_partially(packet);
  Slot slot(packet, GsoType::kNone, 0);
  const auto packets = split(slot, 1500);
  ASSERT_EQ(packets.size(), 1u);
  EXPECT_EQ(load_be16(Bytes(packets[0]).subspan(26)), 0xffff);
  EXPECT_TRUE(testing::checksums_are_right(packets[0]));
}

TEST(GsoSplit, AnMtuSmallerThanTheHeadersFitsNothing) {
  for (const size_t mtu : {0u, 20u, 51u, 52u}) {
    Slot slot(tcp_v4({}, 3000), GsoType::kTcpV4, 1000);
    EXPECT_FALSE(GsoSplitter(slot.header, slot.bytes(), mtu).fits());
  }
}

// Any superpacket, any cut.
TEST(GsoSplit, AgreesWithThePlainImplementationOnRandomSuperpackets) {
  std::mt19937 random(7);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  for (int round = 0; round < 400; ++round) {
    const bool udp = below(3) == 0;
    TcpFields fields{.sequence = static_cast<uint32_t>(random()),
                     .flags = static_cast<int>(below(256)),
                     .options = testing::pattern(below(11) * 4, static_cast<unsigned>(round))};
    const Packet payload = testing::pattern(1 + below(20000), static_cast<unsigned>(round));
    Packet transport = udp ? testing::udp(1, 2, payload.size()) : testing::tcp(fields, payload);
    const int protocol = udp ? 17 : 6;
    Packet packet;
    if (below(2) == 0) {
      packet = testing::ipv4("192.0.2.1", "198.51.100.7", protocol, transport, 0x4000);
      store_be16(MutableBytes(packet).subspan(4), static_cast<uint16_t>(random()));
    } else if (below(2) == 0) {
      packet = testing::ipv6("2001:db8::1", "fd00::9", protocol, transport);
    } else {
      Packet behind = bytes_of({protocol, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
      testing::append(behind, transport);
      packet = testing::ipv6("2001:db8::1", "fd00::9", 60, behind);
    }
    packet = testing::seal_partially(packet);
    const size_t headers = testing::headers_of(packet);
    const size_t gso_size = 1 + below(3000);
    const size_t mtu = headers + 1 + below(3000);
    const size_t segment = udp ? gso_size : std::min(gso_size, mtu - headers);
    Slot slot(packet, type_of(packet), gso_size);
    const bool one = packet.size() - headers <= gso_size;
    if ((udp && headers + gso_size > mtu) || (one && packet.size() > mtu)) {
      EXPECT_EQ(slot.verdict, VnetVerdict::kOk);
      EXPECT_FALSE(!one && GsoSplitter(slot.header, slot.bytes(), mtu).fits());
      continue;
    }
    ASSERT_TRUE(testing::same_packets(split(slot, mtu), testing::plain_split(packet, segment)))
        << "round " << round;
  }
}

TEST(GsoSplit, AllocatesNothing) {
  Slot slot(tcp_v4({}, 60000), GsoType::kTcpV4, 1348);
  const fakes::AllocationCounter counter;
  VnetHeader header = slot.header;
  ASSERT_EQ(check_vnet(header, slot.bytes(), kKernelBounds), VnetVerdict::kOk);
  GsoSplitter splitter(header, slot.bytes(), 1400);
  size_t packets = 0;
  while (!splitter.next().empty())
    ++packets;
  EXPECT_EQ(counter.count(), 0u);
  EXPECT_EQ(packets, 45u);
}

}  // namespace
}  // namespace culvert::net
