#include "common/tunnel/packet_pool.h"

#include <algorithm>
#include <cassert>

namespace culvert::tunnel {

PacketPool::PacketPool(const PoolSlots& small, const PoolSlots& large) {
  kinds_[0].slots = small;
  kinds_[1].slots = large;
}

PacketPool::~PacketPool() {
  assert(in_use() == 0);
}

size_t PacketPool::max_size() const {
  return std::max(kinds_[0].slots.size, kinds_[1].slots.size);
}

void PacketPool::grow(Kind& kind) {
  const auto first = static_cast<Index>(kind.slabs.size() * kSlotsPerSlab);
  kind.slabs.push_back(
      std::make_unique_for_overwrite<std::byte[]>(kind.slots.size * kSlotsPerSlab));
  kind.notes.resize(kind.slabs.size() * kSlotsPerSlab);
  kind.free.reserve(kind.slabs.size() * kSlotsPerSlab);
  for (Index i = 0; i < kSlotsPerSlab; ++i)
    kind.free.push_back(first + kSlotsPerSlab - 1 - i);
}

PacketPool::Index PacketPool::take(size_t size) {
  const auto number = static_cast<Index>(kind_for(size));
  Kind& kind = kinds_[number];
  assert(size <= kind.slots.size);
  if (kind.in_use >= kind.slots.max) return kNone;
  if (kind.free.empty()) grow(kind);
  const Index slot = kind.free.back();
  kind.free.pop_back();
  ++kind.in_use;
  return number << kKindShift | slot;
}

void PacketPool::give_back(Index index) {
  Kind& kind = kinds_[index >> kKindShift];
  assert(kind.in_use > 0);
  --kind.in_use;
  kind.free.push_back(index & kSlotMask);
}

MutableBytes PacketPool::operator[](Index index) {
  Kind& kind = kinds_[index >> kKindShift];
  const Index slot = index & kSlotMask;
  std::byte* const slab = kind.slabs[slot / kSlotsPerSlab].get();
  return {slab + (slot % kSlotsPerSlab) * kind.slots.size, kind.slots.size};
}

}  // namespace culvert::tunnel
