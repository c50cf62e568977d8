#include "common/net/gro_merge.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>
#include <string>

#define CULVERT_READS_ALLOCATIONS_ONLY
#include "common/net/packet_batch.h"
#include "tests/fakes/allocation_counter.h"
#include "tests/unit/net/offload_packets.h"
#include "tests/unit/net/same_packets.h"

namespace culvert::net {
namespace {

using namespace testing;  // the flags

constexpr size_t kHeadroom = 12;
constexpr GroOptions kAll{.tcp = true, .udp = true};

// What one write brings to the kernel.
struct Written {
  VnetHeader header;
  Packet packet;
  size_t packets = 0;
};

std::vector<Written> merge(const std::vector<Packet>& packets, const GroOptions& options = kAll,
                           const std::vector<Sums>& sums = {}) {
  PacketBatch batch(std::max<size_t>(packets.size(), 1), 65600, kHeadroom);
  for (const Packet& packet : packets) {
    std::copy(packet.begin(), packet.end(), batch.free_space().begin());
    batch.commit(packet.size());
  }
  GroMerger merger(batch.capacity(), options);
  std::vector<Written> writes;
  for (const TunWrite& write : merger.merge(batch.packets(), sums)) {
    Packet all;
    for (const iovec& part : write.parts)
      append(all, Bytes(static_cast<const std::byte*>(part.iov_base), part.iov_len));
    const auto start = all.begin() + static_cast<ptrdiff_t>(options.vnet_header_size);
    writes.push_back({decode_vnet(all).value(), Packet(start, all.end()), write.packets});
  }
  return writes;
}

// What a kernel makes of a write: it must be valid, and it stands for these packets.
std::vector<Packet> split_again(const Written& written) {
  if (!written.header.is_superpacket()) {
    EXPECT_EQ(written.header, VnetHeader{});
    EXPECT_EQ(written.packets, 1u);
    return {written.packet};
  }
  VnetHeader header = written.header;
  Packet copy = written.packet;
  constexpr VnetBounds kStrict{.origin = VnetOrigin::kPeer, .max_packet = 65535};
  EXPECT_EQ(name_of(check_vnet(header, copy, kStrict)), "ok");
  EXPECT_EQ(header, written.header) << "a checked header has nothing to correct";
  EXPECT_TRUE(same_packets({copy}, {seal_partially(copy)})) << "lengths and partial checksum";
  auto packets = plain_split(copy, header.gso_size);
  EXPECT_EQ(packets.size(), written.packets);
  return packets;
}

struct Flow {
  TcpFields fields{};
  int id = 100;
  int fragment = 0x4000;
  bool v6 = false;
  int source = 1;

