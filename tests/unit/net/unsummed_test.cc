#include "common/net/unsummed.h"

#include <gtest/gtest.h>

#include "common/net/gso_split.h"
#include "tests/unit/net/offload_packets.h"
#include "tests/unit/net/same_packets.h"

namespace culvert::net {
namespace {

using testing::Packet;

constexpr GsoType kPlain = GsoType::kNone;

struct Built {
  Packet packet;
  VnetHeader header;
};

// As the kernel hands it out, checked.
Built from_kernel(Packet packet, GsoType type, size_t gso_size) {
  const auto place = testing::transport_of(packet);
  Built built{testing::seal_partially(std::move(packet)), {}};
  built.header = {.flags = kVnetNeedsChecksum,
                  .type = type,
                  .gso_size = static_cast<uint16_t>(gso_size),
                  .checksum_start = static_cast<uint16_t>(place.at),
                  .checksum_offset = static_cast<uint16_t>(place.protocol == 6 ? 16 : 6)};
  EXPECT_EQ(check_vnet(built.header, built.packet, kKernelBounds), VnetVerdict::kOk);
  return built;
}

Packet ip(bool v6, int protocol, const Packet& transport) {
  return v6 ? testing::ipv6("fd00::1", "fd00::2", protocol, transport)
            : testing::ipv4("10.0.0.1", "10.0.0.2", protocol, transport, 0x4000);
}

Packet tcp(bool v6, size_t payload) {
  return ip(v6, 6, testing::tcp({}, testing::pattern(payload, 3)));
}

Packet udp(bool v6, size_t payload) {
  return ip(v6, 17, testing::udp(4000, 53, payload));
}

std::vector<Packet> split(Built built, Sums sums) {
  EXPECT_TRUE(may_go_unsummed(built.header, built.packet));
  GsoSplitter splitter(built.header, built.packet, 1400, sums);
  std::vector<Packet> packets;
  for (MutableBytes packet = splitter.next(); !packet.empty(); packet = splitter.next())
    packets.emplace_back(packet.begin(), packet.end());
  return packets;
}

TEST(Unsummed, PacketsAreTheSameOnceTheyAreSummed) {
  for (const bool v6 : {false, true}) {
    const GsoType tcp_type = v6 ? GsoType::kTcpV6 : GsoType::kTcpV4;
    for (const Built& built :
         {from_kernel(tcp(v6, 9001), tcp_type, 1200), from_kernel(tcp(v6, 77), kPlain, 0),
          from_kernel(tcp(v6, 0), kPlain, 0), from_kernel(udp(v6, 5001), GsoType::kUdpL4, 1000),
          from_kernel(udp(v6, 33), kPlain, 0)}) {
      const std::vector<Packet> summed = split(built, Sums::kDone);
      std::vector<Packet> left = split(built, Sums::kLeft);
      EXPECT_FALSE(testing::checksums_are_right(left.back()));
      for (Packet& packet : left) {
        store_be16(
            MutableBytes(packet).subspan(testing::checksum_field(testing::transport_of(packet))),
            0x1234);  // it may hold anything
        EXPECT_TRUE(sum_transport(packet));
      }
      EXPECT_TRUE(testing::same_packets(left, summed));
    }
  }
}

TEST(Unsummed, ASumOfZeroIsWrittenAsOnes) {
  Packet packet = udp(false, 8);
  store_be16(MutableBytes(packet).subspan(28), 0);
  packet = testing::seal(packet);
  // With its own checksum as payload, it has none.
  store_be16(MutableBytes(packet).subspan(28), load_be16(Bytes(packet).subspan(26)));
  EXPECT_TRUE(sum_transport(packet));
  EXPECT_EQ(load_be16(Bytes(packet).subspan(26)), 0xffff);
}

TEST(Unsummed, KeepTheirSumWhenTheReceiverCouldNotFindItsPlace) {
  const auto may = [](const Built& built) { return may_go_unsummed(built.header, built.packet); };
  EXPECT_TRUE(may(from_kernel(tcp(false, 10), kPlain, 0)));
  EXPECT_FALSE(may_go_unsummed({}, testing::seal(tcp(false, 10)))) << "its sum is there";

  // The checksum of a packet inside: GRE, then IPv4, then TCP.
  Packet inner = testing::seal_partially(tcp(false, 10));
  Packet gre = {std::byte{0}, std::byte{0}, std::byte{8}, std::byte{0}};
  testing::append(gre, inner);
  Packet outer = testing::ipv4("10.0.0.1", "10.0.0.2", 47, gre);
  VnetHeader header{.flags = kVnetNeedsChecksum, .checksum_start = 44, .checksum_offset = 16};
  ASSERT_EQ(check_vnet(header, outer, kKernelBounds), VnetVerdict::kOk);
  EXPECT_FALSE(may_go_unsummed(header, outer));

  // IPv4 options, extension headers, fragments.
  Packet options = tcp(false, 10);
  options[0] = std::byte{0x46};
  options.insert(options.begin() + 20, 4, std::byte{1});
  EXPECT_FALSE(may(from_kernel(options, kPlain, 0)));
  Packet extended{std::byte{6}, std::byte{0}, std::byte{1}, std::byte{4},
                  std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0}};
  testing::append(extended, testing::tcp({}, testing::pattern(3000, 1)));
  const Packet hop_by_hop = testing::ipv6("fd00::1", "fd00::2", 0, extended);
  EXPECT_FALSE(may(from_kernel(hop_by_hop, kPlain, 0)));
  EXPECT_FALSE(may(from_kernel(hop_by_hop, GsoType::kTcpV6, 1000)));
  const Packet fragment = testing::ipv4("10.0.0.1", "10.0.0.2", 17, testing::udp(1, 2, 8), 0x2000);
  EXPECT_FALSE(may(from_kernel(fragment, kPlain, 0)));
}

TEST(Unsummed, AreNotSummedWhereNothingCanBe) {
  const Packet udp_in_v4 = testing::seal(udp(false, 8));
  std::vector<Packet> odd = {
      {},
      Packet(20, std::byte{0x45}),
      ip(false, 1, testing::udp(0, 0, 8)),             // ICMP
      ip(false, 6, Packet(19)),                        // less than a TCP header
      ip(false, 17, Packet(7)),                        // less than a UDP header
      Packet(udp_in_v4.begin(), udp_in_v4.end() - 1),  // truncated
      testing::ipv4("10.0.0.1", "10.0.0.2", 17, testing::udp(1, 2, 8), 0x2000),
  };
  odd.push_back(udp_in_v4);
  odd.back()[25] = std::byte{9};  // a length of its own
  odd.push_back(udp_in_v4);
  odd.back().push_back(std::byte{0});  // longer than it says
  for (Packet& packet : odd) {
    const Packet before = packet;
    EXPECT_FALSE(sum_transport(packet));
    EXPECT_EQ(packet, before);
  }
}

}  // namespace
}  // namespace culvert::net
