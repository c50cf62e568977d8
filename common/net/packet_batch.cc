#include "common/net/packet_batch.h"

#include <new>

namespace culvert::net {
namespace {

constexpr std::align_val_t kCacheLine{64};

// Slots begin on cache lines. The stride is an odd number of lines: with a power of two, the
// headers of a whole batch would compete for the same few sets of the first-level cache.
size_t stride_for(size_t bytes) {
  const size_t lines = (bytes + 63) / 64;
  return (lines | 1) * 64;
}

}  // namespace

PacketBatch::PacketBatch(size_t slots, size_t slot_size, size_t headroom)
    : slots_(slots),
      slot_size_(slot_size),
      headroom_(headroom),
      stride_(stride_for(headroom + slot_size)),
      // Not initialised on purpose: large slots would otherwise cost their memory at once.
      arena_(static_cast<std::byte*>(::operator new[](slots* stride_, kCacheLine))) {
  assert(slots > 0 && slot_size > 0);
  packets_.reserve(slots);
}

void PacketBatch::FreeAligned::operator()(std::byte* memory) const noexcept {
  ::operator delete[](memory, kCacheLine);
}

}  // namespace culvert::net
