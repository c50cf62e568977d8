#include "common/net/unsummed.h"

#include "common/net/checksum.h"
#include "common/net/ip_packet.h"

namespace culvert::net {
namespace {

constexpr size_t kTcpChecksum = 16;
constexpr size_t kUdpChecksum = 6;
constexpr size_t kUdpLength = 4;
constexpr size_t kTcpHeaderSize = 20;
constexpr size_t kUdpHeaderSize = 8;

size_t plain_header_size(Family family) {
  return family == Family::kV4 ? kIpv4HeaderSize : kIpv6HeaderSize;
}

// Where the checksum is in the transport segment; 0 if it is none that goes without.
size_t checksum_place(const IpView& view, Bytes packet) {
  if (view.total_length != packet.size() || view.fragment ||
      view.header_length != plain_header_size(view.family)) {
    return 0;
  }
  const Bytes segment = view.payload;
  if (view.protocol == kProtocolTcp) return segment.size() < kTcpHeaderSize ? 0 : kTcpChecksum;
  const bool udp = view.protocol == kProtocolUdp && segment.size() >= kUdpHeaderSize &&
                   load_be16(segment.subspan(kUdpLength)) == segment.size();
  return udp ? kUdpChecksum : 0;
}

}  // namespace

bool may_go_unsummed(const VnetHeader& header, Bytes packet) {
  if (!header.needs_checksum()) return false;
  const auto view = parse_ip(packet);
  if (!view || header.checksum_start != plain_header_size(view->family)) return false;
  // The lengths of a superpacket are checked, and those in a UDP header will be others.
  if (header.is_superpacket()) return view->header_length == header.checksum_start;
  const size_t place = checksum_place(*view, packet);
  return place != 0 && header.checksum_offset == place;
}

bool sum_transport(MutableBytes packet) {
  const auto view = parse_ip(packet);
  if (!view) return false;
  const size_t place = checksum_place(*view, packet);
  if (place == 0) return false;
  const MutableBytes segment = packet.subspan(view->header_length);
  store_be16(segment.subspan(place), 0);
  ChecksumSum sum = pseudo_header_sum(view->source, view->destination, view->protocol,
                                      static_cast<uint32_t>(segment.size()));
  sum.add(segment);
  store_be16(segment.subspan(place), sum.checksum_or_ones());
  return true;
}

}  // namespace culvert::net
