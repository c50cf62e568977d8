// GsoSplitter: from a superpacket to the packets it stands for, each with its lengths, numbers and
// checksums as if it had been sent alone. Pure; what the numbers in the virtio header must be was
// checked before (vnet_header.h). The way back is gro_merge.
// Modelled on what the kernel does (net/ipv4/tcp_offload.c, udp_offload.c, af_inet.c), RFC 9293.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/base/bytes.h"
#include "common/net/checksum.h"
#include "common/net/vnet_header.h"

namespace culvert::net {

// Splits in place, without copying payload: each packet is made by writing its header over the end
// of the payload before it, which has been dealt with by then.
//
//   slot:     [headroom][headers][payload 0    ][payload 1    ][payload 2 ]
//   next() 1:           [headers][payload 0    ]
//   next() 2:                          [headers][payload 1    ]
//   next() 3:                                         [headers][payload 2 ]
class GsoSplitter {
 public:
  // Packets of a TCP superpacket carry min(gso_size, mtu - headers) bytes each, so that a kernel
  // that knows a larger MTU does no harm. A UDP train keeps its cut, because datagrams have edges.
  // An ordinary packet comes out as it is, its checksum completed where that was left to us.
  // `sums`: what the checksums that are left to us are to be.
  // REQUIRES: check_vnet(header, packet, …) == kOk; for kLeft, may_go_unsummed(header, packet).
  // `packet` is used up by next().
  GsoSplitter(const VnetHeader& header, MutableBytes packet, size_t mtu, Sums sums = Sums::kDone);
  // A copy would continue from the same bytes.
  GsoSplitter(const GsoSplitter&) = delete;
  GsoSplitter& operator=(const GsoSplitter&) = delete;

  // False: no cut of it fits the MTU (an ordinary packet or a datagram that is too large, or an MTU
  // smaller than the headers). count() is 0 then, and next() gives nothing.
  [[nodiscard]] bool fits() const { return count_ != 0; }
  // How many packets next() gives in all.
  [[nodiscard]] size_t count() const { return count_; }

  // The next packet; empty after the last. Valid until the next next(), and so is the right to
  // write before it: as many bytes of headroom as the superpacket had.
  [[nodiscard]] MutableBytes next();

 private:
  void prepare_sums();
  void finish_ip(MutableBytes packet);
  void finish_tcp(MutableBytes packet, size_t offset);
  void finish_udp(MutableBytes packet);
  void finish_transport(MutableBytes packet, ChecksumSum sum);
  [[nodiscard]] MutableBytes whole();

  VnetHeader header_;
  Sums sums_;
  MutableBytes packet_;
  size_t payload_size_ = 0;
  size_t segment_size_ = 0;  // payload bytes of each packet but the last
  size_t count_ = 0;
  size_t done_ = 0;  // packets given
  bool v4_ = false;
  uint16_t first_id_ = 0;   // IPv4 identification
  uint32_t first_seq_ = 0;  // TCP
  uint8_t tcp_flags_ = 0;
  ChecksumSum ip_sum_;         // IPv4 header without length, identification and checksum
  ChecksumSum transport_sum_;  // addresses, protocol and what is equal in all transport headers
  std::array<std::byte, kMaxGsoHeader> headers_;  // as they came; uninitialised beyond their length
};

}  // namespace culvert::net
