// PacketBatch: an arena of packets with headroom, the unit that both directions pass around.
// All memory is allocated by the constructor; reading, committing and clearing never allocate.
// Knows nothing about what the packets contain. One thread at a time.
#pragma once

#include <cassert>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "common/base/bytes.h"
#include "common/net/checksum.h"

namespace culvert::net {

// The packet with `count` bytes of headroom in front of it, for a layer that prepends a header.
// REQUIRES: at least `count` bytes of headroom (PacketBatch::headroom(), or what the caller set
// aside); the result borrows the same slot.
[[nodiscard]] inline MutableBytes extend_front(MutableBytes packet, size_t count) {
  return {packet.data() - count, packet.size() + count};
}

class PacketBatch {
 public:
  enum class Slots {
    kApart,  // each has its place: what lies behind a packet in its slot stays there
    kClose,  // each begins behind the packet before it: small ones are many to a page
  };

  // `slots` packets of up to `slot_size` bytes each, with `headroom` writable bytes before every
  // slot. A slot may be as large as a superpacket (64 KB and its header): pages that no packet
  // reaches are never touched. REQUIRES: slots > 0 and slot_size > 0.
  PacketBatch(size_t slots, size_t slot_size, size_t headroom, Slots layout = Slots::kApart);
  PacketBatch(PacketBatch&&) noexcept = default;
  PacketBatch& operator=(PacketBatch&&) noexcept = default;

  [[nodiscard]] size_t size() const { return packets_.size(); }
  [[nodiscard]] size_t capacity() const { return slots_; }
  [[nodiscard]] size_t slot_size() const { return slot_size_; }
  [[nodiscard]] size_t headroom() const { return headroom_; }
  [[nodiscard]] bool empty() const { return packets_.empty(); }
  [[nodiscard]] bool full() const { return packets_.size() == slots_; }

  // Forgets the packets; every span given out before is invalid.
  void clear() {
    packets_.clear();
    sums_.clear();
    next_ = arena_.get() + headroom_;
  }

  // The next free slot: slot_size() bytes, with headroom() writable bytes before them. The same
  // slot until commit(). REQUIRES: !full().
  [[nodiscard]] MutableBytes free_space() {
    assert(!full());
    return {next_, slot_size_};
  }

  // The slot of free_space() now holds a packet of `length` bytes that starts `skip` bytes in (the
  // skipped bytes become headroom). REQUIRES: !full() and skip + length <= slot_size().
  void commit(size_t length, size_t skip = 0, Sums sums = Sums::kDone) {
    assert(!full() && skip + length <= slot_size_);
    packets_.emplace_back(next_ + skip, length);
    sums_.push_back(sums);
    next_ += layout_ == Slots::kApart ? stride_for(headroom_ + slot_size_)
                                      : stride_for(headroom_ + skip + length);
  }

  // Adds a packet that lies elsewhere and takes up no slot's memory. It must outlive the batch's
  // next clear(), with headroom as its user needs it. REQUIRES: !full().
  void add_foreign(MutableBytes packet, Sums sums = Sums::kDone) {
    assert(!full());
    packets_.push_back(packet);
    sums_.push_back(sums);
  }

  // Packet `i`, in the order of the commits. Valid until clear() or destruction.
  // REQUIRES: i < size().
  [[nodiscard]] MutableBytes operator[](size_t i) const {
    assert(i < packets_.size());
    return packets_[i];
  }
  [[nodiscard]] std::span<const MutableBytes> packets() const { return packets_; }
  // The checksum of each packet.
  [[nodiscard]] std::span<const Sums> sums() const { return sums_; }

 private:
  struct FreeAligned {
    void operator()(std::byte* memory) const noexcept;
  };

  // Slots begin on cache lines. The stride is an odd number of lines: with a power of two, the
  // headers of a whole batch would compete for the same few sets of the first-level cache.
  static constexpr size_t stride_for(size_t bytes) { return ((bytes + 63) / 64 | 1) * 64; }

  size_t slots_;
  size_t slot_size_;
  size_t headroom_;
  Slots layout_;
  std::unique_ptr<std::byte[], FreeAligned> arena_;
  std::byte* next_;                    // where the next packet begins
  std::vector<MutableBytes> packets_;  // capacity reserved: emplace_back never allocates
  std::vector<Sums> sums_;             // the same
};

}  // namespace culvert::net
