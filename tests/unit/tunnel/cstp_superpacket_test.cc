// What CSTP does between Culvert peers, as culvert-protocol(7) has it: superpackets, packed frames,
// SWITCH; and that nobody sees any of it who has not agreed.
#include <gtest/gtest.h>

#include <algorithm>

#include "common/net/gso_split.h"
#define CULVERT_READS_ALLOCATIONS_ONLY
#include "tests/fakes/allocation_counter.h"
#include "tests/unit/net/offload_packets.h"
#include "tests/unit/tunnel/cstp_fixture.h"

namespace culvert::tunnel {
namespace {

using net::GsoType;
using net::VnetHeader;
using NetPacket = net::testing::Packet;

constexpr size_t kMtu = 1400;

// A superpacket as the kernel hands it out, with headroom.
struct Superpacket {
  Superpacket(const VnetHeader& vnet, const NetPacket& packet) : header(vnet) {
    memory.resize(kChannelHeadroom);
    net::testing::append(memory, packet);
  }
  MutableBytes span() { return MutableBytes(memory).subspan(kChannelHeadroom); }
  // As the payload of a frame.
  std::string payload() const {
    std::vector<std::byte> out(net::kVnetHeaderSize);
    net::encode_vnet(out, header);
    return std::string(as_text(out)) +
           std::string(as_text(Bytes(memory).subspan(kChannelHeadroom)));
  }
  VnetHeader header;
  std::vector<std::byte> memory;
};

Superpacket tcp4(size_t payload, uint16_t gso_size, int source_port = 4000, uint32_t sequence = 1) {
  net::testing::TcpFields fields;
  fields.source_port = source_port;
  fields.sequence = sequence;
  const NetPacket packet = net::testing::seal_partially(net::testing::ipv4(
      "10.0.0.1", "10.0.0.2", 6, net::testing::tcp(fields, net::testing::pattern(payload, 1))));
  return {{net::kVnetNeedsChecksum, GsoType::kTcpV4, 52, gso_size, 20, 16}, packet};
}

Superpacket udp4(size_t payload, uint16_t gso_size) {
  NetPacket udp = net::testing::bytes_of({0x0f, 0xa0, 0, 9, 0, 0, 0, 0});
  net::testing::append(udp, net::testing::pattern(payload, 2));
  const NetPacket packet =
      net::testing::seal_partially(net::testing::ipv4("10.0.0.1", "10.0.0.2", 17, udp));
  return {{net::kVnetNeedsChecksum, GsoType::kUdpL4, 28, gso_size, 20, 6}, packet};
}

class CstpSuperpacketTest : public CstpChannelTest {
 protected:
  void open_with(const wire::CulvertFeatures& features) {
    CstpOptions options;
    options.features = features;
    options.mtu = kMtu;
    open(options);
  }

  void send(Superpacket packet) {
    channel->add_superpacket(packet.header, packet.span());
    channel->flush();
  }

  // The stream of bytes that the peer sees.
  std::string peer_stream() {
    std::string stream;
    for (const std::string& record : peer_reads())
      stream += record;
    return stream;
  }

  // A string that is longer than a record goes in several, with a cut every `piece` bytes.
  void peer_sends_cut(const std::string& bytes, size_t piece) {
    for (size_t at = 0; at < bytes.size(); at += piece) {
      const Bytes record = as_bytes(std::string_view(bytes).substr(at, piece));
      ASSERT_EQ(tls.client->write(record), TlsSession::Io::kOk);
    }
    peer_flushes();
  }

