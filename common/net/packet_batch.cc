#include "common/net/packet_batch.h"

#include <new>

namespace culvert::net {
namespace {

constexpr std::align_val_t kCacheLine{64};

}  // namespace

PacketBatch::PacketBatch(size_t slots, size_t slot_size, size_t headroom, Slots layout)
    : slots_(slots),
      slot_size_(slot_size),
      headroom_(headroom),
      layout_(layout),
      // Not initialised on purpose: large slots would otherwise cost their memory at once.
      arena_(static_cast<std::byte*>(
          ::operator new[](slots* stride_for(headroom + slot_size), kCacheLine))),
      next_(arena_.get() + headroom) {
  assert(slots > 0 && slot_size > 0);
  packets_.reserve(slots);
  sums_.reserve(slots);
}

void PacketBatch::FreeAligned::operator()(std::byte* memory) const noexcept {
  ::operator delete[](memory, kCacheLine);
}

}  // namespace culvert::net
