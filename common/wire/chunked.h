// The chunked transfer coding (RFC 9112 section 7.1), decoded from a stream. Pure. Strict about
// line ends and sizes; chunk extensions and trailer fields are read over and dropped.
//
// Why not Beast's: its decoder takes trailer fields for headers, and an assertion in it can be
// reached from the network when a final chunk arrives in pieces (Boost 1.74, parse_chunk_header).
#pragma once

#include <cstddef>
#include <string>

#include "common/base/bytes.h"

namespace culvert::wire {

class ChunkedDecoder {
 public:
  enum class Verdict { kNeedMore, kDone, kBad, kTooLong };

  // `max_body` bounds the decoded body in bytes.
  explicit ChunkedDecoder(size_t max_body) : max_body_(max_body) {}

  // Takes bytes from the front of `in`, which shrinks by what was taken, and appends data to
  // `body`. After any verdict but kNeedMore the decoder is finished.
  Verdict decode(Bytes& in, std::string& body);

 private:
  enum class State { kSizeLine, kData, kDataEnd, kTrailer };

  Verdict take_data(Bytes& in, std::string& body);
  Verdict end_line();
  Verdict start_chunk();

  size_t max_body_;
  State state_ = State::kSizeLine;
  std::string line_;
  size_t trailer_bytes_ = 0;
  size_t chunk_left_ = 0;
  size_t total_ = 0;
};

}  // namespace culvert::wire
