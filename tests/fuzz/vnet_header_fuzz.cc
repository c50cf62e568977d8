// Virtio headers as a kernel or a peer may send them: ten bytes, then the packet.
#include <vector>

#include "common/net/vnet_header.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

namespace {

void check(net::VnetHeader header, std::vector<std::byte> packet, const net::VnetBounds& bounds) {
  if (check_vnet(header, packet, bounds) != net::VnetVerdict::kOk) return;
  require(packet.size() <= bounds.max_packet || header.is_superpacket(), "packets are bounded");
  if (header.needs_checksum()) {
    const size_t field = size_t{header.checksum_start} + header.checksum_offset;
    require(field + 2 <= packet.size(), "the checksum is in the packet");
    require(field + 2 <= header.header_length, "and in its headers");
  }
  if (header.is_superpacket()) {
    require(header.needs_checksum(), "a superpacket's checksum is to be computed");
    require(header.gso_size > 0 && header.header_length < packet.size(), "there are segments");
    require(size_t{header.header_length} + header.gso_size <= bounds.max_packet, "of a size");
    require(segments_of(header, packet.size()) > 1, "more than one");
    require(segments_of(header, packet.size()) <= bounds.max_segments, "but not too many");
  }
  const net::VnetHeader corrected = header;
  require(check_vnet(header, packet, bounds) == net::VnetVerdict::kOk, "correct is correct");
  require(header == corrected, "and stays as it is");
  std::vector<std::byte> bytes(net::kVnetHeaderSize);
  encode_vnet(bytes, header);
  require(net::decode_vnet(bytes) == header, "written and read alike");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Bytes input = fuzz::input(data, size);
  const auto header = net::decode_vnet(input);
  if (!header) return 0;
  const Bytes rest = input.subspan(net::kVnetHeaderSize);
  const std::vector<std::byte> packet(rest.begin(), rest.end());
  check(*header, packet, net::kKernelBounds);
  check(*header, packet, {.origin = net::VnetOrigin::kPeer, .max_packet = 1400});
  return 0;
}
