#include "common/net/packet_batch.h"

#include <gtest/gtest.h>

#include <cstring>

namespace culvert::net {
namespace {

void fill(MutableBytes bytes, int value) {
  std::memset(bytes.data(), value, bytes.size());
}

TEST(PacketBatch, HoldsAsManyPacketsAsItHasSlots) {
  PacketBatch batch(3, 100, 8);
  EXPECT_EQ(batch.capacity(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_FALSE(batch.full());
    EXPECT_EQ(batch.free_space().size(), 100u);
    batch.commit(10 + i);
  }
  EXPECT_TRUE(batch.full());
  ASSERT_EQ(batch.size(), 3u);
  EXPECT_EQ(batch[2].size(), 12u);
  EXPECT_EQ(batch.packets().size(), 3u);
}

TEST(PacketBatch, SlotsAndHeadroomsDoNotOverlap) {
  PacketBatch batch(4, 100, 10);
  for (int i = 0; i < 4; ++i) {
    batch.commit(100);
    fill(extend_front(batch[static_cast<size_t>(i)], 10), i);
  }
  for (int i = 0; i < 4; ++i) {
    for (const std::byte b : extend_front(batch[static_cast<size_t>(i)], 10)) {
      ASSERT_EQ(std::to_integer<int>(b), i);
    }
  }
}

TEST(PacketBatch, ClosePacketsLeaveNoGapAndDoNotOverlap) {
  PacketBatch batch(4, 65536, 10, PacketBatch::Slots::kClose);
  for (const size_t size : {100, 1, 5000, 300}) {
    batch.commit(size, size % 2);
    fill(extend_front(batch[batch.size() - 1], 10), static_cast<int>(batch.size()));
  }
  for (size_t i = 0; i < 4; ++i) {
    for (const std::byte b : extend_front(batch[i], 10))
      ASSERT_EQ(std::to_integer<size_t>(b), i + 1);
  }
  EXPECT_LT(batch[3].data() - batch[0].data(), 6000);
  std::byte* const first = batch[0].data();
  batch.clear();
  EXPECT_EQ(batch.free_space().data(), first);
  EXPECT_EQ(batch.free_space().size(), 65536U);
}

TEST(PacketBatch, SkippedBytesBecomeHeadroom) {
  PacketBatch batch(1, 100, 8);
  fill(batch.free_space(), 7);
  std::byte* const start = batch.free_space().data();
  batch.commit(50, 10);
  EXPECT_EQ(batch[0].data(), start + 10);
  EXPECT_EQ(batch[0].size(), 50u);
  EXPECT_EQ(extend_front(batch[0], 18).data(), start - 8);
}

TEST(PacketBatch, ClearMakesTheSameSlotsFreeAgain) {
  PacketBatch batch(2, 100, 0);
  std::byte* const first = batch.free_space().data();
  batch.commit(1);
  batch.commit(1);
  batch.clear();
  EXPECT_TRUE(batch.empty());
  EXPECT_EQ(batch.free_space().data(), first);
}

TEST(PacketBatch, PacketsStayWhereTheyAreWhenTheBatchMoves) {
  PacketBatch batch(2, 100, 4);
  batch.commit(5);
  std::byte* const first = batch[0].data();
  const PacketBatch moved = std::move(batch);
  EXPECT_EQ(moved[0].data(), first);
}

TEST(PacketBatch, TakesSuperpackets) {
  PacketBatch batch(2, 65536 + 12, 16);
  batch.commit(65536, 12);
  EXPECT_EQ(batch[0].size(), 65536u);
}

}  // namespace
}  // namespace culvert::net
