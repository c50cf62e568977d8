#include "common/tunnel/packet_pool.h"

#include <cassert>

namespace culvert::tunnel {

PacketPool::PacketPool(size_t slot_size, size_t max_slots)
    : slot_size_(slot_size), max_slots_(max_slots) {}

PacketPool::~PacketPool() {
  assert(in_use_ == 0);
}

void PacketPool::grow() {
  const auto first = static_cast<Index>(slabs_.size() * kSlotsPerSlab);
  slabs_.push_back(std::make_unique_for_overwrite<std::byte[]>(slot_size_ * kSlotsPerSlab));
  notes_.resize(slabs_.size() * kSlotsPerSlab);
  free_.reserve(slabs_.size() * kSlotsPerSlab);
  for (Index i = 0; i < kSlotsPerSlab; ++i)
    free_.push_back(first + kSlotsPerSlab - 1 - i);
}

PacketPool::Index PacketPool::take() {
  if (in_use_ >= max_slots_) return kNone;
  if (free_.empty()) grow();
  const Index index = free_.back();
  free_.pop_back();
  ++in_use_;
  return index;
}

void PacketPool::give_back(Index index) {
  assert(in_use_ > 0);
  --in_use_;
  free_.push_back(index);
}

MutableBytes PacketPool::operator[](Index index) {
  std::byte* slab = slabs_[index / kSlotsPerSlab].get();
  return {slab + (index % kSlotsPerSlab) * slot_size_, slot_size_};
}

}  // namespace culvert::tunnel
