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
