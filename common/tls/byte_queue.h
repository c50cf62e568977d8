// ByteQueue: bytes in at the end, out at the front, always contiguous. Grows to the largest backlog
// it has seen and then allocates no more. For the .cc files of this folder only.
#pragma once

#include <memory>

#include "common/base/bytes.h"

namespace culvert::tls {

class ByteQueue {
 public:
  // May throw std::bad_alloc.
  void append(Bytes bytes);
  // Room for `size` bytes behind the last one, to be filled and then, as far as it was, to be
  // added. Valid until the next call that is not const. May throw std::bad_alloc.
  [[nodiscard]] MutableBytes room(size_t size);
  // REQUIRES: `size` is at most that of the last room().
  void added(size_t size) { tail_ += size; }
  [[nodiscard]] Bytes bytes() const { return {memory_.get() + head_, tail_ - head_}; }
  // REQUIRES: size <= bytes().size().
  void consume(size_t size);

 private:
  void make_room(size_t size);

  std::unique_ptr<std::byte[]> memory_;
  size_t capacity_ = 0;
  size_t head_ = 0;  // 0 when the queue is empty
  size_t tail_ = 0;
};

}  // namespace culvert::tls