  // Everything that was sent before has been looked at.
  void barrier() {
    const size_t before = recorder.packets.size();
    peer_sends(frame(CstpType::kData, "Ebarrier"));
    run_until([&] {
      return recorder.packets.size() > before && as_text(recorder.packets.back()) == "Ebarrier";
    });
    recorder.packets.pop_back();
  }
};

const wire::CulvertFeatures kSuper{.superpacket = true};
const wire::CulvertFeatures kBoth{.superpacket = true, .packed = true};

TEST_F(CstpSuperpacketTest, APeerThatHasNotAgreedSeesPlainFramesOneInARecord) {
  open_with({});
  const Superpacket sent = tcp4(20000, 1348);
  const auto expected =
      net::testing::plain_split(Bytes(sent.memory).subspan(kChannelHeadroom), 1348);
  send(sent);
  const auto records = peer_reads();
  ASSERT_EQ(records.size(), expected.size());
  for (size_t i = 0; i < records.size(); ++i)
    EXPECT_EQ(records[i], frame(CstpType::kData, as_text(expected[i]))) << i;
  EXPECT_EQ(counters.tx_packets, expected.size());
}

TEST_F(CstpSuperpacketTest, GoesWholeInFullRecords) {
  open_with(kSuper);
  const Superpacket sent = tcp4(48 * 1348, 1348);
  send(sent);
  const auto records = peer_reads();
  ASSERT_EQ(records.size(), 4U);
  std::string stream;
  for (size_t i = 0; i < records.size(); ++i) {
    if (i + 1 < records.size()) EXPECT_EQ(records[i].size(), TlsSession::kMaxWrite);
    stream += records[i];
  }
  EXPECT_TRUE(stream == frame(CstpType::kSuperpacket, sent.payload()));
  EXPECT_EQ(counters.tx_packets, 48U);
  EXPECT_EQ(counters.tx_bytes, 48U * 1348 + 52);
}

// What the peer would drop is cut before; what needs no superpacket is sent as everybody knows it.
TEST_F(CstpSuperpacketTest, WhatExceedsABoundGoesInPlainFrames) {
  open_with(kSuper);
  VnetHeader ordinary{net::kVnetNeedsChecksum, GsoType::kNone, 38, 0, 20, 16};
  Superpacket alone = tcp4(500, 0);
  alone.header = ordinary;
  struct Case {
    const char* what;
    Superpacket packet;
    size_t frames;
  };
  for (Case& c : std::vector<Case>{{"129 segments", tcp4(129 * 100, 100), 129},
                                   {"larger than the MTU", tcp4(4000, 1400), 3},
                                   {"larger than a frame", tcp4(65482, 1340), 49},
                                   {"one packet without its checksum", alone, 1}}) {
    const NetPacket whole(c.packet.span().begin(), c.packet.span().end());
    send(c.packet);
    const auto records = peer_reads();
    EXPECT_EQ(records.size(), c.frames) << c.what;
    for (const std::string& record : records) {
      ASSERT_EQ(record[6], '\0') << c.what;
      EXPECT_TRUE(net::testing::checksums_are_right(
          as_bytes(std::string_view(record).substr(wire::kCstpHeaderSize))))
          << c.what;
    }
  }
}

TEST_F(CstpSuperpacketTest, ComesWholeHoweverItsRecordsWereCut) {
  open_with(kSuper);
  const Superpacket tcp = tcp4(47 * 1348 + 7, 1348), udp = udp4(20000, 1200);
  const std::string stream = frame(CstpType::kSuperpacket, tcp.payload()) +
                             frame(CstpType::kData, "Ebetween") +
                             frame(CstpType::kSuperpacket, udp.payload());
  for (const size_t piece : {16383, 16384, 9999, 777}) {
    recorder.packets.clear();
    recorder.headers.clear();
    peer_sends_cut(stream, piece);
    run_until([&] { return recorder.packets.size() == 3; });
    EXPECT_EQ(recorder.headers, (std::vector<VnetHeader>{tcp.header, udp.header})) << piece;
    EXPECT_TRUE(std::ranges::equal(recorder.packets[0], Bytes(tcp.memory).subspan(18))) << piece;
    EXPECT_EQ(as_text(recorder.packets[1]), "Ebetween") << piece;
    EXPECT_TRUE(std::ranges::equal(recorder.packets[2], Bytes(udp.memory).subspan(18))) << piece;
  }
}

// Each of them violates one bound of culvert-protocol(7).
TEST_F(CstpSuperpacketTest, WhatViolatesABoundIsDroppedAndCounted) {
  open_with(kSuper);
  const Superpacket good = tcp4(5000, 1348);
  struct Case {
    const char* what;
    std::string payload;
  };
  std::vector<Case> cases = {{"nothing", ""},
                             {"half a header", std::string(9, '\0')},
                             {"no packet", good.payload().substr(0, 10)},
                             {"129 segments", tcp4(129 * 10, 10).payload()},
                             {"larger than the MTU", tcp4(5000, kMtu - 51).payload()},
                             {"a single byte a segment", tcp4(60000, 1).payload()},
                             {"a packet larger than the MTU", {}},
                             {"shorter than its header says", {}},
                             {"longer than its header says", good.payload() + "x"}};
  cases[6].payload = std::string(10, '\0') + std::string(kMtu + 1, 'E');
  cases[7].payload = good.payload();
  cases[7].payload.pop_back();
  // One byte of the good one after the other: where, and what to put there.
  struct Spoilt {
    const char* what;
    size_t at;
    uint8_t value;
  };
  for (const Spoilt& s :
       {Spoilt{"without NEEDS_CSUM", 0, 0}, Spoilt{"DATA_VALID", 0, 3}, Spoilt{"RSC_INFO", 0, 5},
        Spoilt{"TCPV6 on IPv4", 1, 4}, Spoilt{"UDP_L4 on TCP", 1, 5}, Spoilt{"UFO", 1, 3},
        Spoilt{"type 2", 1, 2}, Spoilt{"ECN", 1, 0x81}, Spoilt{"not IP", 10, 0x55},
        Spoilt{"a fragment", 10 + 6, 0x20}, Spoilt{"another protocol", 10 + 9, 47},
        Spoilt{"a TCP header that is too short", 10 + 20 + 12, 0x40}}) {
    cases.push_back({s.what, good.payload()});
    cases.back().payload[s.at] = static_cast<char>(s.value);
  }
  // A single packet's checksum somewhere else.
  Superpacket single = tcp4(500, 0);
  single.header = {net::kVnetNeedsChecksum, GsoType::kNone, 0, 0, 20, 6};
  cases.push_back({"the checksum of UDP in TCP", single.payload()});
  // gso_size 0.
  cases.push_back({"gso_size 0", tcp4(5000, 0).payload()});
  for (const Case& c : cases) {
    const uint64_t before = counters.dropped(DropReason::kBadSuperpacket);
    peer_sends_cut(frame(CstpType::kSuperpacket, c.payload), TlsSession::kMaxWrite);
    barrier();
    EXPECT_TRUE(recorder.packets.empty()) << c.what;
    EXPECT_EQ(counters.dropped(DropReason::kBadSuperpacket), before + 1) << c.what;
    recorder.packets.clear();
  }
  peer_sends_cut(frame(CstpType::kSuperpacket, good.payload()), TlsSession::kMaxWrite);
  barrier();
  EXPECT_EQ(recorder.packets.size(), 1U) << "the good one they were made of";
  EXPECT_FALSE(recorder.end);
}

// What a peer says of places in the packet is not used.
TEST_F(CstpSuperpacketTest, LengthsAndPlacesAreComputedAgain) {
  open_with(kSuper);
  const Superpacket honest = tcp4(5000, 1348);
  Superpacket liar = honest;
  liar.header.header_length = 9;
  liar.header.checksum_start = 4711;
  liar.header.checksum_offset = 65535;
  peer_sends(frame(CstpType::kSuperpacket, liar.payload()));
  run_until([&] { return recorder.headers.size() == 1; });
  EXPECT_EQ(recorder.headers[0], honest.header);
}

TEST_F(CstpSuperpacketTest, WithoutAgreementItIsAnUnknownType) {
  open_with({.packed = true});
  peer_sends(frame(CstpType::kSuperpacket, tcp4(5000, 1348).payload()));
  peer_sends(frame(CstpType::kSwitch, ""));
  barrier();
  EXPECT_TRUE(recorder.packets.empty() && recorder.packets_before_switch.empty());
  EXPECT_EQ(counters.drops, Counters{}.drops);
  peer_sends_cut(frame(CstpType::kSuperpacket, tcp4(20000, 1348).payload()), 16383);
  run_until([&] { return recorder.end.has_value(); });
  EXPECT_EQ(recorder.end->kind, ChannelEnd::Kind::kProtocol) << "longer than a record";
}

TEST_F(CstpSuperpacketTest, SmallFramesOfABatchShareARecord) {
  open_with(kBoth);
  std::string expected;
  for (uint8_t i = 0; i < 10; ++i) {
    Packet packet(100 + i, i);
    expected += frame(CstpType::kData, as_text(packet.span()));
    channel->add(packet.span());
  }
  const Superpacket super = tcp4(40000, 1348);
  expected += frame(CstpType::kSuperpacket, super.payload());
  Superpacket copy = super;
  channel->add_superpacket(copy.header, copy.span());
  Packet last(60, 99);
  expected += frame(CstpType::kData, as_text(last.span()));
  channel->add(last.span());
  channel->flush();
  const auto records = peer_reads();
  std::string stream;
  for (const std::string& record : records)
    stream += record;
  EXPECT_TRUE(stream == expected) << "in the order in which they were added";
  EXPECT_EQ(records.size(), 1U + 3 + 1);
}

TEST_F(CstpSuperpacketTest, PackedRecordsAreFullAndNoLonger) {
  open_with(kBoth);
  for (int i = 0; i < 40; ++i) {
    Packet packet(1400);
    channel->add(packet.span());
  }
  channel->flush();
  const auto records = peer_reads();
  EXPECT_EQ(records.size(), 4U);
  for (const std::string& record : records)
    EXPECT_LE(record.size(), TlsSession::kMaxWrite);
  EXPECT_EQ(records[0].size(), 11U * 1408);
}

TEST_F(CstpSuperpacketTest, NothingWaitsForARecordToFill) {
  open_with(kBoth);
  Packet packet(100);
  const MutableBytes batch[] = {packet.span()};
  channel->send(batch);
  EXPECT_EQ(peer_reads().size(), 1U);
}

TEST_F(CstpSuperpacketTest, ADisconnectStandsBehindWhatWasPacked) {
  open_with(kBoth);
  Packet packet(100);
  channel->add(packet.span());
  channel->disconnect(wire::kReasonUser, "bye");
  const auto records = peer_reads();
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0], frame(CstpType::kData, as_text(packet.span())));
}

