// PacketRing: carries packets from one data thread to another, in batches, without lock, allocation
// or system call. One producer, one consumer, nobody else.
//
// A packet is copied once, into the ring; the consumer works on it in place and gives the space
// back when it is done with the batch. A packet is never cut in two by the end of the ring: where
// it does not fit before the end, the rest is skipped.
//
//   producer                                consumer
//     push() ... push()   not yet visible     next() ... next()   spans into the ring
//     publish()           visible; wake?      release()           the space is free again
//                                             fall_asleep()       or go on: more has come
//
// One wake-up a batch, and none while the consumer is awake. That is a question between two flags,
// "there is more" (tail_) and "I sleep" (asleep_): the producer writes the first, then reads the
// second; the consumer writes the second, then reads the first. Were a read to overtake the write
// before it, both could see the old value: the producer wakes nobody and the consumer sleeps over a
// full ring. So these four accesses, and no others, are sequentially consistent: in their single
// order one write is first, and the read of the other side, which comes after that side's own
// write, sees it. Contents are ordered by release and acquire on tail_, free space by the same on
// head_.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "common/base/bytes.h"

namespace culvert::server {

class PacketRing {
 public:
  // Writable bytes before each packet that next() gives out. A header is kept in their last bytes.
  static constexpr size_t kHeadroom = 64;
  static constexpr size_t kMaxPacket = 65535;
  // What a packet may cost beside its own bytes: note, headroom, alignment.
  static constexpr size_t kOverhead = 96;
  // From here on a packet of kMaxPacket fits into an empty ring, wherever its ends are.
  static constexpr size_t kMinCapacityForAll = size_t{1} << 18;

  struct Item {
    uint64_t key = 0;     // whose packet it is: the session's number, never a pointer
    uint8_t kind = 0;     // what is to be done with it: between the two threads
    MutableBytes header;  // directly before the packet: what was said with it, or nothing
    MutableBytes packet;
  };

  // `capacity` in bytes, a power of two, at least 256. Nothing is written to the memory here, so
  // that a ring which is never used costs address space only.
  explicit PacketRing(size_t capacity);
  PacketRing(const PacketRing&) = delete;
  PacketRing& operator=(const PacketRing&) = delete;

  // ---- The producer's side.

  // Copies the packet in, visible with the next publish(). False if there is no room: the caller
  // counts a drop; later, smaller packets may still find room.
  // REQUIRES: header.size() <= kHeadroom.
  [[nodiscard]] bool push(uint64_t key, uint8_t kind, Bytes header, Bytes packet);
  // Once a batch. True if the consumer sleeps and the caller has to wake it; said once a sleep.
  [[nodiscard]] bool publish();

  // ---- The consumer's side.

  // The next packet, or nothing for the moment. Valid, and writable with kHeadroom bytes before it,
  // until release().
  [[nodiscard]] std::optional<Item> next();
  // Gives back the space of all packets taken so far.
  void release();
  // True: nothing is left and the next publish() asks for a wake-up. False: more has come, or was
  // left: go on. A consumer that stops early, at the end of its turn, comes back by itself and
  // need not call this.
  [[nodiscard]] bool fall_asleep();

  [[nodiscard]] size_t capacity() const { return mask_ + 1; }

 private:
  struct Note;  // what stands before each packet in the ring
  static constexpr size_t kCacheLine = 64;

  // A place is counted in bytes since the beginning and never wraps; `place & mask_` is where it
  // is in memory.
  [[nodiscard]] std::byte* at(uint64_t place) { return memory_.get() + (place & mask_); }
  [[nodiscard]] bool has_room(uint64_t end);

  // Written by nobody after construction.
  size_t mask_;
  std::unique_ptr<std::byte[]> memory_;

  // The producer's alone.
  alignas(kCacheLine) uint64_t write_ = 0;  // behind the last packet pushed
  uint64_t published_ = 0;                  // tail_, without asking the other core for it
  uint64_t seen_head_ = 0;                  // head_ when it was last looked up

  // The consumer's alone.
  alignas(kCacheLine) uint64_t read_ = 0;  // behind the last packet taken
  uint64_t seen_tail_ = 0;                 // tail_ when it was last looked up

  alignas(kCacheLine) std::atomic<uint64_t> tail_{0};  // written by the producer
  alignas(kCacheLine) std::atomic<uint64_t> head_{0};  // written by the consumer
  // True from the beginning: a consumer that has not looked yet wants to be called.
  alignas(kCacheLine) std::atomic<bool> asleep_{true};
};

}  // namespace culvert::server
