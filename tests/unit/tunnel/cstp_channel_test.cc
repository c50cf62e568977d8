// CSTP as stock peers know it. What Culvert peers add is in cstp_superpacket_test.cc.
#include "common/tunnel/cstp_channel.h"

#include <gtest/gtest.h>

#include "tests/fakes/allocation_counter.h"
#include "tests/unit/tunnel/cstp_fixture.h"

namespace culvert::tunnel {
namespace {

TEST_F(CstpChannelTest, EachPacketIsOneFrameInOneRecord) {
  open();
  Packet a(100), b(1400, 2), c(60, 3);
  const MutableBytes batch[] = {a.span(), b.span(), c.span()};
  channel->send(batch);
  const auto records = peer_reads();
  ASSERT_EQ(records.size(), 3U);
  for (size_t i = 0; i < 3; ++i)
    EXPECT_EQ(records[i], frame(CstpType::kData, as_text(batch[i]))) << i;
  EXPECT_EQ(counters.tx_packets, 3U);
  EXPECT_EQ(counters.tx_bytes, 1560U);
}

TEST_F(CstpChannelTest, ReadsFramesHoweverThePeerCutsThem) {
  open();
  const std::string one = frame(CstpType::kData, "Eone"), two = frame(CstpType::kData, "Etwo");
  peer_sends(one + two);
  peer_sends(one.substr(0, 3));
  peer_sends(one.substr(3) + two.substr(0, 9));
  peer_sends(two.substr(9));
  run_until([&] { return recorder.packets.size() == 4; });
  for (size_t i = 0; i < 4; ++i)
    EXPECT_EQ(as_text(recorder.packets[i]), i % 2 == 0 ? "Eone" : "Etwo");
}

TEST_F(CstpChannelTest, AnswersADpdRequestWithItsPayload) {
  open();
  peer_sends(frame(CstpType::kDpdRequest, "abc"));
  std::vector<std::string> answers;
  run_until([&] {
    for (auto& record : peer_reads())
      answers.push_back(record);
    return !answers.empty();
  });
  EXPECT_EQ(answers, std::vector<std::string>{frame(CstpType::kDpdResponse, "abc")});
}

TEST_F(CstpChannelTest, ReportsADpdAnswer) {
  open();
  channel->probe();
  EXPECT_EQ(peer_reads(), std::vector<std::string>{frame(CstpType::kDpdRequest, "")});
  peer_sends(frame(CstpType::kDpdResponse, ""));
  run_until([&] { return recorder.alive == 1; });
}

TEST_F(CstpChannelTest, IgnoresKeepaliveAndUnknownTypes) {
  open();
  peer_sends(frame(CstpType::kKeepalive, ""));
  peer_sends(frame(static_cast<CstpType>(0x42), "whatever"));
  peer_sends(frame(CstpType::kData, "E"));
  run_until([&] { return recorder.packets.size() == 1; });
  EXPECT_FALSE(recorder.end);
  EXPECT_TRUE(peer_reads().empty());
}

TEST_F(CstpChannelTest, APeersDisconnectEndsTheSessionWithItsReason) {
  open();
  peer_sends(frame(CstpType::kData, "Elast words"));
  peer_sends(frame(CstpType::kDisconnect,
                   "\xb0"
                   "done for today"));
  run_until([&] { return recorder.end.has_value(); });
  EXPECT_EQ(recorder.end->kind, ChannelEnd::Kind::kPeerEnded);
  EXPECT_EQ(recorder.end->code, 0xb0);
  EXPECT_EQ(recorder.end->text, "done for today");
  EXPECT_EQ(recorder.packets.size(), 1U);
}

struct BadFrame {
  const char* name;
  std::string bytes;
};
class CstpChannelBadFrames : public CstpChannelTest,
                             public testing::WithParamInterface<BadFrame> {};
TEST_P(CstpChannelBadFrames, EndTheChannel) {
  open();
  peer_sends(GetParam().bytes);
  run_until([&] { return recorder.end.has_value(); });
  EXPECT_EQ(recorder.end->kind, ChannelEnd::Kind::kProtocol) << GetParam().name;
}
INSTANTIATE_TEST_SUITE_P(
    , CstpChannelBadFrames,
    testing::Values(BadFrame{"wrong magic", "GET / HTTP/1.1\r\n\r\n"},
                    BadFrame{"byte 7 is not zero", std::string("STF\x01\0\0\0\x01", 8)},
                    BadFrame{"too long", std::string("STF\x01\xff\xff\0\0", 8)},
                    BadFrame{"compressed", std::string("STF\x01\0\x01\x08\0x", 9)}),
    [](const auto& param) { return "case" + std::to_string(param.index); });

TEST_F(CstpChannelTest, LosingTheConnectionIsNotTheEndOfTheSession) {
  open();
  theirs.reset();
  run_until([&] { return recorder.end.has_value(); });
  EXPECT_EQ(recorder.end->kind, ChannelEnd::Kind::kLost);
}

TEST_F(CstpChannelTest, DisconnectSendsTheReasonThenCloses) {
  open();
  channel->disconnect(wire::kReasonUser, "bye");
  const auto records = peer_reads();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0], frame(CstpType::kDisconnect,
                              "\xb0"
                              "bye"));
  EXPECT_TRUE(peer_saw_eof);
  theirs.reset();
  run_until([&] { return recorder.end.has_value(); });
  EXPECT_EQ(recorder.end->kind, ChannelEnd::Kind::kClosed);
  EXPECT_EQ(recorder.end->text, "bye");
}