// The peer does not read for a while: one bulk flow in superpackets, one of single packets.
TEST_F(CstpSuperpacketTest, TheQueueKeepsTheOrderOfEachFlowAndItsBounds) {
  CstpOptions options;
  options.features = kBoth;
  options.mtu = kMtu;
  options.queue.max_bytes = 1 << 20;
  options.queue.max_age = 1min;  // the test's own slowness is none of its business
  options.queue.target = 1min;
  open(options);
  uint32_t added = 0;
  for (uint32_t i = 0; i < 60; ++i) {
    send(tcp4(40 * 1348, 1348, 4000, ++added));
    net::testing::TcpFields fields;
    fields.sequence = added;
    fields.source_port = 5000;
    const NetPacket single = net::testing::seal(net::testing::ipv4(
        "10.0.0.1", "10.0.0.2", 6, net::testing::tcp(fields, net::testing::pattern(100, 1))));
    Superpacket with_headroom({}, single);
    channel->add(with_headroom.span());
    EXPECT_LE(channel->queued_bytes(), options.queue.max_bytes);
  }
  EXPECT_GT(counters.dropped(DropReason::kQueueFull), 0U);
  EXPECT_EQ(counters.dropped(DropReason::kQueueFull) % 40, 0U) << "the fat flow pays, in packets";

  std::string stream;
  run_until([&] {
    stream += peer_stream();
    return channel->queued_bytes() == 0 && channel->tls().pending_output().empty();
  });
  stream += peer_stream();
  uint32_t last_super = 0, last_single = 0, supers = 0, singles = 0;
  Bytes rest = as_bytes(stream);
  while (!rest.empty()) {
    const auto parsed = wire::parse_cstp(rest, true);
    ASSERT_EQ(parsed.verdict, wire::CstpParse::Verdict::kFrame);
    const bool super = parsed.type == 0x20;
    const uint32_t sequence = load_be32(parsed.payload.subspan((super ? 10 : 0) + 24));
    EXPECT_GT(sequence, super ? last_super : last_single);
    (super ? last_super : last_single) = sequence;
    ++(super ? supers : singles);
    rest = rest.subspan(parsed.consumed);
  }
  EXPECT_EQ(last_super, added) << "the newest is not the one that is dropped";
  EXPECT_EQ(singles, added) << "the thin flow loses nothing";
  EXPECT_EQ(supers * 40 + counters.dropped(DropReason::kQueueFull), added * 40U);
}

