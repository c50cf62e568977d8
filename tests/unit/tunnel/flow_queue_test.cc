#include "common/tunnel/flow_queue.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>

namespace culvert::tunnel {
namespace {

using namespace std::chrono_literals;
const TimePoint kEpoch{1000s};

std::vector<std::byte> packet(uint8_t tag, size_t size = 1000) {
  return std::vector<std::byte>(size, std::byte{tag});
}

struct FlowQueueTest : testing::Test {
  PacketPool pool{{.size = 2048, .max = 4096}, {.size = 65536, .max = 16}};
  FlowQueue::Limits limits{.max_bytes = 100'000};
  FlowQueue queue{pool, 8, limits};
};

TEST_F(FlowQueueTest, KeepsTheOrderWithinAFlow) {
  for (uint8_t i = 0; i < 10; ++i)
    queue.push({packet(i)}, 7, kEpoch);
  for (uint8_t i = 0; i < 10; ++i) {
    const MutableBytes out = queue.pop(kEpoch).bytes;
    ASSERT_EQ(out.size(), 1000U);
    EXPECT_EQ(out[0], std::byte{i});
    out.data()[-8] = std::byte{1};  // headroom is writable
  }
  EXPECT_TRUE(queue.pop(kEpoch).bytes.empty());
  EXPECT_TRUE(queue.empty());
}

TEST_F(FlowQueueTest, ABulkFlowDoesNotMakeAPingWait) {
  for (int i = 0; i < 50; ++i)
    queue.push({packet(1, 1400)}, 1, kEpoch);
  queue.push({packet(2, 84)}, 2, kEpoch);
  int position = 0;
  while (queue.pop(kEpoch).bytes[0] != std::byte{2})
    ++position;
  EXPECT_LE(position, 2);
}

TEST_F(FlowQueueTest, FlowsShareByBytesNotByPackets) {
  for (int i = 0; i < 40; ++i)
    queue.push({packet(1, 1500)}, 1, kEpoch);
  for (int i = 0; i < 400; ++i)
    queue.push({packet(2, 100)}, 2, kEpoch);
  std::map<std::byte, size_t> bytes;
  for (int i = 0; i < 200; ++i) {
    const MutableBytes out = queue.pop(kEpoch).bytes;
    bytes[out[0]] += out.size();
  }
  EXPECT_NEAR(static_cast<double>(bytes[std::byte{1}]), static_cast<double>(bytes[std::byte{2}]),
              4000);
}

TEST_F(FlowQueueTest, TheByteBoundHoldsAndTheFattestFlowPays) {
  queue.push({packet(2, 100)}, 2, kEpoch);
  for (int i = 0; i < 500; ++i)
    queue.push({packet(1)}, 1, kEpoch);
  EXPECT_LE(queue.bytes(), limits.max_bytes);
  EXPECT_EQ(queue.drops().full, 500U - 99U);
  bool thin_survived = false;
  for (MutableBytes out = queue.pop(kEpoch).bytes; !out.empty(); out = queue.pop(kEpoch).bytes)
    thin_survived |= out[0] == std::byte{2};
  EXPECT_TRUE(thin_survived);
}

TEST_F(FlowQueueTest, ManySmallPacketsAreBoundedByTheirNumber) {
  for (size_t i = 0; i < limits.max_items + 100; ++i)
    queue.push({packet(1, 40)}, 1, kEpoch);
  EXPECT_EQ(queue.items(), limits.max_items);
  EXPECT_EQ(queue.drops().full, 100U);
}

TEST_F(FlowQueueTest, NothingOlderThanTheAgeBoundIsSent) {
  for (int i = 0; i < 10; ++i)
    queue.push({packet(1)}, 1, kEpoch);
  EXPECT_TRUE(queue.pop(kEpoch + limits.max_age + 1ms).bytes.empty());
  EXPECT_EQ(queue.drops().delay, 10U);
}

TEST_F(FlowQueueTest, AStandingQueueIsThinnedOut) {
  // One packet in and one out every millisecond, behind 40 that were there before.
  TimePoint now = kEpoch;
  for (int i = 0; i < 40; ++i)
    queue.push({packet(1)}, 1, now);
  for (int i = 0; i < 2000; ++i) {
    now += 1ms;
    queue.push({packet(1)}, 1, now);
    (void)queue.pop(now);
  }
  EXPECT_GT(queue.drops().delay, 10U);
  EXPECT_LT(queue.items(), 20U);  // 40 ms of delay have become less than 20
}

TEST_F(FlowQueueTest, AShortBurstIsNotDropped) {
  TimePoint now = kEpoch;
  for (int i = 0; i < 50; ++i)
    queue.push({packet(1)}, 1, now);
  for (int i = 0; i < 50; ++i) {
    now += 1ms;
    EXPECT_FALSE(queue.pop(now).bytes.empty());
  }
  EXPECT_EQ(queue.drops().delay, 0U);
}

TEST_F(FlowQueueTest, WhatWentInComesOutWithItsTag) {
  queue.push({packet(7, 60'000), 45, 0x20}, 1, kEpoch);
  queue.push({packet(8, 100)}, 2, kEpoch);
  const FlowQueue::Popped large = queue.pop(kEpoch);
  EXPECT_EQ(large.bytes.size(), 60'000U);
  EXPECT_EQ(large.packets, 45);
  EXPECT_EQ(large.tag, 0x20);
  large.bytes.data()[-8] = std::byte{1};  // headroom is writable
  const FlowQueue::Popped small = queue.pop(kEpoch);
  EXPECT_EQ(small.bytes.size(), 100U);
  EXPECT_EQ(small.packets, 1);
  EXPECT_EQ(small.tag, 0);
}

TEST_F(FlowQueueTest, SuperpacketsAndSinglePacketsShareByBytes) {
  FlowQueue::Limits large = limits;
  large.max_bytes = 1'000'000;
  FlowQueue both(pool, 8, large);
  for (int i = 0; i < 8; ++i)
    both.push({packet(1, 60'000), 40}, 1, kEpoch);
  for (int i = 0; i < 500; ++i)
    both.push({packet(2, 1000)}, 2, kEpoch);
  std::map<std::byte, size_t> bytes;
  while (bytes[std::byte{1}] < 300'000) {
    const MutableBytes out = both.pop(kEpoch).bytes;
    bytes[out[0]] += out.size();
  }
  EXPECT_NEAR(static_cast<double>(bytes[std::byte{2}]), 300'000, 62'000);
}

TEST_F(FlowQueueTest, DropsAreCountedInPackets) {
  for (int i = 0; i < 3; ++i)
    queue.push({packet(1, 50'000), 40}, 1, kEpoch);
  EXPECT_EQ(queue.drops().full, 40U);
  EXPECT_EQ(queue.bytes(), 100'000U);
  EXPECT_TRUE(queue.pop(kEpoch + limits.max_age + 1ms).bytes.empty());
  EXPECT_EQ(queue.drops().delay, 80U);
}

// At a standing delay, dropping the only one there is would leave the line idle.
TEST_F(FlowQueueTest, TheLastSuperpacketIsNotDroppedForItsDelay) {
  TimePoint now = kEpoch;
  for (int i = 0; i < 100; ++i) {
    queue.push({packet(1, 60'000), 40}, 1, now);
    now += 50ms;
    EXPECT_FALSE(queue.pop(now).bytes.empty());
  }
  EXPECT_EQ(queue.drops().delay, 0U);
}

TEST_F(FlowQueueTest, SmallPacketsDoNotTakeTheBuffersOfSuperpackets) {
  FlowQueue::Limits many;
  many.max_bytes = 10'000'000;
  FlowQueue full(pool, 8, many);
  for (int i = 0; i < 20; ++i)
    full.push({packet(1, 60'000), 40}, 1, kEpoch);
  EXPECT_EQ(full.items(), 8U);
  EXPECT_EQ(full.drops().full, 480U);
  full.push({packet(2, 2000)}, 2, kEpoch);
  EXPECT_EQ(full.items(), 9U);
}

TEST(FlowQueue, AnEmptyPoolDropsInsteadOfGrowing) {
  PacketPool pool({.size = 2048, .max = 3});
  const auto one = pool.take(2048), two = pool.take(2048), three = pool.take(2048);
  FlowQueue queue(pool, 8, {});
  queue.push({packet(1)}, 1, kEpoch);
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.drops().full, 1U);
  for (const auto index : {one, two, three})
    pool.give_back(index);
}

TEST(FlowQueue, GreedyQueuesLeaveSomethingForANewOne) {
  PacketPool pool({.size = 2048, .max = 100});
  std::vector<std::unique_ptr<FlowQueue>> greedy;
  for (int i = 0; i < 4; ++i)
    greedy.push_back(std::make_unique<FlowQueue>(pool, 8, FlowQueue::Limits{}));
  for (int i = 0; i < 1000; ++i)
    for (auto& queue : greedy)
      queue->push({packet(1)}, 1, kEpoch);
  for (const auto& queue : greedy)
    EXPECT_NEAR(static_cast<double>(queue->items()), 20, 2);
  FlowQueue late(pool, 8, {});
  for (uint8_t i = 0; i < 8; ++i)
    late.push({packet(i)}, i, kEpoch);
  EXPECT_EQ(late.drops().full, 0U);
}

TEST(FlowQueue, GivesEveryBufferBack) {
  PacketPool pool({.size = 2048, .max = 1000});
  {
    FlowQueue queue(pool, 8, {});
    for (int i = 0; i < 100; ++i)
      queue.push({packet(1)}, static_cast<uint32_t>(i), kEpoch);
    (void)queue.pop(kEpoch);
    EXPECT_EQ(pool.in_use(), 100U);
  }
  EXPECT_EQ(pool.in_use(), 0U);
}

}  // namespace
}  // namespace culvert::tunnel