TEST_F(CstpChannelTest, APeerThatDoesNotReadCostsABoundedQueue) {
  CstpOptions options;
  options.queue.max_bytes = 200'000;
  open(options);
  for (int i = 0; i < 5000; ++i) {
    Packet packet(1400);
    const MutableBytes batch[] = {packet.span()};
    channel->send(batch);
  }
  EXPECT_LE(channel->queued_bytes(), 200'000U);
  EXPECT_GT(counters.dropped(DropReason::kQueueFull), 1000U);
  EXPECT_LT(channel->tls().pending_output().size(), 200'000U);
}

TEST_F(CstpChannelTest, WhatWaitedIsSentWhenThePeerReadsAgain) {
  open();
  size_t offered = 0;
  while (channel->queued_bytes() < 100'000) {
    Packet packet(1400);
    const MutableBytes batch[] = {packet.span()};
    channel->send(batch);
    ++offered;
  }
  size_t received = 0;
  run_until([&] {
    received += peer_reads().size();
    return received == offered;
  });
  EXPECT_EQ(channel->queued_bytes(), 0U);
}

TEST_F(CstpChannelTest, SilenceAsksAndThenEnds) {
  CstpOptions options;
  options.liveness.dpd = 30ms;
  open(options);
  loop::Timer ticks(loop);
  ticks.start_repeating(5ms, [&] { channel->tick(); });
  run_until([&] { return recorder.end.has_value(); });
  EXPECT_EQ(recorder.end->kind, ChannelEnd::Kind::kDead);
  const auto records = peer_reads();
  ASSERT_FALSE(records.empty());
  EXPECT_EQ(records[0], frame(CstpType::kDpdRequest, ""));
}

TEST_F(CstpChannelTest, APacketAboveTheLimitIsDroppedAndCounted) {
  open();
  Packet packet(wire::kCstpMaxPayload + 1);
  const MutableBytes batch[] = {packet.span()};
  channel->send(batch);
  EXPECT_EQ(counters.dropped(DropReason::kTooBig), 1U);
  EXPECT_TRUE(peer_reads().empty());
}

TEST_F(CstpChannelTest, BytesThatCameWithTheConnectExchangeCount) {
  const std::string early = frame(CstpType::kData, "Eearly");
  channel = std::make_unique<CstpChannel>(loop, scratch, std::move(ours), std::move(tls.server),
                                          CstpOptions{}, recorder, counters);
  ASSERT_TRUE(channel->start(as_bytes(early)));
  ASSERT_EQ(recorder.packets.size(), 1U);
  EXPECT_EQ(as_text(recorder.packets[0]), "Eearly");
}

// The promise of the packet path: once warm, a batch costs no allocation in either direction.
TEST_F(CstpChannelTest, SendingABatchAllocatesNothing) {
  open();
  std::vector<Packet> packets(20, Packet(1400));
  std::vector<MutableBytes> batch;
  for (Packet& packet : packets)
    batch.push_back(packet.span());
  channel->send(batch);  // warms up
  (void)peer_reads();
  const fakes::AllocationCounter allocations;
  channel->send(batch);
  EXPECT_EQ(allocations.count(), 0U);
  EXPECT_EQ(peer_reads().size(), 20U);
}

TEST_F(CstpChannelTest, QueueingAllocatesNothing) {
  open();
  Packet packet(1400);
  const MutableBytes batch[] = {packet.span()};
  while (channel->queued_bytes() < 200'000)
    channel->send(batch);
  const fakes::AllocationCounter allocations;
  for (int i = 0; i < 20; ++i)
    channel->send(batch);
  EXPECT_EQ(allocations.count(), 0U);
}

TEST_F(CstpChannelTest, ReceivingABatchAllocatesNothing) {
  open();
  recorder.count_only = true;
  const std::string record = frame(CstpType::kData, std::string(1400, 'E'));
  size_t expected = 0;
  loop::Timer poll(loop);
  poll.start_repeating(1ms, [&] {
    if (recorder.received == expected) loop.stop();
  });
  const auto round = [&] {
    for (int i = 0; i < 20; ++i)
      peer_sends(record);
    expected += 20;
    const fakes::AllocationCounter allocations;
    loop.run();
    return allocations.count();
  };
  (void)round();  // warms up
  EXPECT_EQ(round(), 0U);
}

}  // namespace
}  // namespace culvert::tunnel
