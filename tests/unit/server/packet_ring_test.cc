#include "server/packet_ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

namespace culvert::server {
namespace {

using Packet = std::vector<std::byte>;

// Content that says which packet it is, in every byte.
Packet numbered(size_t number, size_t size) {
  Packet packet(size);
  for (size_t i = 0; i < size; ++i)
    packet[i] = static_cast<std::byte>(number * 31 + i * 7 + (i >> 8));
  return packet;
}

bool same(Bytes a, Bytes b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

bool push(PacketRing& ring, size_t number, size_t size) {
  const Packet header = numbered(number + 1, 12);
  return ring.push(number, static_cast<uint8_t>(number % 251), header, numbered(number, size));
}

// The next packet is the one that push() made of the same number and size.
testing::AssertionResult comes(PacketRing& ring, size_t number, size_t size) {
  const std::optional<PacketRing::Item> item = ring.next();
  if (!item) return testing::AssertionFailure() << "no packet, where " << number << " should be";
  if (item->key != number || item->kind != number % 251)
    return testing::AssertionFailure() << item->key << " instead of " << number;
  if (!same(item->packet, numbered(number, size)))
    return testing::AssertionFailure() << "the content of " << number << " is another";
  if (!same(item->header, numbered(number + 1, 12)))
    return testing::AssertionFailure() << "the header of " << number << " is another";
  if (item->header.data() + item->header.size() != item->packet.data())
    return testing::AssertionFailure() << "the header of " << number << " is not before it";
  return testing::AssertionSuccess();
}

TEST(PacketRing, NothingIsVisibleBeforeItIsPublished) {
  PacketRing ring(4096);
  ASSERT_TRUE(push(ring, 1, 100));
  EXPECT_FALSE(ring.next());
  EXPECT_TRUE(ring.publish());
  EXPECT_TRUE(comes(ring, 1, 100));
  EXPECT_FALSE(ring.next());
}

TEST(PacketRing, KeepsTheOrderOfABatch) {
  PacketRing ring(4096);
  for (const size_t number : {0, 1, 2, 3})
    ASSERT_TRUE(push(ring, number, 50 * number));
  EXPECT_TRUE(ring.publish());
  for (const size_t number : {0, 1, 2, 3})
    EXPECT_TRUE(comes(ring, number, 50 * number));
}

TEST(PacketRing, HeaderMayBeAbsent) {
  PacketRing ring(4096);
  ASSERT_TRUE(ring.push(UINT64_MAX, 255, {}, numbered(1, 20)));
  EXPECT_TRUE(ring.publish());
  const auto item = ring.next();
  ASSERT_TRUE(item);
  EXPECT_EQ(item->key, UINT64_MAX);
  EXPECT_EQ(item->kind, 255);
  EXPECT_TRUE(item->header.empty());
  EXPECT_TRUE(same(item->packet, numbered(1, 20)));
}

TEST(PacketRing, WritingTheHeadroomOfOnePacketLeavesTheOthersAlone) {
  PacketRing ring(4096);
  for (const size_t number : {1, 2, 3})
    ASSERT_TRUE(push(ring, number, 33));
  EXPECT_TRUE(ring.publish());
  EXPECT_TRUE(comes(ring, 1, 33));
  const auto item = ring.next();
  ASSERT_TRUE(item);
  std::fill_n(item->packet.data() - PacketRing::kHeadroom, PacketRing::kHeadroom + 33,
              std::byte{0xff});
  EXPECT_TRUE(comes(ring, 3, 33));
}

TEST(PacketRing, AsksForOneWakeUpASleep) {
  PacketRing ring(4096);
  EXPECT_FALSE(ring.publish()) << "nothing was pushed";
  ASSERT_TRUE(push(ring, 1, 10));
  EXPECT_TRUE(ring.publish()) << "a consumer that never looked sleeps";
  ASSERT_TRUE(push(ring, 2, 10));
  EXPECT_FALSE(ring.publish()) << "it was woken already";
  EXPECT_TRUE(comes(ring, 1, 10));
  EXPECT_FALSE(ring.fall_asleep()) << "there is one left";
  EXPECT_TRUE(comes(ring, 2, 10));
  ASSERT_TRUE(push(ring, 3, 10));
  EXPECT_FALSE(ring.publish()) << "it is awake";
  EXPECT_FALSE(ring.fall_asleep()) << "more has come since it looked";
  EXPECT_TRUE(comes(ring, 3, 10));
  ring.release();
  EXPECT_TRUE(ring.fall_asleep());
  EXPECT_FALSE(ring.publish()) << "nothing new";
  ASSERT_TRUE(push(ring, 4, 10));
  EXPECT_TRUE(ring.publish());
  EXPECT_TRUE(comes(ring, 4, 10));
}

// Of each packet: its note and its headroom.
constexpr size_t kBeside = 16 + PacketRing::kHeadroom;

TEST(PacketRing, SpaceComesBackWithReleaseOnly) {
  PacketRing ring(1024);
  size_t pushed = 0;
  while (push(ring, pushed, 200))
    ++pushed;
  EXPECT_EQ(pushed, 3U);  // 200 + 80, up to the next multiple of 16: 288
  EXPECT_TRUE(ring.publish());
  for (size_t number = 0; number < pushed; ++number)
    EXPECT_TRUE(comes(ring, number, 200));
  EXPECT_FALSE(push(ring, 4, 200)) << "the consumer still works on them";
  ring.release();
  EXPECT_TRUE(push(ring, 4, 200));
  EXPECT_FALSE(ring.publish());
  EXPECT_TRUE(comes(ring, 4, 200));
}

TEST(PacketRing, CanBeFilledToTheLastByte) {
  PacketRing ring(1024);
  for (const size_t number : {0, 1, 2, 3})
    ASSERT_TRUE(push(ring, number, 256 - kBeside));
  EXPECT_FALSE(push(ring, 4, 0));
  EXPECT_TRUE(ring.publish());
  for (const size_t number : {0, 1, 2, 3})
    EXPECT_TRUE(comes(ring, number, 256 - kBeside));
  EXPECT_FALSE(ring.next()) << "a full ring is not mistaken for an empty one, nor the reverse";
}

TEST(PacketRing, RefusedPacketLeavesNoTrace) {
  PacketRing ring(1024);
  ASSERT_TRUE(push(ring, 1, 300));
  EXPECT_FALSE(push(ring, 2, 900)) << "too large for the rest and for what is free at the start";
  EXPECT_FALSE(ring.push(3, 0, {}, numbered(3, PacketRing::kMaxPacket + 1)));
  ASSERT_TRUE(push(ring, 4, 300));
  EXPECT_TRUE(ring.publish());
  EXPECT_TRUE(comes(ring, 1, 300));
  EXPECT_TRUE(comes(ring, 4, 300));
  EXPECT_FALSE(ring.next());
}

// Each size before each place that the ring's end can have.
TEST(PacketRing, WrapsAtEveryOffset) {
  constexpr size_t kCapacity = 512;
  for (size_t offset = 0; offset < kCapacity; offset += 16) {
    if (offset > 0 && offset < kBeside) continue;  // where no packet can begin
    for (size_t size = 0; size <= kCapacity / 2 - kBeside; ++size) {
      PacketRing ring(kCapacity);
      if (offset > 0) {
        ASSERT_TRUE(push(ring, 0, offset - kBeside));
        static_cast<void>(ring.publish());
        ASSERT_TRUE(comes(ring, 0, offset - kBeside));
        ring.release();
      }
      ASSERT_TRUE(push(ring, 1, size)) << offset << " " << size;
      const bool second = push(ring, 2, size);
      static_cast<void>(ring.publish());
      ASSERT_TRUE(comes(ring, 1, size)) << offset << " " << size;
      if (second) {
        ASSERT_TRUE(comes(ring, 2, size)) << offset << " " << size;
      }
      ASSERT_FALSE(ring.next());
      ring.release();
      ASSERT_TRUE(push(ring, 3, size));
      static_cast<void>(ring.publish());
      ASSERT_TRUE(comes(ring, 3, size)) << offset << " " << size;
    }
  }
}

TEST(PacketRing, LargestPacketFitsIntoAnEmptyRingWhereverItsEndIs) {
  PacketRing ring(PacketRing::kMinCapacityForAll);
  for (size_t number = 0; number < 50; ++number) {
    const size_t size = number % 2 == 0 ? PacketRing::kMaxPacket : 1000 * number;
    ASSERT_TRUE(push(ring, number, size)) << number;
    static_cast<void>(ring.publish());
    ASSERT_TRUE(comes(ring, number, size));
    ring.release();
  }
}

// A thread that can be put to sleep and woken, as the loop of the consumer can.
class Bell {
 public:
  void ring() {
    const std::lock_guard lock(mutex_);
    rung_ = true;
    condition_.notify_one();
  }
  // False if nobody rang for so long that somebody has forgotten it.
  bool wait() {
    std::unique_lock lock(mutex_);
    const bool woken = condition_.wait_for(lock, std::chrono::seconds(20), [&] { return rung_; });
    rung_ = false;
    return woken;
  }

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
  bool rung_ = false;
};

struct Plan {
  size_t packets;
  size_t capacity;
  size_t max_size;
  size_t max_batch;
};

// What both threads agree on without talking: the size of packet `number`.
size_t size_of(size_t number, const Plan& plan) {
  return (number * 2654435761U >> 7) % (plan.max_size + 1);
}

struct Counts {
  size_t came = 0;      // in order and intact
  size_t naps = 0;      // how often the consumer tried to sleep
  size_t wake_ups = 0;  // how often it was to be woken
};

void produce(PacketRing& ring, Bell& bell, const Plan& plan, const std::atomic<bool>& stop,
             Counts& counts) {
  std::minstd_rand random(5);
  size_t number = 0;
  while (number < plan.packets && !stop) {
    const size_t batch = 1 + random() % plan.max_batch;
    for (size_t i = 0; i < batch && number < plan.packets; ++i) {
      if (!push(ring, number, size_of(number, plan))) break;  // full: the same again, later
      ++number;
    }
    if (ring.publish()) {
      ++counts.wake_ups;
      bell.ring();
    } else {
      std::this_thread::yield();
    }
  }
}

// Ends early when a packet is not what it should be, or when nobody rings.
void consume(PacketRing& ring, Bell& bell, const Plan& plan, Counts& counts) {
  constexpr size_t kBudget = 40;
  while (counts.came < plan.packets) {
    for (size_t i = 0; i < kBudget && counts.came < plan.packets; ++i) {
      const std::optional<PacketRing::Item> item = ring.next();
      if (!item) break;
      const size_t number = counts.came;
      if (item->key != number || !same(item->packet, numbered(number, size_of(number, plan))) ||
          !same(item->header, numbered(number + 1, 12)))
        return;
      std::ranges::fill(item->packet, std::byte{0});  // it is ours until release()
      ++counts.came;
    }
    ring.release();
    if (counts.came == plan.packets) return;
    ++counts.naps;
    if (ring.fall_asleep() && !bell.wait()) return;
  }
}

TEST(PacketRing, CarriesEverythingInOrderBetweenTwoThreads) {
  const Plan plans[] = {
      {30000, 4096, 1500, 8},                            // often full
      {30000, size_t{1} << 20, 1500, 64},                // often empty
      {1500, PacketRing::kMinCapacityForAll, 65535, 4},  // large ones
      {60000, 1024, 40, 1},                              // a wake-up for nearly each packet
  };
  for (const Plan& plan : plans) {
    PacketRing ring(plan.capacity);
    Bell bell;
    Counts counts;
    std::atomic<bool> stop = false;
    std::thread producer([&] { produce(ring, bell, plan, stop, counts); });
    consume(ring, bell, plan, counts);
    stop = true;
    producer.join();
    EXPECT_EQ(counts.came, plan.packets) << plan.capacity;
    EXPECT_LE(counts.wake_ups, counts.naps + 1) << plan.capacity;
    EXPECT_FALSE(ring.next());
  }
}

}  // namespace
}  // namespace culvert::server
