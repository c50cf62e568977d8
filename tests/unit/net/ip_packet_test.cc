#include "common/net/ip_packet.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/unit/net/packets.h"

namespace culvert::net {
namespace {

using testing::address;
using testing::bytes_of;
using testing::ipv4;
using testing::ipv6;
using testing::Packet;
using testing::udp;

Packet joined(std::initializer_list<Packet> parts) {
  Packet all;
  for (const Packet& part : parts)
    testing::append(all, part);
  return all;
}

TEST(ParseIp, ReadsAnIpv4Header) {
  Packet packet = ipv4("10.1.2.3", "192.0.2.9", 17, udp(1000, 53, 4));
  packet[1] = std::byte{0xb8};
  const auto view = parse_ip(packet);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->family, Family::kV4);
  EXPECT_EQ(view->source, address("10.1.2.3"));
  EXPECT_EQ(view->destination, address("192.0.2.9"));
  EXPECT_EQ(view->protocol, kProtocolUdp);
  EXPECT_EQ(view->traffic_class, 0xb8);
  EXPECT_EQ(view->header_length, 20u);
  EXPECT_EQ(view->total_length, 32u);
  EXPECT_EQ(load_be16(view->payload), 1000);
  EXPECT_EQ(view->payload.size(), 12u);
  EXPECT_FALSE(view->fragment);
}

TEST(ParseIp, ReadsAnIpv6Header) {
  Packet packet = ipv6("fd99::2", "2001:db8::1", 6, Packet(20));
  packet[0] = std::byte{0x6a};
  packet[1] = std::byte{0x50};
  const auto view = parse_ip(packet);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->family, Family::kV6);
  EXPECT_EQ(view->source, address("fd99::2"));
  EXPECT_EQ(view->destination, address("2001:db8::1"));
  EXPECT_EQ(view->protocol, kProtocolTcp);
  EXPECT_EQ(view->traffic_class, 0xa5);
  EXPECT_EQ(view->total_length, 60u);
  EXPECT_EQ(view->payload.size(), 20u);
}

TEST(ParseIp, SkipsIpv4Options) {
  Packet packet = ipv4("10.0.0.1", "10.0.0.2", 17, joined({Packet(4), udp(7, 9)}));
  packet[0] = std::byte{0x46};
  const auto view = parse_ip(packet);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->header_length, 24u);
  EXPECT_EQ(load_be16(view->payload), 7);
}

TEST(ParseIp, IgnoresBytesBehindThePacket) {
  Packet packet = ipv4("10.0.0.1", "10.0.0.2", 17, udp(7, 9, 0));
  packet.resize(packet.size() + 30);
  const auto view = parse_ip(packet);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->total_length, 28u);
  EXPECT_EQ(view->payload.size(), 8u);
}

TEST(ParseIp, RefusesWhatContradictsItself) {
  const Packet v4 = ipv4("10.0.0.1", "10.0.0.2", 17, udp(7, 9));
  const Packet v6 = ipv6("::1", "::2", 17, udp(7, 9));
  const auto changed = [](Packet packet, size_t at, int value) {
    packet[at] = static_cast<std::byte>(value);
    return packet;
  };
  struct Row {
    const char* what;
    Packet packet;
  };
  const Row rows[] = {
      {"empty", {}},
      {"one byte", bytes_of({0x45})},
      {"IPv4 header cut off", Packet(v4.begin(), v4.begin() + 19)},
      {"IPv6 header cut off", Packet(v6.begin(), v6.begin() + 39)},
      {"version 5", changed(v4, 0, 0x55)},
      {"version 0", changed(v4, 0, 0x05)},
      {"header shorter than a header", changed(v4, 0, 0x44)},
      {"header longer than the packet", changed(ipv4("1.1.1.1", "2.2.2.2", 1, {}), 0, 0x46)},
      {"total length shorter than the header", changed(changed(v4, 2, 0), 3, 19)},
      {"IPv4 packet cut off", Packet(v4.begin(), v4.end() - 1)},
      {"IPv6 packet cut off", Packet(v6.begin(), v6.end() - 1)},
  };
  for (const Row& row : rows) {
    EXPECT_FALSE(parse_ip(row.packet)) << row.what;
    EXPECT_FALSE(whole_ip_family(row.packet)) << row.what;
  }
}

TEST(ParseIp, KnowsFragments) {
  struct Row {
    int flags;
    bool fragment;
    int offset;
  };
  for (const Row row : {Row{0x0000, false, 0}, Row{0x4000, false, 0}, Row{0x2000, true, 0},
                        Row{0x2001, true, 8}, Row{0x0010, true, 128}, Row{0x1fff, true, 65528}}) {
    const auto view = parse_ip(ipv4("10.0.0.1", "10.0.0.2", 17, udp(7, 9), row.flags));
    ASSERT_TRUE(view);
    EXPECT_EQ(view->fragment, row.fragment) << row.flags;
    EXPECT_EQ(view->fragment_offset, row.offset) << row.flags;
  }
}

TEST(ParseIp, PassesIpv6ExtensionHeaders) {
  const Packet hop_by_hop = joined({bytes_of({60, 0}), Packet(6)});    // then destination options
  const Packet destination = joined({bytes_of({43, 1}), Packet(14)});  // then routing
  const Packet routing = joined({bytes_of({51, 0}), Packet(6)});       // then authentication
  const Packet authentication = joined({bytes_of({17, 4}), Packet(22)});  // then UDP
  const Packet packet =
      ipv6("::1", "::2", 0, joined({hop_by_hop, destination, routing, authentication, udp(7, 9)}));
  const auto view = parse_ip(packet);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->protocol, kProtocolUdp);
  EXPECT_EQ(view->header_length, 40u + 8 + 16 + 8 + 24);
  EXPECT_EQ(load_be16(view->payload), 7);
}