  Packet wrap(int protocol, const Packet& transport) const {
    if (v6) {
      const std::string from = "fd00::" + std::to_string(source);
      return seal(ipv6(from.c_str(), "fd00::ff", protocol, transport));
    }
    const std::string from = "10.0.0." + std::to_string(source);
    Packet packet = ipv4(from.c_str(), "10.9.9.9", protocol, transport, fragment);
    store_be16(MutableBytes(packet).subspan(4), static_cast<uint16_t>(id));
    return seal(packet);
  }
  // The next packet of the flow.
  Packet tcp(size_t payload, int flags = kAck) {
    fields.flags = flags;
    const Packet packet = wrap(
        6, testing::tcp(fields, pattern(payload, fields.sequence + static_cast<unsigned>(id))));
    fields.sequence += static_cast<uint32_t>(payload);
    id = (id + 1) & 0xffff;
    return packet;
  }
  Packet udp(size_t payload) {
    Packet packet = testing::udp(4000 + source, 53, payload);
    for (size_t i = 8; i < packet.size(); ++i)
      packet[i] = static_cast<std::byte>(id + static_cast<int>(i));
    packet = wrap(17, packet);
    id = (id + 1) & 0xffff;
    return packet;
  }
};

std::vector<size_t> counts(const std::vector<Written>& writes) {
  std::vector<size_t> result;
  for (const Written& written : writes)
    result.push_back(written.packets);
  return result;
}
using Counts = std::vector<size_t>;

TEST(GroMerge, MakesOneWriteOfOneFlow) {
  for (const bool v6 : {false, true}) {
    for (const bool udp : {false, true}) {
      Flow flow{.v6 = v6};
      std::vector<Packet> packets;
      for (int i = 0; i < 10; ++i)
        packets.push_back(udp ? flow.udp(1000) : flow.tcp(1000));
      const auto writes = merge(packets);
      ASSERT_EQ(counts(writes), Counts{10});
      const VnetHeader& header = writes[0].header;
      EXPECT_EQ(header.type, udp ? GsoType::kUdpL4 : v6 ? GsoType::kTcpV6 : GsoType::kTcpV4);
      EXPECT_EQ(header.gso_size, 1000);
      EXPECT_EQ(header.header_length, (v6 ? 40 : 20) + (udp ? 8 : 32));
      EXPECT_TRUE(same_packets(split_again(writes[0]), packets));
    }
  }
}

// The second packet of a pair, changed in one way.
struct Condition {
  const char* what;
  bool joins;
  std::function<void(Packet&)> change;
};

void expect_pairs(const std::vector<Condition>& rows, const Packet& first, const Packet& second) {
  for (const Condition& row : rows) {
    Packet changed = second;
    row.change(changed);
    const auto writes = merge({first, changed});
    EXPECT_EQ(counts(writes), row.joins ? Counts({2}) : Counts({1, 1})) << row.what;
    std::vector<Packet> back;
    for (const Written& written : writes)
      for (const Packet& packet : split_again(written))
        back.push_back(packet);
    EXPECT_TRUE(same_packets(back, {first, changed})) << row.what;
  }
}

// Changes a byte by xor, and makes the checksums right again.
std::function<void(Packet&)> flip(size_t at, int bits) {
  return [at, bits](Packet& packet) {
    packet[at] ^= static_cast<std::byte>(bits);
    packet = seal(packet);
  };
}

TEST(GroMerge, TcpOverIpv4JoinsOnlyWhatItsHeadersCanStandFor) {
  Flow flow;
  const Packet first = flow.tcp(1000);
  const Packet second = flow.tcp(1000);
  expect_pairs(
      {
          {"nothing", true, [](auto&) {}},
          {"TOS", false, flip(1, 0x10)},
          {"ECN", false, flip(1, 0x03)},
          {"TTL", false, flip(8, 1)},
          {"DF", false, flip(6, 0x40)},
          {"reserved flag", false, flip(6, 0x80)},
          {"more fragments", false, flip(6, 0x20)},
          {"source address", false, flip(15, 1)},
          {"destination address", false, flip(16, 1)},
          {"source port", false, flip(21, 1)},
          {"destination port", false, flip(22, 1)},
          {"sequence", false, flip(27, 1)},
          {"acknowledgement", false, flip(31, 1)},
          {"reserved bits", false, flip(32, 1)},
          {"SYN", false, flip(33, kSyn)},
          {"RST", false, flip(33, kRst)},
          {"URG", false, flip(33, kUrg)},
          {"ECE", false, flip(33, kEce)},
          {"CWR", false, flip(33, kCwr)},
          {"no ACK", false, flip(33, kAck)},
          {"PSH", true, flip(33, kPsh)},
          {"FIN", true, flip(33, kFin)},
          {"window", false, flip(35, 1)},
          {"urgent pointer", false, flip(39, 1)},
          {"timestamp", false, flip(47, 1)},
          {"echoed timestamp", false, flip(51, 1)},
          {"one word of options less", false,
           [](Packet& packet) {
             packet.erase(packet.begin() + 40, packet.begin() + 44);
             packet[32] = std::byte{0x70};
             packet = seal(packet);
           }},
          {"a wrong checksum", false, [](Packet& packet) { packet[37] ^= std::byte{1}; }},
          {"wrong payload", false, [](Packet& packet) { packet.back() ^= std::byte{1}; }},
          {"a wrong IP checksum", false, [](Packet& packet) { packet[10] ^= std::byte{1}; }},
          {"bytes behind the packet", false,
           [](Packet& packet) { packet.push_back(std::byte{0}); }},
          {"no payload", false,
           [](Packet& packet) {
             packet.resize(52);
             packet = seal(packet);
           }},
          {"a byte shorter", true,
           [](Packet& packet) {
             packet.pop_back();
             packet = seal(packet);
           }},
          {"a byte longer", false,
           [](Packet& packet) {
             packet.push_back(std::byte{7});
             packet = seal(packet);
           }},
      },
      first, second);
}

TEST(GroMerge, TcpOverIpv6JoinsOnlyWhatItsHeadersCanStandFor) {
  Flow flow{.v6 = true};
  const Packet first = flow.tcp(1000);
  const Packet second = flow.tcp(1000);
  expect_pairs(
      {
          {"nothing", true, [](auto&) {}},
          {"traffic class", false, flip(1, 0x10)},
          {"flow label", false, flip(3, 1)},
          {"hop limit", false, flip(7, 1)},
          {"source address", false, flip(9, 1)},
          {"destination address", false, flip(39, 0x80)},
          {"source port", false, flip(41, 1)},
          {"sequence", false, flip(44, 1)},
          {"acknowledgement", false, flip(48, 1)},
          {"PSH", true, flip(53, kPsh)},
          {"window", false, flip(55, 1)},
          {"a wrong checksum", false, [](Packet& packet) { packet[57] ^= std::byte{1}; }},
      },
      first, second);
}

TEST(GroMerge, UdpJoinsOnlyWhatItsHeadersCanStandFor) {
  for (const bool v6 : {false, true}) {
    Flow flow{.v6 = v6};
    const Packet first = flow.udp(500);
    const Packet second = flow.udp(500);
    const size_t at = v6 ? 40 : 20;
    expect_pairs(
        {
            {"nothing", true, [](auto&) {}},
            {"traffic class", false, flip(1, 0x10)},
            {"hop limit", false, flip(v6 ? 7 : 8, 1)},
            {"source port", false, flip(at + 1, 1)},
            {"destination port", false, flip(at + 3, 1)},
            {"length", false, [at](Packet& packet) { packet[at + 5] ^= std::byte{1}; }},
            {"a wrong checksum", false, [at](Packet& packet) { packet[at + 7] ^= std::byte{1}; }},
            {"no checksum", false,
             [at](Packet& packet) { packet[at + 6] = packet[at + 7] = std::byte{0}; }},
            {"a byte shorter", true,
             [](Packet& packet) {
               packet.pop_back();
               packet = seal(packet);
             }},
            {"a byte longer", false,
             [](Packet& packet) {
               packet.push_back(std::byte{7});
               packet = seal(packet);
             }},
        },
        first, second);
  }
}

TEST(GroMerge, IdentificationsCountOnlyWithoutDf) {
  struct Row {
    int fragment, second_id;
    bool joins;
  };
  for (const Row& row : {Row{0, 101, true}, Row{0, 100, false}, Row{0, 102, false},
                         Row{0x4000, 101, true}, Row{0x4000, 100, true}, Row{0x4000, 9, true}}) {
    Flow flow{.fragment = row.fragment};
    const Packet first = flow.tcp(1000);
    flow.id = row.second_id;
    const auto writes = merge({first, flow.tcp(1000)});
    EXPECT_EQ(counts(writes), row.joins ? Counts({2}) : Counts({1, 1}))
        << row.fragment << " " << row.second_id;
  }
  Flow wraps{.id = 0xffff, .fragment = 0};
  const Packet first = wraps.tcp(1000);
  EXPECT_EQ(counts(merge({first, wraps.tcp(1000)})), Counts{2});
}

TEST(GroMerge, ABrokenFirstPacketIsNotMended) {
  Flow flow;
  std::vector<Packet> packets = {flow.tcp(1000), flow.tcp(1000), flow.tcp(1000)};
  packets[0][60] ^= std::byte{1};
  const auto writes = merge(packets);
  ASSERT_EQ(counts(writes), Counts({1, 2}));
  EXPECT_TRUE(same_packets(split_again(writes[0]), {packets[0]}));
}

TEST(GroMerge, ShortLastSegmentClosesRun) {
  Flow flow;
  const std::vector<Packet> packets = {flow.tcp(1000), flow.tcp(1000), flow.tcp(999), flow.tcp(999),
                                       flow.tcp(1000)};
  EXPECT_EQ(counts(merge(packets)), Counts({3, 1, 1}));
}

TEST(GroMerge, PshAndFinCloseTheRun) {
  for (const int flag : {kPsh, kFin}) {
    Flow flow;
    const std::vector<Packet> packets = {flow.tcp(1000), flow.tcp(1000, kAck | flag),
                                         flow.tcp(1000), flow.tcp(1000),
                                         flow.tcp(1000, kAck | flag)};
    EXPECT_EQ(counts(merge(packets)), Counts({2, 3}));
    Flow other;
    EXPECT_EQ(counts(merge({other.tcp(1000, kAck | flag), other.tcp(1000)})), Counts({1, 1}));
  }
}

TEST(GroMerge, KeepsWithinItsLimits) {
  Flow flow;
  std::vector<Packet> packets;
  for (int i = 0; i < 50; ++i)
    packets.push_back(flow.tcp(1348));
  EXPECT_EQ(counts(merge(packets)), Counts({48, 2}));  // 52 + 48 * 1348 = 64,756
  GroOptions options = kAll;
  options.max_tcp_packets = 20;
  EXPECT_EQ(counts(merge(packets, options)), Counts({20, 20, 10}));

  packets.clear();
  for (int i = 0; i < 130; ++i)
    packets.push_back(flow.udp(20));
  EXPECT_EQ(counts(merge(packets)), Counts({64, 64, 2}));
  packets.clear();
  for (int i = 0; i < 130; ++i)
    packets.push_back(flow.tcp(20));
  EXPECT_EQ(counts(merge(packets)), Counts({128, 2}));
}

TEST(GroMerge, LeavesOutWhatTheDeviceDoesNotTake) {
  Flow flow;
  const std::vector<Packet> packets = {flow.tcp(100), flow.tcp(100), flow.udp(100), flow.udp(100)};
  EXPECT_EQ(counts(merge(packets, {.tcp = true, .udp = true})), Counts({2, 2}));
  EXPECT_EQ(counts(merge(packets, {.tcp = true, .udp = false})), Counts({2, 1, 1}));
  EXPECT_EQ(counts(merge(packets, {.tcp = false, .udp = true})), Counts({1, 1, 2}));
  EXPECT_EQ(counts(merge(packets, {.tcp = false, .udp = false})), Counts({1, 1, 1, 1}));
}

// With nonsense in the place of its checksum.
Packet unsummed(Packet packet) {
  store_be16(MutableBytes(packet).subspan(testing::checksum_field(testing::transport_of(packet))),
             0xbad);
  return packet;
}

TEST(GroMerge, TakesPacketsWhoseChecksumIsLeftToIt) {
  for (const bool v6 : {false, true}) {
    for (const bool udp : {false, true}) {
      Flow flow{.v6 = v6};
      std::vector<Packet> whole, packets;
      for (int i = 0; i < 6; ++i) {
        whole.push_back(udp ? flow.udp(1000) : flow.tcp(1000));
        packets.push_back(unsummed(whole.back()));
      }
      packets[3] = whole[3];  // one that has its own
      std::vector<Sums> sums(6, Sums::kLeft);
      sums[3] = Sums::kDone;
      const auto writes = merge(packets, kAll, sums);
      ASSERT_EQ(counts(writes), Counts{6});
      EXPECT_TRUE(same_packets(split_again(writes[0]), whole));

      if (v6) continue;
      // Only TCP's and UDP's: a broken IPv4 header stays broken.
      packets[4][10] ^= std::byte{1};
      EXPECT_EQ(counts(merge(packets, kAll, sums)), Counts({4, 1, 1}));
    }
  }
}

TEST(GroMerge, LeavesTheSumOfAPacketThatStaysAloneToTheKernel) {
  for (const bool v6 : {false, true}) {
    for (const bool udp : {false, true}) {
      Flow flow{.v6 = v6};
      const Packet whole = udp ? flow.udp(700) : flow.tcp(0);
      for (const GroOptions& options : {kAll, GroOptions{.tcp = false, .udp = false}}) {
        const auto writes = merge({unsummed(whole)}, options, {Sums::kLeft});
        ASSERT_EQ(counts(writes), Counts{1});
        EXPECT_EQ(writes[0].packet, testing::seal_partially(whole));
        VnetHeader header = writes[0].header;
        Packet copy = writes[0].packet;
        EXPECT_EQ(name_of(check_vnet(header, copy, {.origin = VnetOrigin::kPeer})), "ok");
        EXPECT_EQ(header, writes[0].header);
        EXPECT_TRUE(header.needs_checksum() && !header.is_superpacket());
      }
    }
  }
}

TEST(GroMerge, LeavesOutWhatCannotBeSummed) {
  Flow flow;
  Flow fragments{.fragment = 0x2000};
  const std::vector<Packet> packets = {flow.tcp(100), fragments.udp(8), flow.tcp(100),
                                       testing::bytes_of({0x45, 0, 0})};
  EXPECT_EQ(counts(merge(packets, kAll, std::vector<Sums>(4, Sums::kLeft))), Counts{2});
  EXPECT_EQ(counts(merge(packets)), Counts({1, 1, 1, 1})) << "which are written otherwise";
}

TEST(GroMerge, WritesTheLongHeaderWhereAskedFor) {
  Flow flow;
  GroOptions options = kAll;
  options.vnet_header_size = kVnetHeaderSizeLong;
  const std::vector<Packet> packets = {flow.tcp(100), flow.tcp(100)};
  const auto writes = merge(packets, options);
  ASSERT_EQ(counts(writes), Counts{2});
  EXPECT_TRUE(same_packets(split_again(writes[0]), packets));
}

TEST(GroMerge, FlowsMayInterleave) {
  std::vector<Flow> flows;
  for (int i = 0; i < 12; ++i)
    flows.push_back({.v6 = i % 3 == 0, .source = i + 1});
  std::vector<Packet> packets;
  for (int round = 0; round < 5; ++round)
    for (Flow& flow : flows)
      packets.push_back(flow.source % 2 == 0 ? flow.udp(300) : flow.tcp(300));
  EXPECT_EQ(counts(merge(packets)), Counts(12, 5));
}

TEST(GroMerge, MoreFlowsThanItRemembersCostWritesOnly) {
  std::vector<Flow> flows;
  for (int i = 0; i < 40; ++i)
    flows.push_back({.source = i + 1});
  std::vector<Packet> packets;
  for (int round = 0; round < 3; ++round)
    for (Flow& flow : flows)
      packets.push_back(flow.tcp(300));
  std::vector<Packet> back;
  for (const Written& written : merge(packets))
    for (const Packet& packet : split_again(written))
      back.push_back(packet);
  std::sort(back.begin(), back.end());
  std::sort(packets.begin(), packets.end());
  EXPECT_TRUE(same_packets(back, packets));
}

TEST(GroMerge, NothingOvertakesWithinAFlow) {
  Flow flow;
  Flow other{.source = 9};
  const Packet a = flow.tcp(1000);
  const Packet empty = flow.tcp(0);
  const Packet b = flow.tcp(1000);
  EXPECT_EQ(counts(merge({a, empty, b})), Counts({1, 1, 1})) << "an empty ACK in between";

  Packet fragment = flow.wrap(17, udp(1, 2, 100));
  fragment[7] = std::byte{5};
  EXPECT_EQ(counts(merge({a, fragment, b})), Counts({1, 1, 1})) << "a fragment of any flow";

  const Packet x = other.tcp(1000);
  const Packet y = other.tcp(1000);
  EXPECT_EQ(counts(merge({x, a, y, b})), Counts({2, 2})) << "another flow is no obstacle";
  const Packet ping = flow.wrap(1, pattern(64, 1));
  EXPECT_EQ(counts(merge({a, ping, b})), Counts({2, 1})) << "nor is ICMP";
}

TEST(GroMerge, TakesWhatIsNoPacket) {
  for (const Packet& odd :
       {Packet{}, Packet(1), Packet(19, std::byte{0x45}), Packet(20), Packet(39, std::byte{0x60}),
        Packet(60, std::byte{0x45}), Packet(60, std::byte{0x60}), Packet(100, std::byte{0xff})}) {
    const auto writes = merge({odd, odd});
    ASSERT_EQ(counts(writes), Counts({1, 1}));
    EXPECT_TRUE(same_packets(split_again(writes[0]), {odd}));
  }
  EXPECT_TRUE(merge({}).empty());
}

// Packets of many kinds in random order: each flow comes out as it went in, bit for bit.
TEST(GroMerge, SplittingGivesBackEveryFlowBitForBit) {
  std::mt19937 random(11);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  size_t merged = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<Flow> flows;
    for (int i = 0, n = 1 + below(20); i < n; ++i) {
      Flow flow{
          .id = below(65536), .fragment = below(2) * 0x4000, .v6 = below(2) == 0, .source = i + 1};
      flow.fields.sequence = static_cast<uint32_t>(random());
      flow.fields.options = pattern(static_cast<size_t>(below(4)) * 4, 5);
      flows.push_back(flow);
    }
    std::map<int, std::vector<Packet>> wanted;
    std::vector<Packet> packets;
    std::vector<int> owners;
    for (int i = 0; i < 100; ++i) {
      Flow& flow = flows[static_cast<size_t>(below(static_cast<int>(flows.size())))];
      const bool udp = flow.source % 3 == 0;
      const size_t payload = below(8) == 0 ? static_cast<size_t>(below(700)) : 600;
      const int flags = kAck | (below(10) == 0 ? kPsh : 0) | (below(40) == 0 ? kFin : 0) |
                        (below(40) == 0 ? kEce : 0) | (below(40) == 0 ? kCwr : 0);
      Packet packet = udp ? flow.udp(payload) : flow.tcp(payload, flags);
      if (below(30) == 0) packet[packet.size() - 1] ^= std::byte{0x40};
      if (below(30) == 0) flow.fields.sequence += 600;  // a loss before the tunnel
      if (below(30) == 0) flow.fields.acknowledgement += 1;
      wanted[flow.source].push_back(packet);
      packets.push_back(std::move(packet));
    }
    const auto source_of_packet = [](const Packet& p) {
      return std::to_integer<int>(is_v4(p) ? p[15] : p[23]);
    };
    std::map<int, std::vector<Packet>> got;
    for (const Written& written : merge(packets)) {
      merged += written.packets - 1;
      for (Packet& packet : split_again(written)) {
        int source = source_of_packet(packet);
        if (!is_v4(packet)) source = source / 16 * 10 + source % 16;  // "fd00::12" is 0x12
        got[source].push_back(std::move(packet));
      }
    }
    ASSERT_EQ(got.size(), wanted.size());
    for (const auto& [source, sequence] : wanted)
      ASSERT_TRUE(same_packets(got[source], sequence)) << "round " << round << " flow " << source;
  }
  EXPECT_GT(merged, 10000u) << "the property must not hold for want of merging";
}

TEST(GroMerge, CopiesNoPayloadAndAllocatesNothing) {
  PacketBatch batch(64, 1500, kHeadroom);
  GroMerger merger(64, kAll);
  Flow flow;
  for (int round = 0; round < 2; ++round) {
    batch.clear();
    for (int i = 0; i < 40; ++i) {
      const Packet packet = i % 2 == 0 ? flow.tcp(1400) : flow.udp(1400);
      std::copy(packet.begin(), packet.end(), batch.free_space().begin());
      batch.commit(packet.size());
    }
    const fakes::AllocationCounter counter;
    const auto writes = merger.merge(batch.packets());
    EXPECT_EQ(counter.count(), 0u);
    ASSERT_EQ(writes.size(), 2u);
    EXPECT_EQ(writes[0].parts[0].iov_base, batch[0].data() - kVnetHeaderSize);
    EXPECT_EQ(writes[0].parts[1].iov_base, batch[2].data() + 52);
    EXPECT_EQ(writes[1].parts[1].iov_base, batch[3].data() + 28);
  }
}

}  // namespace
}  // namespace culvert::net
