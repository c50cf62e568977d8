#include "common/net/vnet_header.h"

#include <gtest/gtest.h>

#include <functional>

#include "tests/unit/net/offload_packets.h"

namespace culvert::net {
namespace {

using testing::bytes_of;
using testing::Packet;

constexpr VnetBounds kPeerBounds{
    .origin = VnetOrigin::kPeer, .max_packet = 1400, .max_segments = 128};

Packet tcp_v4(size_t payload) {
  return testing::seal_partially(
      testing::ipv4("10.0.0.1", "10.0.0.2", 6, testing::tcp({}, testing::pattern(payload, 1))));
}
Packet tcp_v6(size_t payload) {
  return testing::seal_partially(
      testing::ipv6("fd00::1", "fd00::2", 6, testing::tcp({}, testing::pattern(payload, 1))));
}
Packet udp_v4(size_t payload) {
  return testing::seal_partially(
      testing::ipv4("10.0.0.1", "10.0.0.2", 17, testing::udp(1, 2, payload)));
}

VnetHeader tcp_header(int gso_size = 1000) {
  return {.flags = kVnetNeedsChecksum,
          .type = GsoType::kTcpV4,
          .header_length = 52,
          .gso_size = static_cast<uint16_t>(gso_size),
          .checksum_start = 20,
          .checksum_offset = 16};
}

TEST(VnetHeader, StandsInMemoryAsTheSpecificationDrawsIt) {
  const VnetHeader header{.flags = 1,
                          .type = GsoType::kUdpL4,
                          .header_length = 0x0102,
                          .gso_size = 0x0304,
                          .checksum_start = 0x0506,
                          .checksum_offset = 0x0708};
  Packet bytes(12, std::byte{0xee});
  encode_vnet(bytes, header);
  EXPECT_EQ(bytes, bytes_of({1, 5, 2, 1, 4, 3, 6, 5, 8, 7, 0, 0}));
  EXPECT_EQ(decode_vnet(bytes), header);

  Packet shorter(10);
  encode_vnet(shorter, header);
  EXPECT_EQ(shorter, Packet(bytes.begin(), bytes.begin() + 10));
  EXPECT_EQ(decode_vnet(shorter), header);
  shorter.pop_back();
  EXPECT_EQ(decode_vnet(shorter), std::nullopt);
}

TEST(VnetHeader, CorrectsTheLengthThatTheKernelGetsWrong) {
  for (const int claimed : {0, 1, 20, 51, 53, 1500, 65535}) {
    VnetHeader header = tcp_header();
    header.header_length = static_cast<uint16_t>(claimed);
    header.checksum_start = 7;  // of a superpacket this is known without being told
    header.checksum_offset = 0;
    Packet packet = tcp_v4(5000);
    ASSERT_EQ(check_vnet(header, packet, kKernelBounds), VnetVerdict::kOk);
    EXPECT_EQ(header, tcp_header());
    EXPECT_EQ(segments_of(header, packet.size()), 5u);
  }
}

TEST(VnetHeader, FindsTheTransportBehindExtensionHeaders) {
  Packet transport = bytes_of({6, 0, 1, 4, 0, 0, 0, 0});  // hop-by-hop: padding only
  testing::append(transport, testing::tcp({}, testing::pattern(3000, 1)));
  Packet packet = testing::seal_partially(testing::ipv6("fd00::1", "fd00::2", 0, transport));
  VnetHeader header = tcp_header();
  header.type = GsoType::kTcpV6;
  ASSERT_EQ(check_vnet(header, packet, kPeerBounds), VnetVerdict::kOk);
  EXPECT_EQ(header.checksum_start, 48);
  EXPECT_EQ(header.header_length, 80);
}

TEST(VnetHeader, TakesTheKernelsHintsAndNoneFromAPeer) {
  Packet packet = tcp_v4(5000);
  VnetHeader ecn = tcp_header();
  ecn.type = static_cast<GsoType>(0x81);
  VnetHeader from_peer = ecn;
  EXPECT_EQ(check_vnet(ecn, packet, kKernelBounds), VnetVerdict::kOk);
  EXPECT_EQ(ecn, tcp_header());
  EXPECT_EQ(check_vnet(from_peer, packet, kPeerBounds), VnetVerdict::kUnknownType);

  VnetHeader valid{.flags = kVnetDataValid};
  from_peer = valid;
  EXPECT_EQ(check_vnet(valid, packet, kKernelBounds), VnetVerdict::kOk);
  EXPECT_EQ(valid, VnetHeader{});
  EXPECT_EQ(check_vnet(from_peer, packet, kPeerBounds), VnetVerdict::kUnknownFlags);
}

TEST(VnetHeader, MakesTheChecksumPartialThatTheKernelHasVerified) {
  const Packet partial = tcp_v4(5000);
  Packet packet = testing::seal(partial);
  ASSERT_NE(packet, partial);
  VnetHeader header = tcp_header();
  header.flags = 0;
  ASSERT_EQ(check_vnet(header, packet, kKernelBounds), VnetVerdict::kOk);
  EXPECT_EQ(header, tcp_header());
  EXPECT_EQ(packet, partial);
}

TEST(VnetHeader, OneSegmentIsAnOrdinaryPacket) {
  for (const size_t payload : {1u, 999u, 1000u}) {
    Packet packet = tcp_v4(payload);
    VnetHeader header = tcp_header();
    ASSERT_EQ(check_vnet(header, packet, kPeerBounds), VnetVerdict::kOk);
    EXPECT_FALSE(header.is_superpacket());
    EXPECT_TRUE(header.needs_checksum());
    EXPECT_EQ(header.gso_size, 0);
    EXPECT_EQ(segments_of(header, packet.size()), 1u);
  }
}

TEST(VnetHeader, KernelMayLeaveAChecksumAnywhereBehindTheIpHeader) {
  struct Row {
    int start, offset;
    VnetVerdict verdict;
  };
  Packet packet = tcp_v4(100);  // 152 bytes
  for (const Row& row :
       {Row{20, 16, VnetVerdict::kOk}, Row{40, 6, VnetVerdict::kOk}, Row{150, 0, VnetVerdict::kOk},
        Row{19, 16, VnetVerdict::kBadChecksumPlace}, Row{0, 10, VnetVerdict::kBadChecksumPlace},
        Row{150, 1, VnetVerdict::kBadChecksumPlace}, Row{20, 131, VnetVerdict::kBadChecksumPlace},
        Row{65535, 65535, VnetVerdict::kBadChecksumPlace}}) {
    VnetHeader header{.flags = 1,
                      .checksum_start = static_cast<uint16_t>(row.start),
                      .checksum_offset = static_cast<uint16_t>(row.offset)};
    EXPECT_EQ(check_vnet(header, packet, kKernelBounds), row.verdict)
        << row.start << " " << row.offset;
  }
}

TEST(VnetHeader, RefusesFromAPeerWhatDoesNotFitThePacket) {
  using Change = std::function<void(VnetHeader&, Packet&)>;
  struct Row {
    const char* what;
    VnetVerdict verdict;
    Change change;
  };
  const Row rows[] = {
      {"nothing changed", VnetVerdict::kOk, [](auto&, auto&) {}},
      {"a flag for hints", VnetVerdict::kUnknownFlags, [](auto& h, auto&) { h.flags = 3; }},
      {"a flag of the future", VnetVerdict::kUnknownFlags, [](auto& h, auto&) { h.flags = 9; }},
      {"UFO", VnetVerdict::kUnknownType, [](auto& h, auto&) { h.type = static_cast<GsoType>(3); }},
      {"a type of the future", VnetVerdict::kUnknownType,
       [](auto& h, auto&) { h.type = static_cast<GsoType>(6); }},
      {"empty", VnetVerdict::kNotIp, [](auto&, auto& p) { p.clear(); }},
      {"version 5", VnetVerdict::kNotIp, [](auto&, auto& p) { p[0] = std::byte{0x55}; }},
      {"cut off", VnetVerdict::kNotIp, [](auto&, auto& p) { p.pop_back(); }},
      {"a byte behind", VnetVerdict::kWrongLength,
       [](auto&, auto& p) { p.push_back(std::byte{0}); }},
      {"more fragments", VnetVerdict::kFragment, [](auto&, auto& p) { p[6] = std::byte{0x20}; }},
      {"a later fragment", VnetVerdict::kFragment, [](auto&, auto& p) { p[7] = std::byte{1}; }},
      {"type of the other version", VnetVerdict::kWrongProtocol,
       [](auto& h, auto&) { h.type = GsoType::kTcpV6; }},
      {"IPv6 under the type of IPv4", VnetVerdict::kWrongProtocol,
       [](auto&, auto& p) { p = tcp_v6(5000); }},
      {"UDP type for TCP", VnetVerdict::kWrongProtocol,
       [](auto& h, auto&) { h.type = GsoType::kUdpL4; }},
      {"TCP type for UDP", VnetVerdict::kWrongProtocol, [](auto&, auto& p) { p = udp_v4(5000); }},
      {"short data offset", VnetVerdict::kBadTransport,
       [](auto&, auto& p) { p[32] = std::byte{0x40}; }},
      {"transport cut off", VnetVerdict::kBadTransport,
       [](auto&, auto& p) {
         p.resize(39);
         store_be16(MutableBytes(p).subspan(2), 39);
       }},
      {"no checksum wanted", VnetVerdict::kMissingChecksum, [](auto& h, auto&) { h.flags = 0; }},
      {"no segment size", VnetVerdict::kNoSegments, [](auto& h, auto&) { h.gso_size = 0; }},
      {"no payload", VnetVerdict::kNoSegments,
       [](auto&, auto& p) {
         p = testing::seal(testing::ipv4("10.0.0.1", "10.0.0.2", 6, testing::tcp({}, {})));
       }},
      {"128 segments", VnetVerdict::kOk,
       [](auto& h, auto& p) {
         p = tcp_v4(1280);
         h.gso_size = 10;
       }},
      {"129 segments", VnetVerdict::kTooManySegments,
       [](auto& h, auto& p) {
         p = tcp_v4(1281);
         h.gso_size = 10;
       }},
      {"as large as the MTU", VnetVerdict::kOk, [](auto& h, auto&) { h.gso_size = 1400 - 52; }},
      {"larger than the MTU", VnetVerdict::kPacketTooLarge,
       [](auto& h, auto&) { h.gso_size = 1400 - 51; }},
  };
  for (const Row& row : rows) {
    VnetHeader header = tcp_header();
    Packet packet = tcp_v4(5000);
    row.change(header, packet);
    EXPECT_EQ(name_of(check_vnet(header, packet, kPeerBounds)), name_of(row.verdict)) << row.what;
  }
}

TEST(VnetHeader, RefusesAPeersChecksumThatIsNotTheTransports) {
  using Change = std::function<void(VnetHeader&, Packet&)>;
  struct Row {
    const char* what;
    VnetVerdict verdict;
    Change change;
  };
  const Row rows[] = {
      {"nothing changed", VnetVerdict::kOk, [](auto&, auto&) {}},
      {"start", VnetVerdict::kBadChecksumPlace, [](auto& h, auto&) { h.checksum_start = 0; }},
      {"offset", VnetVerdict::kBadChecksumPlace, [](auto& h, auto&) { h.checksum_offset = 16; }},
      {"fragment", VnetVerdict::kFragment, [](auto&, auto& p) { p[6] = std::byte{0x20}; }},
      {"ICMP", VnetVerdict::kWrongProtocol, [](auto&, auto& p) { p[9] = std::byte{1}; }},
      {"a byte behind", VnetVerdict::kWrongLength,
       [](auto&, auto& p) { p.push_back(std::byte{0}); }},
      {"larger than the MTU", VnetVerdict::kPacketTooLarge,
       [](auto&, auto& p) { p = udp_v4(1400); }},
  };
  for (const Row& row : rows) {
    VnetHeader header{.flags = 1, .gso_size = 17, .checksum_start = 20, .checksum_offset = 6};
    Packet packet = udp_v4(100);
    row.change(header, packet);
    const VnetVerdict verdict = check_vnet(header, packet, kPeerBounds);
    EXPECT_EQ(name_of(verdict), name_of(row.verdict)) << row.what;
    if (verdict != VnetVerdict::kOk) continue;
    EXPECT_EQ(header.gso_size, 0);
    EXPECT_EQ(header.header_length, 28);
  }
}

TEST(VnetHeader, RefusesStacksOfHeadersThatAreTooLong) {
  Packet transport = bytes_of({6, 25});  // destination options of 208 bytes
  transport.resize(208);
  testing::append(transport, testing::tcp({}, testing::pattern(3000, 1)));
  Packet packet = testing::seal_partially(testing::ipv6("fd00::1", "fd00::2", 60, transport));
  VnetHeader header = tcp_header();
  header.type = GsoType::kTcpV6;
  EXPECT_EQ(check_vnet(header, packet, kKernelBounds), VnetVerdict::kHeaderTooLong);
}

TEST(VnetHeader, UdpTrainsHaveTheirOwnHeaderLength) {
  Packet packet = udp_v4(3000);
  VnetHeader header{.flags = 1, .type = GsoType::kUdpL4, .gso_size = 1200};
  ASSERT_EQ(check_vnet(header, packet, kPeerBounds), VnetVerdict::kOk);
  EXPECT_EQ(header.header_length, 28);
  EXPECT_EQ(header.checksum_start, 20);
  EXPECT_EQ(header.checksum_offset, 6);
  EXPECT_EQ(segments_of(header, packet.size()), 3u);
}

TEST(VnetHeader, EveryVerdictHasANameOfItsOwn) {
  std::vector<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(VnetVerdict::kPacketTooLarge); ++i)
    names.push_back(name_of(static_cast<VnetVerdict>(i)));
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

}  // namespace
}  // namespace culvert::net
