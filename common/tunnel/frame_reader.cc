#include "common/tunnel/frame_reader.h"

#include <cassert>
#include <cstring>

namespace culvert::tunnel {

MutableBytes FrameReader::room() {
  std::byte* front = batch_.free_space().data() - wire::kCstpHeaderSize;
  if (!unread_.empty()) {
    if (unread_.data() == parked_.get()) front = parked_.get();
    // From behind a frame of the same record: rare, and less than a record.
    if (unread_.data() != front) std::memmove(front, unread_.data(), unread_.size());
  }
  unread_ = {front, unread_.size()};
  assert(unread_.size() < kMaxFrame);  // or it would be a frame
  return {front + unread_.size(), kMaxFrame - unread_.size()};
}

void FrameReader::added(size_t size) {
  unread_ = {unread_.data(), unread_.size() + size};
}

FrameReader::Frame FrameReader::next() {
  const wire::CstpParse parsed = wire::parse_cstp(unread_, superpackets_);
  if (parsed.verdict != Verdict::kFrame) return {parsed.verdict, 0, {}};
  const Frame frame{parsed.verdict, parsed.type,
                    unread_.subspan(wire::kCstpHeaderSize, parsed.payload.size())};
  unread_ = unread_.subspan(parsed.consumed);
  return frame;
}

void FrameReader::park() {
  if (unread_.empty() || unread_.data() == parked_.get()) return;
  if (parked_ == nullptr) parked_ = std::make_unique_for_overwrite<std::byte[]>(kMaxFrame);
  std::memmove(parked_.get(), unread_.data(), unread_.size());
  unread_ = {parked_.get(), unread_.size()};
}

void FrameReader::shrink() {
  if (unread_.empty()) parked_.reset();
}

}  // namespace culvert::tunnel
