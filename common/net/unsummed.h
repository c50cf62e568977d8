// Packets whose TCP or UDP checksum is left to whoever takes them on: what NEEDS_CSUM says in a
// virtio header, without a header. The checksum's field holds anything; its place and the length
// follow from the packet itself. Pure.
//
// Two reads of every byte are saved by it: the sender's kernel left the sum to us, the receiver's
// takes a superpacket without one, and between the two an AEAD vouches for every bit.
#pragma once

#include "common/base/bytes.h"
#include "common/net/vnet_header.h"

namespace culvert::net {

// May the packets that this one stands for go without? Those of plain TCP or UDP, directly behind
// an IPv4 header without options or an IPv6 header without extensions, no fragments: whoever gets
// them sees at once where the checksum belongs. REQUIRES: check_vnet() of the kernel's == kOk.
[[nodiscard]] bool may_go_unsummed(const VnetHeader& header, Bytes packet);

// Sums what came without, for a taker that wants it done. False, and nothing has changed, if it is
// no such packet.
[[nodiscard]] bool sum_transport(MutableBytes packet);

}  // namespace culvert::net
