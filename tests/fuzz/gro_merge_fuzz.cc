// Batches of packets: a byte of options (one of them: every other packet comes without checksum),
// then packets, each behind its length (two bytes,
// little-endian). What is merged must stand for the packets that went in, flow by flow.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "common/net/gro_merge.h"
#include "common/net/ip_packet.h"
#include "common/net/packet_batch.h"
#include "common/net/unsummed.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/net/offload_packets.h"

using namespace culvert;
using fuzz::require;
using Packet = std::vector<std::byte>;

namespace {

constexpr size_t kMaxPackets = 64;
constexpr unsigned kTcp = 1, kUdp = 2, kRepair = 4, kUnsummed = 8;

// Mutations rarely hit a checksum: with this they get past it.
Packet repaired(const Packet& packet) {
  const auto view = net::parse_ip(packet);
  if (!view || view->total_length != packet.size()) return packet;
  const bool tcp = view->protocol == net::kProtocolTcp && view->payload.size() >= 20;
  const bool udp = view->protocol == net::kProtocolUdp && view->payload.size() >= 8;
  if (!tcp && !udp) return packet;
  const net::testing::Place place = net::testing::transport_of(packet);
  return place.at == view->header_length ? net::testing::seal(packet) : packet;
}

std::vector<Packet> packets_of(Bytes input, bool repair) {
  std::vector<Packet> packets;
  while (input.size() >= 2 && packets.size() < kMaxPackets) {
    const size_t wanted = std::to_integer<size_t>(input[0]) | std::to_integer<size_t>(input[1])
                                                                  << 8;
    const size_t length = std::min(wanted, input.size() - 2);
    const Bytes bytes = input.subspan(2, length);
    const Packet packet(bytes.begin(), bytes.end());
    packets.push_back(repair ? repaired(packet) : packet);
    input = input.subspan(2 + length);
  }
  return packets;
}

// Version, addresses, protocol, ports. What is no IP packet shares one name.
std::string flow_of(const Packet& packet) {
  const auto view = net::parse_ip(packet);
  if (!view) return {};
  const Bytes ports = view->payload.first(std::min<size_t>(view->payload.size(), 4));
  return view->source.to_string() + view->destination.to_string() + std::to_string(view->protocol) +
         std::string(as_text(ports));
}

// An identification beside DF means nothing and need not survive.
Packet without_id(Packet packet) {
  if (packet.size() >= 20 && net::testing::is_v4(packet) &&
      (std::to_integer<unsigned>(packet[6]) & 0x40) != 0) {
    packet[4] = packet[5] = packet[10] = packet[11] = std::byte{0};
  }
  return packet;
}

using Flows = std::map<std::string, std::vector<Packet>>;

void expand(const net::TunWrite& write, Flows& flows) {
  Packet all;
  for (const iovec& part : write.parts)
    net::testing::append(all, {static_cast<const std::byte*>(part.iov_base), part.iov_len});
  net::VnetHeader header = net::decode_vnet(all).value();
  Packet packet(all.begin() + net::kVnetHeaderSize, all.end());
  if (!header.is_superpacket()) {
    require(write.packets == 1, "alone means one");
    if (header.needs_checksum()) {
      const net::VnetHeader written = header;
      require(
          check_vnet(header, packet, {.origin = net::VnetOrigin::kPeer}) == net::VnetVerdict::kOk &&
              header == written && packet == net::testing::seal_partially(packet),
          "what is left to the kernel is valid");
      packet = net::testing::seal(packet);
    } else {
      require(header == net::VnetHeader{}, "alone means unchanged");
    }
    flows[flow_of(packet)].push_back(without_id(std::move(packet)));
    return;
  }
  const net::VnetHeader written = header;
  require(check_vnet(header, packet, {.origin = net::VnetOrigin::kPeer, .max_packet = 65535}) ==
                  net::VnetVerdict::kOk &&
              header == written,
          "a superpacket is valid");
  require(packet == net::testing::seal_partially(packet), "and its checksums are partial");
  const auto packets = net::testing::plain_split(packet, header.gso_size);
  require(packets.size() == write.packets, "and stands for so many packets");
  for (const Packet& one : packets)
    flows[flow_of(one)].push_back(without_id(one));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const unsigned options = data[0];
  const auto packets = packets_of(fuzz::input(data + 1, size - 1), (options & kRepair) != 0);
  net::PacketBatch batch(kMaxPackets, size, net::kVnetHeaderSize);
  Flows in;
  for (Packet packet : packets) {
    const bool unsummed = (options & kUnsummed) != 0 && batch.size() % 2 == 1;
    std::copy(packet.begin(), packet.end(), batch.free_space().begin());
    batch.commit(packet.size(), 0, unsummed ? net::Sums::kLeft : net::Sums::kDone);
    if (unsummed && !net::sum_transport(packet)) continue;  // left out
    in[flow_of(packet)].push_back(without_id(packet));
  }
  net::GroMerger merger(kMaxPackets, {.tcp = (options & kTcp) != 0, .udp = (options & kUdp) != 0});
  Flows out;
  for (const net::TunWrite& write : merger.merge(batch.packets(), batch.sums()))
    expand(write, out);
  require(in == out, "every flow comes out as it went in");
  return 0;
}
