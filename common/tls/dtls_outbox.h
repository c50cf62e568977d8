// DtlsOutbox: handshake datagrams that wait to be sent, each on its own. Bounded: what does not fit
// is dropped, as a network would. For the .cc files of this folder only.
#pragma once

#include <vector>

#include "common/base/bytes.h"

namespace culvert::tls {

class DtlsOutbox {
 public:
  static constexpr size_t kMaxBytes = 32768;

  // May throw std::bad_alloc.
  void push(Bytes datagram);
  // The oldest datagram; empty if there is none. Valid until the next push() or pop().
  [[nodiscard]] Bytes front() const;
  void pop();

 private:
  std::vector<std::byte> bytes_;
  std::vector<size_t> ends_;  // where each datagram ends in bytes_
  size_t first_ = 0;          // into ends_
};

}  // namespace culvert::tls
