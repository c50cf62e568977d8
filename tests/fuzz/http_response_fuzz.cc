// HTTP responses of both kinds, to their end of file. The first byte chooses kind and piece size.
#include <algorithm>
#include <optional>

#include "common/wire/http_exchange.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

namespace {

struct Outcome {
  bool failed = false;
  bool complete = false;
  size_t taken = 0;
  wire::HttpResponse response;
};

Outcome read(wire::HttpResponseReader::Kind kind, Bytes input, size_t step) {
  wire::HttpResponseReader reader(kind, {4096, 4096});
  Outcome outcome;
  while (!reader.complete() && outcome.taken < input.size()) {
    const size_t count = std::min(step, input.size() - outcome.taken);
    const auto result = reader.feed(input.subspan(outcome.taken, count));
    outcome.failed = !result;
    if (!result) return outcome;
    require(*result <= count, "consumed is within the input");
    outcome.taken += *result;
  }
  outcome.failed = !reader.feed_eof();
  outcome.complete = reader.complete();
  require(outcome.complete != outcome.failed, "after the end it is whole or an error");
  if (outcome.complete) outcome.response = reader.take();
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto kind = (data[0] & 1) != 0 ? wire::HttpResponseReader::Kind::kConnect
                                       : wire::HttpResponseReader::Kind::kOrdinary;
  const size_t step = 1 + (data[0] >> 1);
  const Bytes input = fuzz::input(data + 1, size - 1);
  const Outcome whole = read(kind, input, input.size() + 1);
  const Outcome pieces = read(kind, input, step);
  require(whole.failed == pieces.failed && whole.complete == pieces.complete,
          "pieces end like the whole");
  if (!whole.complete) return 0;
  require(whole.taken == pieces.taken && whole.response.body == pieces.response.body &&
              whole.response.headers == pieces.response.headers,
          "pieces read like the whole");
  if (kind == wire::HttpResponseReader::Kind::kConnect)
    require(whole.response.body.empty(), "no body after a CONNECT");
  (void)wire::response_cookie(whole.response, "webvpn");
  return 0;
}
