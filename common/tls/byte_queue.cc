#include "common/tls/byte_queue.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace culvert::tls {
namespace {

constexpr size_t kFirstCapacity = 4096;

}  // namespace

void ByteQueue::append(Bytes bytes) {
  std::memcpy(room(bytes.size()).data(), bytes.data(), bytes.size());
  added(bytes.size());
}

MutableBytes ByteQueue::room(size_t size) {
  if (capacity_ - tail_ < size) make_room(size);
  return {memory_.get() + tail_, size};
}

void ByteQueue::consume(size_t size) {
  assert(size <= tail_ - head_);
  head_ += size;
  if (head_ == tail_) head_ = tail_ = 0;
}

// Moves the backlog to the front if that gives enough room and is cheap (less than half of the
// memory, so that every byte is moved at most once on average), else to a larger memory.
void ByteQueue::make_room(size_t size) {
  const size_t backlog = tail_ - head_;
  if (backlog + size <= capacity_ && backlog <= capacity_ / 2) {
    std::memmove(memory_.get(), memory_.get() + head_, backlog);
  } else {
    const size_t capacity = std::max(kFirstCapacity, (backlog + size) * 2);
    std::unique_ptr<std::byte[]> larger(new std::byte[capacity]);
    if (backlog != 0) std::memcpy(larger.get(), memory_.get() + head_, backlog);
    memory_ = std::move(larger);
    capacity_ = capacity;
  }
  head_ = 0;
  tail_ = backlog;
}

}  // namespace culvert::tls
