// FlowQueue: what waits when a session's TCP connection cannot take more. Bounded in bytes and in
// time: flows are hashed to buckets that are served in turn (a bulk flow cannot starve a ping), a
// bucket whose packets wait too long loses some at its head (CoDel, RFC 8289, per bucket as in
// FQ-CoDel, RFC 8290), and over the limit of bytes or packets the fattest bucket loses first.
// A queue never holds more buffers than it leaves to all others together.
//
// Pure but for the memory it borrows from the thread's PacketPool.
#pragma once

#include <array>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/tunnel/packet_pool.h"

namespace culvert::tunnel {

class FlowQueue {
 public:
  struct Limits {
    size_t max_bytes = 1U << 20;
    size_t max_items = 2048;  // small ones cost a whole buffer of the pool each
    Duration target = std::chrono::milliseconds(10);     // acceptable standing delay
    Duration interval = std::chrono::milliseconds(100);  // a worst-case round trip
    Duration max_age = std::chrono::milliseconds(500);   // older than this is never sent
  };
  struct Drops {         // in packets
    uint64_t full = 0;   // by the bounds, or no buffer left in the pool
    uint64_t delay = 0;  // by CoDel or max_age
  };
  // One packet, or what stands for several: dropped and sent as a whole.
  struct Item {
    Bytes bytes;
    uint16_t packets = 1;
    uint8_t tag = 0;  // means something to the caller alone
  };
  struct Popped {
    MutableBytes bytes;  // empty: nothing is left
    uint16_t packets = 0;
    uint8_t tag = 0;
  };

  // headroom: bytes kept free before each packet that pop() hands out. The pool must outlive this.
  FlowQueue(PacketPool& pool, size_t headroom, const Limits& limits);
  FlowQueue(const FlowQueue&) = delete;
  FlowQueue& operator=(const FlowQueue&) = delete;
  ~FlowQueue();

  // Copies the bytes in. REQUIRES: headroom + item.bytes.size() <= pool.max_size().
  void push(const Item& item, uint32_t flow_hash, TimePoint now);

  // The next one to send, with `headroom` writable bytes before it. Valid until the next call of
  // push() or pop().
  [[nodiscard]] Popped pop(TimePoint now);

  [[nodiscard]] bool empty() const { return items_ == 0; }
  [[nodiscard]] size_t bytes() const { return bytes_; }
  [[nodiscard]] size_t items() const { return items_; }
  [[nodiscard]] const Drops& drops() const { return drops_; }

 private:
  static constexpr size_t kBuckets = 64;
  static constexpr int32_t kQuantum = 1514;  // bytes a bucket may send per turn, as fq_codel's

  struct Bucket {
    PacketPool::Index head = PacketPool::kNone;
    PacketPool::Index tail = PacketPool::kNone;
    size_t bytes = 0;
    int32_t deficit = 0;
    bool listed = false;
    // CoDel state, names as in RFC 8289 section 5.
    bool dropping = false;
    uint32_t count = 0;
    TimePoint first_above{};
    TimePoint drop_next{};
  };

  PacketPool::Index take_head(Bucket& bucket);
  void drop_head(Bucket& bucket, uint64_t& counter);
  void drop_from_fattest();
  [[nodiscard]] bool is_full(size_t more) const;
  bool should_drop(Bucket& bucket, const PacketPool::Note& note, TimePoint now);
  void list(size_t number);

  PacketPool& pool_;
  size_t headroom_;
  Limits limits_;
  std::array<Bucket, kBuckets> buckets_{};
  std::array<uint8_t, kBuckets> turn_{};  // ring of bucket numbers that have packets
  size_t turn_head_ = 0;
  size_t turn_count_ = 0;
  PacketPool::Index lent_ = PacketPool::kNone;
  size_t bytes_ = 0;
  size_t items_ = 0;
  std::array<size_t, 2> held_{};  // buffers of the pool, by their kind
  Drops drops_;
};

}  // namespace culvert::tunnel
