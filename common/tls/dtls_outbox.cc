#include "common/tls/dtls_outbox.h"

namespace culvert::tls {

void DtlsOutbox::push(Bytes datagram) {
  if (datagram.empty() || bytes_.size() + datagram.size() > kMaxBytes) return;
  bytes_.insert(bytes_.end(), datagram.begin(), datagram.end());
  ends_.push_back(bytes_.size());
}

Bytes DtlsOutbox::front() const {
  if (first_ == ends_.size()) return {};
  const size_t begin = first_ == 0 ? 0 : ends_[first_ - 1];
  return Bytes(bytes_).subspan(begin, ends_[first_] - begin);
}

void DtlsOutbox::pop() {
  if (first_ == ends_.size() || ++first_ < ends_.size()) return;
  bytes_.clear();
  ends_.clear();
  first_ = 0;
}

}  // namespace culvert::tls
