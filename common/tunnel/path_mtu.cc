#include "common/tunnel/path_mtu.h"

#include <algorithm>

namespace culvert::tunnel {

MtuPlan plan_mtu(const MtuInput& input) {
  const int overhead = ip_header_size(input.outer) + kUdpHeaderSize +
                       (input.dtls ? kDtlsRecordOverhead + kPacketTypeByte : 0) +
                       (input.dtls && input.connection_id ? kConnectionIdOverhead : 0);
  int base = input.link_mtu;
  if (input.peer_base_mtu) {
    base = std::min<int>(base, *input.peer_base_mtu);
  } else if (input.peer_mtu) {
    base = std::min<int>(base, *input.peer_mtu + overhead);
  }
  base = std::max<int>(base, kMinIpv4Mtu);
  const int floor = input.inner_ipv6 ? kMinIpv6Mtu : kMinIpv4Mtu;
  const int tunnel = std::max(base - overhead, floor);
  return {static_cast<uint16_t>(base), Mtu(static_cast<uint16_t>(tunnel))};
}

UdpPayloadBounds udp_payload_bounds(uint16_t base_mtu, Family outer) {
  const int headers = ip_header_size(outer) + kUdpHeaderSize;
  const int ceiling = std::max<int>(base_mtu, kMinIpv4Mtu) - headers;
  const int floor = std::min(ceiling, kMinIpv6Mtu - ip_header_size(Family::kV6) - kUdpHeaderSize);
  return {static_cast<uint16_t>(floor), static_cast<uint16_t>(ceiling)};
}

}  // namespace culvert::tunnel
