// CSTP frames from a stream, and what a DISCONNECT says.
#include <algorithm>
#include <array>

#include "common/wire/cstp.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

namespace {

void check_frame(Bytes buffer, const wire::CstpParse& parsed, bool superpackets) {
  require(parsed.consumed == wire::kCstpHeaderSize + parsed.payload.size(),
          "consumed is the frame");
  require(parsed.consumed <= buffer.size(), "consumed is within the buffer");
  std::array<std::byte, wire::kCstpHeaderSize> header{};
  wire::write_cstp_header(header, static_cast<wire::CstpType>(parsed.type), parsed.payload.size());
  require(std::equal(header.begin(), header.end(), buffer.begin()), "the header is written alike");
  const auto cut = wire::parse_cstp(buffer.first(parsed.consumed - 1), superpackets);
  require(cut.verdict == wire::CstpParse::Verdict::kNeedMore, "a cut frame wants more");
}

void read_stream(Bytes rest, bool superpackets) {
  for (;;) {
    const auto parsed = wire::parse_cstp(rest, superpackets);
    if (parsed.verdict != wire::CstpParse::Verdict::kFrame) {
      require(parsed.consumed == 0, "nothing is consumed without a frame");
      return;
    }
    check_frame(rest, parsed, superpackets);
    rest = rest.subspan(parsed.consumed);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Bytes input = fuzz::input(data, size);
  const auto reason = wire::parse_disconnect(input);
  const auto again = wire::parse_disconnect(wire::write_disconnect(reason));
  require(again.code == reason.code && again.text == reason.text, "a reason survives writing");
  read_stream(input, false);
  read_stream(input, true);
  return 0;
}
