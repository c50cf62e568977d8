#include "common/net/gro_merge.h"

#include <cassert>
#include <cstring>

#include "common/net/checksum.h"
#include "common/net/ip_packet.h"

namespace culvert::net {
namespace {

constexpr size_t kIpv4Length = 2;
constexpr size_t kIpv4Identification = 4;
constexpr size_t kIpv4Fragment = 6;
constexpr size_t kIpv4Checksum = 10;
constexpr size_t kIpv4Addresses = 12;
constexpr size_t kIpv6Length = 4;
constexpr size_t kIpv6Addresses = 8;
constexpr unsigned kDontFragment = 0x4000;
constexpr unsigned kFragmentBits = 0x3fff;  // "more fragments" and the offset

constexpr size_t kTcpHeaderSize = 20;
constexpr size_t kTcpSequence = 4;
constexpr size_t kTcpFlags = 13;
constexpr uint16_t kTcpChecksum = 16;
constexpr uint8_t kFin = 0x01;
constexpr uint8_t kPsh = 0x08;
constexpr uint8_t kAck = 0x10;
constexpr uint8_t kEce = 0x40;

constexpr size_t kUdpHeaderSize = 8;
constexpr size_t kUdpLength = 4;
constexpr uint16_t kUdpChecksum = 6;

uint8_t byte_at(Bytes bytes, size_t i) {
  return std::to_integer<uint8_t>(bytes[i]);
}

template <typename Word>
Word load_native(Bytes bytes, size_t at) {
  Word word = 0;
  std::memcpy(&word, bytes.data() + at, sizeof word);
  return word;
}

// Are `size` bytes at `at` the same?
bool same(Bytes a, Bytes b, size_t at, size_t size) {
  return std::memcmp(a.data() + at, b.data() + at, size) == 0;
}

// The same for a size that the compiler does not know: a call for nearly nothing is spared, which
// TCP's timestamps (14 bytes with the urgent pointer before them) would be in every packet.
bool same_few(Bytes a, Bytes b, size_t at, size_t size) {
  if (size < 8 || size > 16) return same(a, b, at, size);
  const size_t last = at + size - 8;
  const uint64_t differ = (load_native<uint64_t>(a, at) ^ load_native<uint64_t>(b, at)) |
                          (load_native<uint64_t>(a, last) ^ load_native<uint64_t>(b, last));
  return differ == 0;
}

bool is_v4(Bytes packet) {
  return byte_at(packet, 0) >> 4 == 4;
}

Bytes addresses_of(Bytes packet) {
  return is_v4(packet) ? packet.subspan(kIpv4Addresses, 8) : packet.subspan(kIpv6Addresses, 32);
}

__extension__ typedef unsigned __int128 Wide;

uint64_t mix(uint64_t a, uint64_t b) {
  const Wide product = Wide{a} * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Equal for the packets of a flow; two flows that share a value only fail to merge, as can_join()
// compares the fields themselves.
uint64_t flow_of(Bytes packet, size_t ip_header, uint8_t protocol) {
  constexpr uint64_t kSalt = 0x9e3779b97f4a7c15;  // fraction of the golden ratio
  uint64_t state = uint64_t{load_native<uint32_t>(packet, ip_header)} << 8 | protocol;
  if (is_v4(packet)) return mix(state ^ kSalt, load_native<uint64_t>(packet, kIpv4Addresses));
  for (size_t at = kIpv6Addresses; at < kIpv6HeaderSize; at += 8)
    state = mix(state ^ load_native<uint64_t>(packet, at), kSalt);
  return state;
}

// IPv6 extension headers (RFC 8200 section 4); as IPv4 protocols the numbers are not in use.
bool may_hide_transport(uint8_t protocol) {
  return protocol == 0 || protocol == 43 || protocol == 44 || protocol == 51 || protocol == 60;
}

// Do the headers carry the right checksums, as far as they are not left to us? What a superpacket
// stands for gets new ones, and a packet that was broken before it came here must not be mended by
// that.
bool checksums_hold(Bytes packet, size_t ip_header, uint8_t protocol, Sums sums) {
  if (is_v4(packet) && internet_checksum(packet.first(ip_header)) != 0) return false;
  if (sums == Sums::kLeft) return true;
  const Bytes transport = packet.subspan(ip_header);
  ChecksumSum sum =
      pseudo_header_sum(addresses_of(packet), protocol, static_cast<uint32_t>(transport.size()));
  sum.add(transport);
  return sum.checksum() == 0;
}

// What the network does with a packet on its way must be the same for all: TTL, TOS and ECN, DF,
// flow label; and the addresses.
bool same_ip(Bytes a, Bytes b) {
  if (byte_at(a, 0) != byte_at(b, 0)) return false;
  return is_v4(a)
             ? same(a, b, 0, 2) && same(a, b, kIpv4Fragment, 4) && same(a, b, kIpv4Addresses, 8)
             : same(a, b, 0, kIpv6Length) && same(a, b, kIpv6Length + 2, 34);
}

// IPv4 identifications that splitting will give back. With DF they mean nothing (RFC 6864), and
// some systems draw them at random.
bool continues_id(Bytes head, Bytes packet, size_t packets) {
  if (!is_v4(head) || (load_be16(head.subspan(kIpv4Fragment)) & kDontFragment) != 0) return true;
  const size_t expected = load_be16(head.subspan(kIpv4Identification)) + packets;
  return load_be16(packet.subspan(kIpv4Identification)) == (expected & 0xffff);
}

// Ports, acknowledgement, data offset, flags but PSH and FIN, window, urgent pointer, options.
bool same_tcp(Bytes a, Bytes b, size_t headers_behind_ip) {
  constexpr uint8_t kMayDiffer = kPsh | kFin;
  return same(a, b, 0, kTcpSequence) &&  //
         same(a, b, 8, 5) &&             //
         ((byte_at(a, kTcpFlags) ^ byte_at(b, kTcpFlags)) & ~kMayDiffer) == 0 &&
         same(a, b, 14, 2) &&  //
         same_few(a, b, 18, headers_behind_ip - 18);
}

}  // namespace

// What parse() found in a packet.
struct GroMerger::Segment {
  enum class Kind : uint8_t {
    kNoFlow,   // neither TCP nor UDP: nobody's order depends on it
    kUnclear,  // of some flow, but which? fragments, IPv4 options, IPv6 extension headers …
    kAlone,    // of the flow, but not to be merged: SYN, RST, an empty ACK …
    kMergeable,
  };
  Kind kind = Kind::kNoFlow;
  GsoType type = GsoType::kNone;
  uint8_t tcp_flags = 0;
  uint16_t ip_header = 0;
  uint16_t headers = 0;
  uint16_t payload = 0;
  Sums sums = Sums::kDone;
  uint64_t flow = 0;
  Bytes packet;