TEST_F(CstpSuperpacketTest, SwitchIsTheLastThingThatIsSent) {
  open_with({.superpacket = true, .packed = true, .rekey = true});
  std::string expected;
  while (channel->queued_bytes() < 200'000) {
    const Superpacket packet = tcp4(40 * 1348, 1348);
    expected += frame(CstpType::kSuperpacket, packet.payload());
    send(packet);
  }
  channel->send_switch();
  send(tcp4(40 * 1348, 1348));
  EXPECT_EQ(counters.dropped(DropReason::kChannelDown), 40U);
  expected += frame(CstpType::kSwitch, "");
  std::string stream;
  run_until([&] {
    stream += peer_stream();
    return stream.size() >= expected.size();
  });
  EXPECT_TRUE(stream == expected);
}

TEST_F(CstpSuperpacketTest, APeersSwitchIsReportedBehindItsPacketsAndEndsThem) {
  open_with({.superpacket = true, .rekey = true});
  peer_sends(frame(CstpType::kData, "Ebefore"));
  peer_sends(frame(CstpType::kSwitch, ""));
  peer_sends(frame(CstpType::kSwitch, ""));
  peer_sends(frame(CstpType::kData, "Eafter"));
  peer_sends(frame(CstpType::kSuperpacket, tcp4(5000, 1348).payload()));
  peer_sends(frame(CstpType::kDpdRequest, ""));
  std::vector<std::string> answers;
  run_until([&] {
    for (auto& record : peer_reads())
      answers.push_back(record);
    return !answers.empty();
  });
  EXPECT_EQ(recorder.packets_before_switch, std::vector<size_t>{1});
  EXPECT_EQ(recorder.packets.size(), 1U);
}

