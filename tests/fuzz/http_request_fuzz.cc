// HTTP requests. Byte by byte and all at once must read the same, and what was read can be sent.
#include <algorithm>
#include <optional>

#include "common/wire/http_exchange.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

namespace {

constexpr wire::HttpLimits kLimits{4096, 4096};

// Feeds `input` in pieces of `step` bytes; how many bytes were taken, or nothing after an error.
std::optional<size_t> feed(wire::HttpRequestReader& reader, Bytes input, size_t step) {
  size_t taken = 0;
  while (!reader.complete() && taken < input.size()) {
    const auto result = reader.feed(input.subspan(taken, std::min(step, input.size() - taken)));
    if (!result) return std::nullopt;
    taken += *result;
  }
  return taken;
}

void check_sendable(const wire::HttpRequest& request) {
  wire::HttpRequest copy = request;
  copy.headers.clear();
  for (const auto& header : request.headers)
    if (!wire::iequals(header.name, "Content-Length") &&
        !wire::iequals(header.name, "Transfer-Encoding"))
      copy.headers.push_back(header);
  const auto text = wire::serialize(copy);
  if (!text) return;  // control characters that are harmless to read
  wire::HttpRequestReader reader({65536, 65536});
  const auto taken = reader.feed(as_bytes(*text));
  require(taken && *taken == text->size() && reader.complete(), "what is written can be read");
  const auto again = reader.take();
  require(again.method == request.method && again.target == request.target &&
              again.body == request.body,
          "a request survives writing");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Bytes input = fuzz::input(data, size);
  wire::HttpRequestReader whole(kLimits);
  wire::HttpRequestReader pieces(kLimits);
  const auto taken = feed(whole, input, input.size() + 1);
  const auto taken_in_pieces = feed(pieces, input, 1);
  require(taken == taken_in_pieces, "pieces read like the whole");
  require(whole.complete() == pieces.complete(), "pieces end like the whole");
  if (!taken || !whole.complete()) return 0;
  const auto request = whole.take();
  const auto other = pieces.take();
  require(request.headers == other.headers && request.body == other.body, "same content");
  (void)wire::request_cookie(request, "webvpn");
  check_sendable(request);
  return 0;
}
