// PacketPool: fixed-size packet buffers for queues, one pool a thread. Memory is taken in slabs and
// reused; taking and giving back a buffer never allocates once the slabs are there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/clock.h"

namespace culvert::tunnel {

class PacketPool {
 public:
  using Index = uint32_t;
  static constexpr Index kNone = UINT32_MAX;

  // What a queue notes about a buffer it holds.
  struct Note {
    TimePoint arrived{};
    uint32_t length = 0;
    Index next = kNone;
  };

  // slot_size: the largest packet, headroom included. max_slots bounds the memory of the thread.
  PacketPool(size_t slot_size, size_t max_slots);
  PacketPool(const PacketPool&) = delete;
  PacketPool& operator=(const PacketPool&) = delete;
  ~PacketPool();  // asserts that every buffer came home

  // kNone when max_slots are in use.
  [[nodiscard]] Index take();
  void give_back(Index index);
  // slot_size bytes; valid until give_back().
  [[nodiscard]] MutableBytes operator[](Index index);
  [[nodiscard]] Note& note(Index index) { return notes_[index]; }
  [[nodiscard]] size_t slot_size() const { return slot_size_; }
  [[nodiscard]] size_t in_use() const { return in_use_; }

 private:
  static constexpr Index kSlotsPerSlab = 256;
  void grow();

  size_t slot_size_;
  size_t max_slots_;
  size_t in_use_ = 0;
  std::vector<std::unique_ptr<std::byte[]>> slabs_;
  std::vector<Note> notes_;
  std::vector<Index> free_;  // capacity for every slot is reserved in grow()
};

}  // namespace culvert::tunnel
