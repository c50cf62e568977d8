// PacketPool: packet buffers of two sizes for queues, one pool a thread. Memory is taken in slabs
// and reused; taking and giving back a buffer never allocates once the slabs are there. Of a
// buffer, only the pages that were used cost memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/clock.h"

namespace culvert::tunnel {

struct PoolSlots {
  size_t size = 0;  // of each, headroom included
  size_t max = 0;   // how many: bounds the memory of the thread
};

class PacketPool {
 public:
  using Index = uint32_t;
  static constexpr Index kNone = UINT32_MAX;

  // What a queue notes about a buffer it holds.
  struct Note {
    TimePoint arrived{};
    uint32_t length = 0;
    Index next = kNone;
    uint16_t packets = 1;
    uint8_t tag = 0;
  };

  // `large` is for what does not fit `small`, and may be left out.
  explicit PacketPool(const PoolSlots& small, const PoolSlots& large = {});
  PacketPool(const PacketPool&) = delete;
  PacketPool& operator=(const PacketPool&) = delete;
  ~PacketPool();  // asserts that every buffer came home

  // A buffer of at least `size` bytes; kNone when all of that kind are in use.
  // REQUIRES: size <= max_size().
  [[nodiscard]] Index take(size_t size);
  void give_back(Index index);
  // The whole buffer; valid until give_back().
  [[nodiscard]] MutableBytes operator[](Index index);
  [[nodiscard]] Note& note(Index index) {
    return kinds_[index >> kKindShift].notes[index & kSlotMask];
  }
  [[nodiscard]] size_t max_size() const;
  // Which kind of buffer take(size) gives: 0 or 1; and how many of it are left.
  [[nodiscard]] size_t kind_for(size_t size) const { return size <= kinds_[0].slots.size ? 0 : 1; }
  [[nodiscard]] static size_t kind_of(Index index) { return index >> kKindShift; }
  [[nodiscard]] size_t left(size_t kind) const {
    return kinds_[kind].slots.max - kinds_[kind].in_use;
  }
  [[nodiscard]] size_t in_use() const { return kinds_[0].in_use + kinds_[1].in_use; }

 private:
  // An index is the kind in the highest bit and the number of the slot below it.
  static constexpr unsigned kKindShift = 31;
  static constexpr Index kSlotMask = (Index{1} << kKindShift) - 1;
  static constexpr Index kSlotsPerSlab = 256;

  struct Kind {
    PoolSlots slots;
    size_t in_use = 0;
    std::vector<std::unique_ptr<std::byte[]>> slabs;
    std::vector<Note> notes;
    std::vector<Index> free;  // capacity for every slot is reserved in grow()
  };
  static void grow(Kind& kind);

  std::array<Kind, 2> kinds_;
};

}  // namespace culvert::tunnel
