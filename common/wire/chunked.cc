#include "common/wire/chunked.h"

#include <algorithm>
#include <charconv>

#include "common/base/text.h"

namespace culvert::wire {
namespace {

constexpr size_t kMaxSizeLine = 256;
constexpr size_t kMaxTrailer = 4096;

}  // namespace

ChunkedDecoder::Verdict ChunkedDecoder::decode(Bytes& in, std::string& body) {
  while (!in.empty()) {
    Verdict verdict = Verdict::kNeedMore;
    if (state_ == State::kData) {
      verdict = take_data(in, body);
    } else {
      const char c = std::to_integer<char>(in.front());
      in = in.subspan(1);
      line_ += c;
      const size_t limit = state_ == State::kTrailer ? kMaxTrailer - trailer_bytes_ : kMaxSizeLine;
      if (line_.size() > limit) return Verdict::kTooLong;
      if (c == '\n') verdict = end_line();
    }
    if (verdict != Verdict::kNeedMore) return verdict;
  }
  return Verdict::kNeedMore;
}

ChunkedDecoder::Verdict ChunkedDecoder::take_data(Bytes& in, std::string& body) {
  const size_t count = std::min(in.size(), chunk_left_);
  body += as_text(in.first(count));
  in = in.subspan(count);
  chunk_left_ -= count;
  if (chunk_left_ == 0) state_ = State::kDataEnd;
  return Verdict::kNeedMore;
}

// A line, its end included, is in line_.
ChunkedDecoder::Verdict ChunkedDecoder::end_line() {
  if (!line_.ends_with("\r\n")) return Verdict::kBad;
  line_.resize(line_.size() - 2);
  if (!has_no_control_characters(line_)) return Verdict::kBad;
  Verdict verdict = Verdict::kNeedMore;
  if (state_ == State::kSizeLine) {
    verdict = start_chunk();
  } else if (state_ == State::kDataEnd) {
    if (!line_.empty()) verdict = Verdict::kBad;
    state_ = State::kSizeLine;
  } else {
    trailer_bytes_ += line_.size() + 2;
    if (line_.empty()) verdict = Verdict::kDone;
  }
  line_.clear();
  return verdict;
}

ChunkedDecoder::Verdict ChunkedDecoder::start_chunk() {
  const char* const end = line_.data() + line_.size();
  uint64_t size = 0;
  const auto parsed = std::from_chars(line_.data(), end, size, 16);
  if (parsed.ec == std::errc::result_out_of_range) return Verdict::kTooLong;
  if (parsed.ec != std::errc{}) return Verdict::kBad;
  if (parsed.ptr != end && *parsed.ptr != ';') return Verdict::kBad;
  if (size > max_body_ - total_) return Verdict::kTooLong;
  total_ += size;
  chunk_left_ = size;
  state_ = size == 0 ? State::kTrailer : State::kData;
  return Verdict::kNeedMore;
}

}  // namespace culvert::wire
