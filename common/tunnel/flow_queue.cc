#include "common/tunnel/flow_queue.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace culvert::tunnel {

FlowQueue::FlowQueue(PacketPool& pool, size_t headroom, const Limits& limits)
    : pool_(pool), headroom_(headroom), limits_(limits) {}

FlowQueue::~FlowQueue() {
  if (lent_ != PacketPool::kNone) pool_.give_back(lent_);
  for (Bucket& bucket : buckets_)
    while (bucket.head != PacketPool::kNone)
      pool_.give_back(take_head(bucket));
}

// Of a shared pool, each of n greedy queues so gets an equal part, and one part stays free for
// whoever comes new.
bool FlowQueue::is_full(size_t more) const {
  const size_t kind = pool_.kind_for(headroom_ + more);
  return items_ >= limits_.max_items || bytes_ + more > limits_.max_bytes ||
         held_[kind] >= pool_.left(kind);
}

void FlowQueue::push(const Item& item, uint32_t flow_hash, TimePoint now) {
  const Bytes bytes = item.bytes;
  while (items_ > 0 && is_full(bytes.size()))
    drop_from_fattest();
  const PacketPool::Index index = pool_.take(headroom_ + bytes.size());
  if (index == PacketPool::kNone) {
    drops_.full += item.packets;
    return;
  }
  std::copy(bytes.begin(), bytes.end(), pool_[index].subspan(headroom_).begin());
  pool_.note(index) = {now, static_cast<uint32_t>(bytes.size()), PacketPool::kNone, item.packets,
                       item.tag};
  const size_t number = flow_hash % kBuckets;
  Bucket& bucket = buckets_[number];
  if (bucket.head == PacketPool::kNone) {
    bucket.head = index;
  } else {
    pool_.note(bucket.tail).next = index;
  }
  bucket.tail = index;
  bucket.bytes += bytes.size();
  bytes_ += bytes.size();
  ++items_;
  ++held_[PacketPool::kind_of(index)];
  if (bucket.listed) return;
  bucket.deficit = kQuantum;
  list(number);
}

void FlowQueue::list(size_t number) {
  buckets_[number].listed = true;
  turn_[(turn_head_ + turn_count_++) % kBuckets] = static_cast<uint8_t>(number);
}

PacketPool::Index FlowQueue::take_head(Bucket& bucket) {
  const PacketPool::Index index = bucket.head;
  const PacketPool::Note& note = pool_.note(index);
  bucket.head = note.next;
  if (bucket.head == PacketPool::kNone) bucket.tail = PacketPool::kNone;
  bucket.bytes -= note.length;
  bytes_ -= note.length;
  --items_;
  --held_[PacketPool::kind_of(index)];
  return index;
}

void FlowQueue::drop_head(Bucket& bucket, uint64_t& counter) {
  const PacketPool::Index index = take_head(bucket);
  counter += pool_.note(index).packets;
  pool_.give_back(index);
}

void FlowQueue::drop_from_fattest() {
  const auto fattest =
      std::max_element(buckets_.begin(), buckets_.end(),
                       [](const Bucket& a, const Bucket& b) { return a.bytes < b.bytes; });
  drop_head(*fattest, drops_.full);
}

// RFC 8289 section 5.4, folded into one question per packet: a standing delay above the target for
// one interval starts dropping, and the drops come faster with the square root of their number.
bool FlowQueue::should_drop(Bucket& bucket, const PacketPool::Note& note, TimePoint now) {
  const Duration sojourn = now - note.arrived;
  if (sojourn > limits_.max_age) return true;
  // Superpackets make a queue of many bytes that one drop would empty.
  const bool last_one = bucket.head == bucket.tail || bucket.bytes <= static_cast<size_t>(kQuantum);
  if (sojourn < limits_.target || last_one) {
    bucket.first_above = {};
    bucket.dropping = false;
    return false;
  }
  if (bucket.first_above == TimePoint{}) {
    bucket.first_above = now + limits_.interval;
    return false;
  }
  if (!bucket.dropping && now < bucket.first_above) return false;
  if (bucket.dropping && now < bucket.drop_next) return false;
  // A bucket that was dropping a moment ago goes on near the rate that controlled it last time.
  const bool recently = now - bucket.drop_next < 16 * limits_.interval;
  if (!bucket.dropping) bucket.count = recently && bucket.count > 2 ? bucket.count - 2 : 0;
  bucket.dropping = true;
  ++bucket.count;
  bucket.drop_next = now + std::chrono::duration_cast<Duration>(
                               limits_.interval / std::sqrt(static_cast<double>(bucket.count)));
  return true;
}

FlowQueue::Popped FlowQueue::pop(TimePoint now) {
  if (lent_ != PacketPool::kNone) {
    pool_.give_back(lent_);
    lent_ = PacketPool::kNone;
  }
  while (turn_count_ > 0) {
    const uint8_t number = turn_[turn_head_];
    Bucket& bucket = buckets_[number];
    while (bucket.head != PacketPool::kNone && should_drop(bucket, pool_.note(bucket.head), now)) {
      drop_head(bucket, drops_.delay);
    }
    const bool spent = bucket.deficit <= 0;
    if (bucket.head != PacketPool::kNone && !spent) {
      lent_ = take_head(bucket);
      const PacketPool::Note& note = pool_.note(lent_);
      bucket.deficit -= static_cast<int32_t>(note.length);
      return {pool_[lent_].subspan(headroom_, note.length), note.packets, note.tag};
    }
    turn_head_ = (turn_head_ + 1) % kBuckets;
    --turn_count_;
    bucket.listed = false;
    if (bucket.head == PacketPool::kNone) continue;
    bucket.deficit += kQuantum;  // what was sent above the last one is paid back
    list(number);
  }
  return {};
}

}  // namespace culvert::tunnel
