// The answer to CONNECT as the client reads it: bounded values, and a fixed point after writing and
// reading.
#include "common/wire/connect_headers.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/header_lines.h"

using namespace culvert;
using fuzz::require;

namespace {

wire::ConnectOffer everything() {
  wire::ConnectOffer offer;
  offer.full_ipv6 = true;
  offer.psk = wire::PskPosition::kOnly;
  offer.features = {.superpacket = true, .packed = true, .cid = true, .roam = true, .rekey = true};
  return offer;
}

void check_bounds(const wire::TunnelParams& params) {
  require(params.ipv4 || params.ipv6, "there is an address");
  require(params.mtu.value() >= wire::kMinMtu && params.mtu.value() <= 16376, "the MTU is bounded");
  const std::chrono::seconds most(10LL * 365 * 86400);
  for (const auto timer : {params.dpd, params.keepalive, params.rekey_time})
    require(timer.count() >= 0 && timer <= most, "timers are bounded");
  require(params.dns.size() <= 16 && params.ignored.size() <= 16, "lists are bounded");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  wire::HttpResponse response;
  response.headers = fuzz::header_lines(as_text(fuzz::input(data, size)));
  const auto params = wire::parse_connect_response(response);
  if (!params) return 0;
  check_bounds(*params);
  const auto offer = everything();
  wire::HttpResponse written{200, "CONNECTED", wire::write_connect_response(*params, offer),
                             {},  true,        true};
  const auto text = wire::serialize(written);
  require(text.has_value(), "what was read can be sent");
  const auto again = wire::parse_connect_response(written);
  require(again.has_value() && again->ipv4 == params->ipv4 && again->ipv6 == params->ipv6 &&
              again->mtu == params->mtu && again->dpd == params->dpd &&
              again->features == params->features && again->attach == params->attach,
          "parameters survive writing");
  return 0;
}
