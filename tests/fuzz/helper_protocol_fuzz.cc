// The talk between a program and its privileged helper, both directions: a stream of frames, and
// what is in them. What is accepted has one text.
#include <algorithm>

#include "common/helper/protocol.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

namespace {

void read_text(std::string_view text) {
  using namespace culvert::helper;
  if (const auto begin = parse_begin(text)) require(to_text(*begin) == text, "one text");
  if (const auto socket = parse_socket_request(text)) require(to_text(*socket) == text, "one text");
  if (const auto requests = parse_requests(text)) {
    require(to_text(*requests) == text, "one text");
    const net::SystemScope scope{net::SystemScope::Role::kClient, "culvert0", 700, 799};
    for (const net::SystemRequest& request : *requests)
      (void)net::permits(scope, request);
  }
  if (const auto answers = parse_answers(text)) {
    const auto again = parse_answers(to_text(*answers));
    require(again && again->size() == answers->size(), "answers survive");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Bytes all = fuzz::input(data, size);
  read_text(as_text(all));
  helper::FrameBuffer buffer;
  std::string written;
  for (Bytes rest = all; !rest.empty();) {
    const Bytes part = rest.first(std::min<size_t>(rest.size(), 7));
    rest = rest.subspan(part.size());
    buffer.feed(part);
    while (true) {
      auto frame = buffer.next();
      if (!frame) return 0;
      if (!*frame) break;
      written += write_frame(**frame);
      read_text((*frame)->text);
    }
  }
  require(as_text(all).starts_with(written), "frames are written as they came");
  return 0;
}
