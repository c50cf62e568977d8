// IP headers as a peer or the TUN may deliver them: the view stays inside the packet.
#include <cstdlib>

#include "common/net/ip_packet.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const culvert::Bytes packet = std::as_bytes(std::span(data, size));
  const uint32_t hash = culvert::net::flow_hash(packet, 7);
  const auto view = culvert::net::parse_ip(packet);
  if (culvert::net::whole_ip_family(packet).has_value() != view.has_value()) std::abort();
  if (!view) return 0;
  if (view->total_length > size || view->header_length > view->total_length) std::abort();
  if (view->header_length + view->payload.size() != view->total_length) std::abort();
  const auto family = culvert::net::family_of(packet);
  if (family != view->family) std::abort();
  if (culvert::net::source_of(packet, *family) != view->source) std::abort();
  // What lies behind the packet is not part of its flow.
  if (culvert::net::flow_hash(packet.first(view->total_length), 7) != hash) std::abort();
  return 0;
}
