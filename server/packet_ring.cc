#include "server/packet_ring.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

namespace culvert::server {
namespace {

constexpr size_t kAlignment = 16;
constexpr uint32_t kSkip = UINT32_MAX;  // as a length: nothing more before the ring's end

constexpr size_t aligned(size_t size) {
  return (size + kAlignment - 1) & ~(kAlignment - 1);
}

}  // namespace

// In the memory of this machine only: host byte order.
struct PacketRing::Note {
  uint64_t key = 0;
  uint32_t length = 0;  // of the packet, or kSkip
  uint8_t kind = 0;
  uint8_t header = 0;  // bytes of it, at the end of the headroom
};

PacketRing::PacketRing(size_t capacity)
    : mask_(capacity - 1), memory_(std::make_unique_for_overwrite<std::byte[]>(capacity)) {
  static_assert(sizeof(Note) == kAlignment);
  static_assert(kOverhead == sizeof(Note) + kHeadroom + kAlignment);
  static_assert(2 * aligned(kOverhead + kMaxPacket) <= kMinCapacityForAll);
  static_assert(std::atomic<uint64_t>::is_always_lock_free);
  assert(std::has_single_bit(capacity) && capacity >= 256);
}

// Whether everything up to `end` may be overwritten.
bool PacketRing::has_room(uint64_t end) {
  if (end - seen_head_ <= capacity()) return true;
  // Acquire: what the consumer read there, it has read before we write.
  seen_head_ = head_.load(std::memory_order_acquire);
  return end - seen_head_ <= capacity();
}

bool PacketRing::push(uint64_t key, uint8_t kind, Bytes header, Bytes packet) {
  assert(header.size() <= kHeadroom);
  if (packet.size() > kMaxPacket) return false;
  const size_t needed = aligned(sizeof(Note) + kHeadroom + packet.size());
  const size_t before_end = capacity() - (write_ & mask_);
  // The ring's length and every place are multiples of 16, so a note always fits before the end.
  const size_t skipped = needed <= before_end ? 0 : before_end;
  if (!has_room(write_ + skipped + needed)) return false;
  if (skipped > 0) {
    const Note skip{.length = kSkip};
    std::memcpy(at(write_), &skip, sizeof skip);
    write_ += skipped;
  }
  const Note note{key, static_cast<uint32_t>(packet.size()), kind,
                  static_cast<uint8_t>(header.size())};
  std::byte* const place = at(write_);
  std::memcpy(place, &note, sizeof note);
  std::byte* const start = place + sizeof note + kHeadroom;
  std::ranges::copy(header, start - header.size());
  std::ranges::copy(packet, start);
  write_ += needed;
  return true;
}

bool PacketRing::publish() {
  if (write_ == published_) return false;
  published_ = write_;
  tail_.store(write_, std::memory_order_seq_cst);  // "there is more"; releases the contents
  if (!asleep_.load(std::memory_order_seq_cst)) return false;
  // Only the consumer sets it, and only before it sleeps. Until it runs again nobody else clears
  // it, so later batches find it cleared and wake nobody twice.
  return asleep_.exchange(false, std::memory_order_relaxed);
}

std::optional<PacketRing::Item> PacketRing::next() {
  if (read_ == seen_tail_) {
    seen_tail_ = tail_.load(std::memory_order_acquire);
    if (read_ == seen_tail_) return std::nullopt;
  }
  Note note;
  std::memcpy(&note, at(read_), sizeof note);
  if (note.length == kSkip) {
    // Published together with the packet that it made room for.
    read_ += capacity() - (read_ & mask_);
    std::memcpy(&note, at(read_), sizeof note);
  }
  std::byte* const start = at(read_) + sizeof note + kHeadroom;
  read_ += aligned(sizeof note + kHeadroom + note.length);
  return Item{note.key, note.kind, {start - note.header, note.header}, {start, note.length}};
}

void PacketRing::release() {
  head_.store(read_, std::memory_order_release);
}

bool PacketRing::fall_asleep() {
  if (read_ != seen_tail_) return false;
  asleep_.store(true, std::memory_order_seq_cst);  // "I sleep"
  seen_tail_ = tail_.load(std::memory_order_seq_cst);
  if (read_ == seen_tail_) return true;
  // The producer may have seen the flag already: a wake-up too many, which finds us awake.
  asleep_.store(false, std::memory_order_relaxed);
  return false;
}

}  // namespace culvert::server
