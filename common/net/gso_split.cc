#include "common/net/gso_split.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "common/net/ip_packet.h"

namespace culvert::net {
namespace {

// Where the fields that differ from packet to packet are.
constexpr size_t kIpv4Length = 2;
constexpr size_t kIpv4Identification = 4;
constexpr size_t kIpv4Checksum = 10;
constexpr size_t kIpv6Length = 4;
constexpr size_t kTcpSequence = 4;
constexpr size_t kTcpFlags = 13;
constexpr size_t kUdpLength = 4;

constexpr uint8_t kFin = 0x01;
constexpr uint8_t kPsh = 0x08;
constexpr uint8_t kCwr = 0x80;

// The field holds the sum of the pseudo-header, which so becomes part of the whole.
void complete_checksum(const VnetHeader& header, MutableBytes packet) {
  ChecksumSum sum;
  sum.add(packet.subspan(header.checksum_start));
  store_be16(packet.subspan(size_t{header.checksum_start} + header.checksum_offset),
             sum.checksum_or_ones());
}

}  // namespace

GsoSplitter::GsoSplitter(const VnetHeader& header, MutableBytes packet, size_t mtu, Sums sums)
    : header_(header), sums_(sums), packet_(packet) {
  if (!header.is_superpacket()) {
    count_ = packet.size() <= mtu ? 1 : 0;
    return;
  }
  assert(header.header_length <= kMaxGsoHeader && header.header_length < packet.size());
  payload_size_ = packet.size() - header.header_length;
  segment_size_ = header.gso_size;
  if (mtu <= header.header_length) return;
  const size_t room = mtu - header.header_length;
  if (header.type == GsoType::kUdpL4) {
    if (segment_size_ > room) return;
  } else {
    segment_size_ = std::min(segment_size_, room);
  }
  count_ = (payload_size_ + segment_size_ - 1) / segment_size_;
  prepare_sums();
}

// Keeps the headers, and sums once what all packets have in common.
void GsoSplitter::prepare_sums() {
  const MutableBytes headers = MutableBytes(headers_).first(header_.header_length);
  std::memcpy(headers.data(), packet_.data(), headers.size());
  const MutableBytes transport = headers.subspan(header_.checksum_start);
  store_be16(transport.subspan(header_.checksum_offset), 0);
  v4_ = std::to_integer<unsigned>(headers[0]) >> 4 == 4;
  if (v4_) {
    first_id_ = load_be16(headers.subspan(kIpv4Identification));
    store_be16(headers.subspan(kIpv4Length), 0);
    store_be16(headers.subspan(kIpv4Identification), 0);
    store_be16(headers.subspan(kIpv4Checksum), 0);
    ip_sum_.add(headers.first(header_.checksum_start));
  }
  const Bytes addresses = v4_ ? headers.subspan(12, 8) : headers.subspan(8, 32);
  if (header_.type == GsoType::kUdpL4) {
    store_be16(transport.subspan(kUdpLength), 0);
    transport_sum_ = pseudo_header_sum(addresses, kProtocolUdp, 0);
  } else {
    first_seq_ = load_be32(transport.subspan(kTcpSequence));
    tcp_flags_ = std::to_integer<uint8_t>(transport[kTcpFlags]);
    store_be32(transport.subspan(kTcpSequence), 0);
    transport[kTcpFlags] = std::byte{0};
    transport_sum_ = pseudo_header_sum(addresses, kProtocolTcp, 0);
  }
  transport_sum_.add(transport);
}

MutableBytes GsoSplitter::whole() {
  if (header_.needs_checksum() && sums_ == Sums::kDone) complete_checksum(header_, packet_);
  return packet_;
}

MutableBytes GsoSplitter::next() {
  if (done_ == count_) return {};
  if (!header_.is_superpacket()) {
    ++done_;
    return whole();
  }
  const size_t offset = done_ * segment_size_;
  const size_t size = std::min(segment_size_, payload_size_ - offset);
  const MutableBytes packet = packet_.subspan(offset, header_.header_length + size);
  std::memcpy(packet.data(), headers_.data(), header_.header_length);
  finish_ip(packet);
  if (header_.type == GsoType::kUdpL4) {
    finish_udp(packet);
  } else {
    finish_tcp(packet, offset);
  }
  ++done_;
  return packet;
}

void GsoSplitter::finish_ip(MutableBytes packet) {
  if (!v4_) {
    const size_t behind = packet.size() - kIpv6HeaderSize;
    store_be16(packet.subspan(kIpv6Length), static_cast<uint16_t>(behind));
    return;
  }
  const auto length = static_cast<uint16_t>(packet.size());
  const auto id = static_cast<uint16_t>(first_id_ + done_);
  ChecksumSum sum = ip_sum_;
  sum.add_word(length);
  sum.add_word(id);
  store_be16(packet.subspan(kIpv4Length), length);
  store_be16(packet.subspan(kIpv4Identification), id);
  store_be16(packet.subspan(kIpv4Checksum), sum.checksum());
}

void GsoSplitter::finish_tcp(MutableBytes packet, size_t offset) {
  const MutableBytes transport = packet.subspan(header_.checksum_start);
  const auto sequence = static_cast<uint32_t>(first_seq_ + offset);
  uint8_t flags = tcp_flags_;
  if (done_ + 1 != count_) flags &= static_cast<uint8_t>(~(kFin | kPsh));  // only the end ends it
  if (done_ != 0) flags &= static_cast<uint8_t>(~kCwr);  // one reduction is told once (RFC 3168)
  store_be32(transport.subspan(kTcpSequence), sequence);
  transport[kTcpFlags] = std::byte{flags};
  ChecksumSum sum = transport_sum_;
  sum.add_word(static_cast<uint16_t>(sequence >> 16));
  sum.add_word(static_cast<uint16_t>(sequence & 0xffff));
  sum.add_word(flags);  // the low byte of its word; the data offset was summed before
  finish_transport(packet, sum);
}

void GsoSplitter::finish_udp(MutableBytes packet) {
  const MutableBytes transport = packet.subspan(header_.checksum_start);
  const auto length = static_cast<uint16_t>(transport.size());
  store_be16(transport.subspan(kUdpLength), length);
  ChecksumSum sum = transport_sum_;
  sum.add_word(length);
  finish_transport(packet, sum);
}

// `sum`: everything but the payload and the length in the pseudo-header.
void GsoSplitter::finish_transport(MutableBytes packet, ChecksumSum sum) {
  if (sums_ == Sums::kLeft) return;
  const MutableBytes transport = packet.subspan(header_.checksum_start);
  sum.add_word(static_cast<uint16_t>(transport.size()));
  sum.add(packet.subspan(header_.header_length));
  store_be16(transport.subspan(header_.checksum_offset), sum.checksum_or_ones());
}

}  // namespace culvert::net