TEST_F(CstpSuperpacketTest, AHeldChannelSendsAndTakesNothingUntilItIsResumed) {
  CstpOptions options;
  options.features = {.rekey = true};
  options.liveness = {.dpd = 20ms, .dead_after = 40ms};
  channel = std::make_unique<CstpChannel>(loop, scratch, std::move(ours), std::move(tls.server),
                                          options, recorder, counters);
  // A frame and the first half of another one came with the CONNECT.
  const std::string leftover = frame(CstpType::kData, "Eone") + frame(CstpType::kData, "Etwo");
  const size_t half = leftover.size() - 6;
  ASSERT_TRUE(channel->start(as_bytes(leftover.substr(0, half)), CstpChannel::Begin::kHeld));
  peer_sends(leftover.substr(half));
  peer_sends(frame(CstpType::kData, "Ethree"));
  Packet packet(20);
  channel->add(packet.span());
  channel->flush();
  std::string sent;
  run_until([&] {
    for (const std::string& record : peer_reads())
      sent += record;
    return sent.size() == 28;
  });
  // Longer than what kills a channel that listens.
  const TimePoint later = BootClock::now() + 100ms;
  run_until([&] {
    channel->tick();
    return BootClock::now() > later;
  });
  EXPECT_TRUE(recorder.packets.empty());
  EXPECT_FALSE(recorder.end);
  channel->resume();
  channel->tick();
  run_until([&] { return recorder.packets.size() == 3; });
  ASSERT_EQ(recorder.packets.size(), 3U);
  EXPECT_EQ(as_text(recorder.packets[0]), "Eone");
  EXPECT_EQ(as_text(recorder.packets[1]), "Etwo");
  EXPECT_EQ(as_text(recorder.packets[2]), "Ethree");
  EXPECT_FALSE(recorder.end) << "its silence counted for nothing";
}

TEST_F(CstpSuperpacketTest, ASwitchIsSentOnceTheKernelHasIt) {
  open_with({.superpacket = true, .rekey = true});
  while (channel->queued_bytes() < 200'000)
    send(tcp4(40 * 1348, 1348));
  channel->send_switch();
  EXPECT_FALSE(channel->switch_sent());
  run_until([&] {
    (void)peer_stream();
    return channel->switch_sent();
  });
}

TEST_F(CstpSuperpacketTest, SendingAndQueueingAllocateNothing) {
  open_with(kBoth);
  Superpacket packet = tcp4(40 * 1348, 1348);
  Packet small(100);
  const auto round = [&] {
    channel->add_superpacket(packet.header, packet.span());
    for (int i = 0; i < 5; ++i)
      channel->add(small.span());
    channel->flush();
  };
  round();  // warms up
  (void)peer_reads();
  {
    const fakes::AllocationCounter allocations;
    round();
    EXPECT_EQ(allocations.count(), 0U);
  }
  while (channel->queued_bytes() < 200'000)
    round();
  const fakes::AllocationCounter allocations;
  for (int i = 0; i < 20; ++i)
    round();
  EXPECT_EQ(allocations.count(), 0U);
}

TEST_F(CstpSuperpacketTest, ReceivingAllocatesNothing) {
  open_with(kBoth);
  recorder.count_only = true;
  const std::string stream = frame(CstpType::kData, std::string(100, 'E')) +
                             frame(CstpType::kData, std::string(100, 'E')) +
                             frame(CstpType::kSuperpacket, tcp4(40 * 1348, 1348).payload());
  size_t expected = 0;
  loop::Timer poll(loop);
  poll.start_repeating(1ms, [&] {
    if (recorder.received == expected) loop.stop();
  });
  const auto round = [&] {
    const fakes::AllocationCounter allocations;
    size_t counted = 0;
    // The rest comes later, so that the beginning must be kept.
    for (size_t at = 0; at < stream.size(); at += 16383) {
      peer_sends(std::string_view(stream).substr(at, 16383));
      if (at == 0) expected += 2;
      if (at + 16383 >= stream.size()) ++expected;
      if (at > 0 && at + 16383 < stream.size()) continue;
      const fakes::AllocationCounter while_running;
      loop.run();
      counted += while_running.count();
    }
    return counted;
  };
  (void)round();  // warms up
  EXPECT_EQ(round(), 0U);
}

}  // namespace
}  // namespace culvert::tunnel
