// CONNECT as the server reads it: bounded values, and a fixed point after writing and reading.
#include "common/wire/connect_headers.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/header_lines.h"

using namespace culvert;
using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  wire::HttpRequest request{"CONNECT", std::string(wire::kConnectTarget), {}, {}, true};
  request.headers = fuzz::header_lines(as_text(fuzz::input(data, size)));
  const auto offer = wire::parse_connect_request(request);
  if (!offer) return 0;
  require(allows(offer->features, offer->attach), "what is asked for was offered");
  require(offer->want_ipv4 || offer->want_ipv6, "at least one family is wanted");
  require(
      offer->previous.size() <= 2 && offer->hostname.size() <= 63 && offer->cookie.size() <= 512,
      "texts are bounded");
  for (const auto mtu : {offer->mtu, offer->base_mtu})
    require(!mtu || *mtu >= wire::kMinMtu, "no tiny MTU");
  const auto again = wire::parse_connect_request(wire::write_connect_request(*offer, "h"));
  require(again.has_value(), "what is written can be read");
  require(again->cookie == offer->cookie && again->hostname == offer->hostname &&
              again->mtu == offer->mtu && again->base_mtu == offer->base_mtu &&
              again->want_ipv4 == offer->want_ipv4 && again->want_ipv6 == offer->want_ipv6 &&
              again->full_ipv6 == offer->full_ipv6 && again->previous == offer->previous &&
              again->features == offer->features && again->attach == offer->attach,
          "an offer survives writing");
  return 0;
}