TEST(ParseIp, KnowsIpv6Fragments) {
  struct Row {
    int field;
    bool fragment;
    int offset;
  };
  for (const Row row : {Row{0x0000, false, 0}, Row{0x0001, true, 0}, Row{0x0010, true, 16},
                        Row{0xfff9, true, 0xfff8}}) {
    const Packet header = bytes_of({17, 0, row.field >> 8, row.field & 255, 0, 0, 0, 1});
    const auto view = parse_ip(ipv6("::1", "::2", 44, joined({header, udp(7, 9)})));
    ASSERT_TRUE(view);
    EXPECT_EQ(view->protocol, kProtocolUdp);
    EXPECT_EQ(view->fragment, row.fragment) << row.field;
    EXPECT_EQ(view->fragment_offset, row.offset) << row.field;
    EXPECT_EQ(view->header_length, 48u);
  }
}

TEST(ParseIp, StopsAtAnExtensionHeaderThatIsCutOffOrOneTooMany) {
  const auto cut = parse_ip(ipv6("::1", "::2", 0, bytes_of({17, 9, 0, 0, 0, 0, 0, 0})));
  ASSERT_TRUE(cut);
  EXPECT_EQ(cut->protocol, 0);
  EXPECT_EQ(cut->header_length, 40u);

  Packet chain;
  for (int i = 0; i < 9; ++i)
    testing::append(chain, joined({bytes_of({60, 0}), Packet(6)}));
  const auto nine = parse_ip(ipv6("::1", "::2", 60, chain));
  ASSERT_TRUE(nine);
  EXPECT_EQ(nine->protocol, 60);
  EXPECT_EQ(nine->header_length, 40u + 8 * 8);
}

TEST(IpAccessors, AgreeWithTheView) {
  for (const Packet& packet :
       {ipv4("10.1.2.3", "192.0.2.9", 1, Packet(8)), ipv6("fd99::2", "fe80::1", 58, Packet(8))}) {
    const auto view = parse_ip(packet);
    const auto family = family_of(packet);
    ASSERT_TRUE(view && family);
    EXPECT_EQ(*family, view->family);
    EXPECT_EQ(family, whole_ip_family(packet));
    EXPECT_EQ(source_of(packet, *family), view->source);
    EXPECT_EQ(destination_of(packet, *family), view->destination);
  }
}

TEST(FlowHash, IsTheSameForPacketsOfOneFlow) {
  const Packet a = ipv4("10.0.0.1", "10.0.0.2", 17, udp(7, 9, 100));
  Packet b = ipv4("10.0.0.1", "10.0.0.2", 17, udp(7, 9, 20));
  b[8] = std::byte{3};  // another TTL
  EXPECT_EQ(flow_hash(a), flow_hash(b));
}

TEST(FlowHash, DiffersInEveryPartOfTheFlow) {
  const std::set<uint32_t> hashes = {
      flow_hash(ipv4("10.0.0.1", "10.0.0.2", 17, udp(7, 9))),
      flow_hash(ipv4("10.0.0.3", "10.0.0.2", 17, udp(7, 9))),
      flow_hash(ipv4("10.0.0.1", "10.0.0.3", 17, udp(7, 9))),
      flow_hash(ipv4("10.0.0.2", "10.0.0.1", 17, udp(7, 9))),
      flow_hash(ipv4("10.0.0.1", "10.0.0.2", 6, udp(7, 9))),
      flow_hash(ipv4("10.0.0.1", "10.0.0.2", 17, udp(8, 9))),
      flow_hash(ipv4("10.0.0.1", "10.0.0.2", 17, udp(7, 8))),
      flow_hash(ipv6("fd99::1", "fd99::2", 17, udp(7, 9))),
      flow_hash(ipv6("fd99::1", "fd99::3", 17, udp(7, 9))),
      flow_hash(ipv6("fd99::1", "fd99::2", 17, udp(8, 9))),
      flow_hash(ipv4("10.0.0.1", "10.0.0.2", 17, udp(7, 9)), 1),
  };
  EXPECT_EQ(hashes.size(), 11u);
}

TEST(FlowHash, IsTheSameForAllFragmentsOfADatagram) {
  const auto first = flow_hash(ipv4("10.0.0.1", "10.0.0.2", 17, udp(7, 9), 0x2000));
  const auto second = flow_hash(ipv4("10.0.0.1", "10.0.0.2", 17, udp(1, 2), 0x0001));
  EXPECT_EQ(first, second);
}

TEST(FlowHash, SpreadsNeighbouringFlows) {
  // 4,096 flows into 64 buckets: 64 each on average; a bucket of 128 would be eight sigma off.
  std::array<int, 64> buckets{};
  for (int port = 0; port < 4096; ++port) {
    ++buckets[flow_hash(ipv4("10.0.0.1", "10.0.0.2", 6, udp(32768 + port, 443, 0))) % 64];
  }
  for (const int count : buckets) {
    EXPECT_GT(count, 16);
    EXPECT_LT(count, 128);
  }
}

TEST(FlowHash, TakesAnything) {
  EXPECT_EQ(flow_hash({}), flow_hash(bytes_of({1, 2, 3})));
  Packet cut = ipv4("10.0.0.1", "10.0.0.2", 17, {});
  EXPECT_NE(flow_hash(cut), flow_hash({}));
}

}  // namespace
}  // namespace culvert::net
