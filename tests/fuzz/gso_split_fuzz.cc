// Superpackets against a second implementation: two bytes of MTU (little-endian), ten of virtio
// header, then the packet.
#include <vector>

#include "common/net/gso_split.h"
#include "common/net/unsummed.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/net/offload_packets.h"

using namespace culvert;
using fuzz::require;
using Packet = std::vector<std::byte>;

namespace {

std::vector<Packet> split(net::GsoSplitter& splitter) {
  std::vector<Packet> packets;
  for (MutableBytes one = splitter.next(); !one.empty(); one = splitter.next())
    packets.emplace_back(one.begin(), one.end());
  return packets;
}

// Of every header but extension headers that the second implementation doesn't know.
bool is_known_to_the_other(Bytes packet, const net::VnetHeader& header) {
  const net::testing::Place place = net::testing::transport_of(packet);
  return place.at == header.checksum_start && (place.protocol == 6 || place.protocol == 17);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Bytes input = fuzz::input(data, size);
  if (input.size() < 2 + net::kVnetHeaderSize) return 0;
  const size_t mtu = std::to_integer<size_t>(input[0]) | std::to_integer<size_t>(input[1]) << 8;
  net::VnetHeader header = net::decode_vnet(input.subspan(2)).value();
  const Bytes rest = input.subspan(2 + net::kVnetHeaderSize);
  Packet packet(rest.begin(), rest.end());
  if (check_vnet(header, packet, net::kKernelBounds) != net::VnetVerdict::kOk) return 0;

  const Packet original = packet;
  // The sums may be left to the receiver: then it makes the same packets of it.
  std::vector<Packet> unsummed;
  if (net::may_go_unsummed(header, packet)) {
    net::GsoSplitter leaving(header, packet, mtu, net::Sums::kLeft);
    unsummed = split(leaving);
    for (Packet& one : unsummed)
      require(net::sum_transport(one), "the receiver finds the place of the sum");
    packet = original;
  }
  net::GsoSplitter splitter(header, packet, mtu);
  const size_t count = splitter.count();
  const auto packets = split(splitter);
  require(packets.size() == count, "as many packets as were announced");
  if (count == 0) return 0;
  require(unsummed.empty() || unsummed == packets, "it does not matter who sums");
  for (const Packet& one : packets)
    require(one.size() <= mtu, "no packet is larger than the MTU");
  if (!header.is_superpacket()) {
    require(packets.size() == 1 && packets[0].size() == original.size(), "it stays one packet");
    return 0;
  }
  if (!is_known_to_the_other(original, header)) return 0;
  const size_t segment = packets[0].size() - header.header_length;
  require(packets == net::testing::plain_split(original, segment), "both implementations agree");
  return 0;
}