  [[nodiscard]] bool is_udp() const { return type == GsoType::kUdpL4; }
  [[nodiscard]] uint8_t protocol() const { return is_udp() ? kProtocolUdp : kProtocolTcp; }
  // After it the flow's next packet starts a new run. PSH and FIN stand on the last packet of a
  // superpacket only, so that splitting gives them back where they were.
  [[nodiscard]] bool ends_run() const { return (tcp_flags & (kPsh | kFin)) != 0; }

  // Length of the IP header if it is plain, with kind kUnclear until somebody knows better; else 0.
  size_t parse_ip_header(uint8_t& protocol);
  void parse_tcp();
  void parse_udp();
};

size_t GroMerger::Segment::parse_ip_header(uint8_t& protocol) {
  const auto family = family_of(packet);
  if (!family) return 0;
  const bool v4 = *family == Family::kV4;
  protocol = byte_at(packet, v4 ? 9 : 6);
  if (protocol == kProtocolIcmp || protocol == kProtocolIcmpV6) return 0;
  kind = Kind::kUnclear;
  if (v4) {
    const bool plain = byte_at(packet, 0) == 0x45 &&                               //
                       load_be16(packet.subspan(kIpv4Length)) == packet.size() &&  //
                       (load_be16(packet.subspan(kIpv4Fragment)) & kFragmentBits) == 0;
    return plain ? kIpv4HeaderSize : 0;
  }
  const size_t length = kIpv6HeaderSize + load_be16(packet.subspan(kIpv6Length));
  return length == packet.size() ? kIpv6HeaderSize : 0;
}

void GroMerger::Segment::parse_tcp() {
  const Bytes transport = packet.subspan(ip_header);
  if (transport.size() < kTcpHeaderSize) return;
  const size_t length = (byte_at(transport, 12) >> 4) * size_t{4};
  if (length < kTcpHeaderSize || length > transport.size()) return;
  headers = static_cast<uint16_t>(ip_header + length);
  payload = static_cast<uint16_t>(packet.size() - headers);
  tcp_flags = byte_at(transport, kTcpFlags);
  type = is_v4(packet) ? GsoType::kTcpV4 : GsoType::kTcpV6;
  const bool plain = (tcp_flags & ~(kFin | kPsh | kEce)) == kAck;
  kind = plain && payload > 0 ? Kind::kMergeable : Kind::kAlone;
}

void GroMerger::Segment::parse_udp() {
  const Bytes transport = packet.subspan(ip_header);
  if (transport.size() < kUdpHeaderSize ||
      load_be16(transport.subspan(kUdpLength)) != transport.size()) {
    return;
  }
  headers = static_cast<uint16_t>(ip_header + kUdpHeaderSize);
  payload = static_cast<uint16_t>(packet.size() - headers);
  type = GsoType::kUdpL4;
  // Without a checksum it would be given one: legal, but another packet.
  const bool has_sum = sums == Sums::kLeft || load_be16(transport.subspan(kUdpChecksum)) != 0;
  kind = has_sum && payload > 0 ? Kind::kMergeable : Kind::kAlone;
}

GroMerger::GroMerger(size_t max_packets, const GroOptions& options)
    : max_packets_(max_packets), next_(max_packets) {
  assert(max_packets > 0 && max_packets <= UINT16_MAX);
  runs_.reserve(max_packets);
  parts_.reserve(max_packets);
  writes_.reserve(max_packets);
  set_options(options);
}

void GroMerger::set_options(const GroOptions& options) {
  assert(options.vnet_header_size == kVnetHeaderSize ||
         options.vnet_header_size == kVnetHeaderSizeLong);
  assert(options.max_bytes <= UINT16_MAX);
  options_ = options;
}

std::span<const TunWrite> GroMerger::merge(std::span<const MutableBytes> packets,
                                           std::span<const Sums> sums) {
  assert(packets.size() <= max_packets_ && (sums.empty() || sums.size() == packets.size()));
  packets_ = packets;
  sums_ = sums;
  runs_.clear();
  parts_.clear();
  writes_.clear();
  open_count_ = 0;
  for (size_t i = 0; i < packets.size(); ++i)
    place(static_cast<uint16_t>(i));
  for (const Run& run : runs_)
    finish(run);
  return writes_;
}

GroMerger::Segment GroMerger::parse(Bytes packet, Sums sums) const {
  Segment segment;
  segment.packet = packet;
  segment.sums = sums;
  uint8_t protocol = 0;
  segment.ip_header = static_cast<uint16_t>(segment.parse_ip_header(protocol));
  if (segment.ip_header == 0) return segment;
  const bool unsummed = sums == Sums::kLeft;
  const bool merges = protocol == kProtocolUdp ? options_.udp : options_.tcp;
  if (protocol == kProtocolTcp && (merges || unsummed)) {
    segment.parse_tcp();
  } else if (protocol == kProtocolUdp && (merges || unsummed)) {
    segment.parse_udp();
  } else if (!may_hide_transport(protocol)) {
    segment.kind = Segment::Kind::kNoFlow;
  }
  if (!merges && segment.kind == Segment::Kind::kMergeable) segment.kind = Segment::Kind::kAlone;
  if (segment.type != GsoType::kNone) segment.flow = flow_of(packet, segment.ip_header, protocol);
  return segment;
}

// Into the run of its flow if there is one that takes it, else into a new one.
void GroMerger::place(uint16_t index) {
  const Segment segment = parse(packets_[index], sums_of(index));
  if (segment.sums == Sums::kLeft && segment.type == GsoType::kNone) return;  // nobody can sum it
  if (segment.kind == Segment::Kind::kUnclear) open_count_ = 0;  // rare: no run may be passed
  Open* open = segment.type != GsoType::kNone ? find(segment.flow) : nullptr;
  if (open != nullptr) {
    Run& run = runs_[open->run];
    if (can_join(run, segment)) {
      if (!join(run, index, segment)) close(open);
      return;
    }
    close(open);
  }
  start(index, segment);
}

GroMerger::Open* GroMerger::find(uint64_t flow) {
  for (size_t i = 0; i < open_count_; ++i)
    if (open_[i].flow == flow) return &open_[i];
  return nullptr;
}

void GroMerger::close(Open* open) {
  *open = open_[--open_count_];
}

void GroMerger::start(uint16_t index, const Segment& segment) {
  Run& run = runs_.emplace_back();
  run.head = run.tail = index;
  run.type = segment.type;
  run.ip_header = segment.ip_header;
  if (segment.kind != Segment::Kind::kMergeable || segment.ends_run()) return;
  run.tcp_flags = segment.tcp_flags;
  run.headers = segment.headers;
  run.segment_size = segment.payload;
  run.bytes = static_cast<uint32_t>(segment.packet.size());
  if (!segment.is_udp()) {
    const uint32_t sequence = load_be32(segment.packet.subspan(segment.ip_header + kTcpSequence));
    run.next_sequence = sequence + segment.payload;
  }
  if (open_count_ == kOpenRuns) close(&open_[oldest_++ % kOpenRuns]);
  open_[open_count_++] = {segment.flow, static_cast<uint16_t>(runs_.size() - 1)};
}

// May `segment` become the next packet of `run`? In doubt it may not: that costs a write, no more.
bool GroMerger::can_join(Run& run, const Segment& segment) const {
  const Bytes head = packets_[run.head];
  const Bytes packet = segment.packet;
  const size_t limit = segment.is_udp() ? options_.max_udp_packets : options_.max_tcp_packets;
  const bool joins =
      segment.kind == Segment::Kind::kMergeable &&  // [1] data, no flag but ACK, ECE, PSH, FIN
      segment.type == run.type &&                   // [2] the same protocols
      segment.headers == run.headers &&             // [3] headers equally long
      segment.payload <= run.segment_size &&        // [4] only the last may be shorter
      run.packets < limit &&                        // [5] not too many
      run.bytes + segment.payload <= options_.max_bytes &&  // [6] not too much
      same_ip(head, packet) &&                              // [7] addresses, TTL, TOS, ECN, DF
      continues_id(head, packet, run.packets);              // [8] identification
  if (!joins) return false;
  const size_t at = run.ip_header;
  if (segment.is_udp()) {
    if (!same(head, packet, at, 4)) return false;  // [9] the same ports
  } else {
    if (load_be32(packet.subspan(at + kTcpSequence)) != run.next_sequence ||  // [10] no gap
        !same_tcp(head.subspan(at), packet.subspan(at), run.headers - at)) {  // [11] ack, options …
      return false;
    }
  }
  // [12] intact, the first as well. Last, because it reads everything; the first packet is checked
  // when there is a second, so that a packet that stays alone is checked by the kernel only.
  const uint8_t protocol = segment.protocol();
  if (!run.verified) run.verified = checksums_hold(head, at, protocol, sums_of(run.head));
  return run.verified && checksums_hold(packet, at, protocol, segment.sums);
}

// Returns false if nothing may follow.
bool GroMerger::join(Run& run, uint16_t index, const Segment& segment) {
  next_[run.tail] = index;
  run.tail = index;
  ++run.packets;
  run.bytes += segment.payload;
  run.next_sequence += segment.payload;
  run.tcp_flags |= segment.tcp_flags;
  return segment.payload == run.segment_size && !segment.ends_run();
}

void GroMerger::finish(const Run& run) {
  const MutableBytes packet = packets_[run.head];
  const size_t header_size = options_.vnet_header_size;
  std::byte* const start = packet.data() - header_size;
  const size_t first_part = parts_.size();
  VnetHeader header;
  parts_.push_back({start, header_size + packet.size()});
  if (run.packets == 1) {
    if (sums_of(run.head) == Sums::kLeft) leave_sum(run, packet, header, packet.size());
  } else {
    write_headers(run, packet, header);
    for (uint16_t i = run.head; i != run.tail;) {
      i = next_[i];
      const MutableBytes payload = packets_[i].subspan(run.headers);
      parts_.push_back({payload.data(), payload.size()});
    }
  }
  encode_vnet({start, header_size}, header);
  writes_.push_back({std::span(parts_).subspan(first_part), run.packets});
}

// The first packet's headers become the superpacket's, its checksum a partial one.
void GroMerger::write_headers(const Run& run, MutableBytes packet, VnetHeader& header) const {
  header.type = run.type;
  header.gso_size = run.segment_size;
  if (is_v4(packet)) {
    store_be16(packet.subspan(kIpv4Length), static_cast<uint16_t>(run.bytes));
    store_be16(packet.subspan(kIpv4Checksum), 0);
    store_be16(packet.subspan(kIpv4Checksum), internet_checksum(packet.first(run.ip_header)));
  } else {
    store_be16(packet.subspan(kIpv6Length), static_cast<uint16_t>(run.bytes - run.ip_header));
  }
  const MutableBytes transport = packet.subspan(run.ip_header);
  if (run.type == GsoType::kUdpL4) {
    store_be16(transport.subspan(kUdpLength), static_cast<uint16_t>(run.bytes - run.ip_header));
  } else {
    transport[kTcpFlags] = std::byte{run.tcp_flags};
  }
  leave_sum(run, packet, header, run.bytes);
  header.header_length = run.headers;
}

// To the kernel, which wants the sum of the pseudo-header in the checksum's place. `size`: of the
// whole packet.
void GroMerger::leave_sum(const Run& run, MutableBytes packet, VnetHeader& header,
                          size_t size) const {
  const bool udp = run.type == GsoType::kUdpL4;
  header.flags = kVnetNeedsChecksum;
  header.checksum_start = run.ip_header;
  header.checksum_offset = udp ? kUdpChecksum : kTcpChecksum;
  header.header_length = static_cast<uint16_t>(run.ip_header + header.checksum_offset + 2);
  const uint8_t protocol = udp ? kProtocolUdp : kProtocolTcp;
  const auto length = static_cast<uint32_t>(size - run.ip_header);
  const ChecksumSum sum = pseudo_header_sum(addresses_of(packet), protocol, length);
  store_be16(packet.subspan(size_t{run.ip_header} + header.checksum_offset), sum.folded());
}

}  // namespace culvert::net
