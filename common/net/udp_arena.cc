#include "common/net/udp_arena.h"

#include <netinet/in.h>
#include <netinet/udp.h>

#include <algorithm>
#include <cassert>
#include <cstring>

namespace culvert::net {
namespace {

// Slots begin on cache lines, an odd number of lines apart: see PacketBatch.
size_t stride_for(size_t bytes) {
  return ((bytes + 63) / 64 | 1) * 64;
}

template <typename T>
T control_value(const cmsghdr* control) {
  T value{};
  std::memcpy(&value, CMSG_DATA(control), sizeof value);
  return value;
}

// IPv4 comes as a mapped address on a dual-stack socket.
IpAddress address_of(const in6_addr& address) {
  const Bytes bytes = std::as_bytes(std::span(address.s6_addr));
  return IpAddress::from_bytes(IN6_IS_ADDR_V4MAPPED(&address) ? bytes.last(4) : bytes);
}

void read_control(const cmsghdr* control, UdpTrain& train) {
  if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO) {
    const int size = control_value<int>(control);
    if (size > 0) train.segment_size = std::min(train.segment_size, static_cast<size_t>(size));
  } else if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO) {
    const auto info = control_value<in_pktinfo>(control);
    train.path.local = IpAddress::v4(ntohl(info.ipi_addr.s_addr));
    train.path.interface = static_cast<uint32_t>(info.ipi_ifindex);
  } else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO) {
    const auto info = control_value<in6_pktinfo>(control);
    train.path.local = address_of(info.ipi6_addr);
    train.path.interface = info.ipi6_ifindex;
  }
}

}  // namespace

UdpArena::UdpArena(size_t slots, size_t slot_size)
    : memory_(std::make_unique_for_overwrite<std::byte[]>(slots * stride_for(slot_size))),
      ancillary_(slots),
      rooms_(slots),
      messages_(slots),
      dirty_(slots) {
  assert(slots > 0 && slot_size > 0);
  static_assert(sizeof Ancillary::control >=
                CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(in6_pktinfo)));
  trains_.reserve(slots);
  for (size_t i = 0; i < slots; ++i) {
    rooms_[i] = {memory_.get() + i * stride_for(slot_size), slot_size};
    messages_[i].msg_hdr.msg_iov = &rooms_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
    messages_[i].msg_hdr.msg_name = &ancillary_[i].name;
    messages_[i].msg_hdr.msg_control = ancillary_[i].control;
  }
}

std::span<mmsghdr> UdpArena::prepare() {
  for (mmsghdr& message : std::span(messages_).first(dirty_)) {
    message.msg_hdr.msg_namelen = sizeof Ancillary::name;
    message.msg_hdr.msg_controllen = sizeof Ancillary::control;
    message.msg_hdr.msg_flags = 0;
  }
  dirty_ = 0;
  trains_.clear();
  return messages_;
}

size_t UdpArena::take(size_t count) {
  assert(count <= messages_.size());
  dirty_ = count;
  size_t truncated = 0;
  for (mmsghdr& message : std::span(messages_).first(count)) {
    if ((message.msg_hdr.msg_flags & MSG_TRUNC) != 0) {
      ++truncated;
    } else if (message.msg_len > 0) {
      trains_.push_back(read(message));
    }
  }
  return truncated;
}

UdpTrain UdpArena::read(mmsghdr& message) const {
  msghdr& header = message.msg_hdr;
  UdpTrain train;
  train.bytes = {static_cast<std::byte*>(header.msg_iov->iov_base), message.msg_len};
  train.segment_size = message.msg_len;
  train.path.peer = Endpoint::from_sockaddr(*static_cast<sockaddr_storage*>(header.msg_name));
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c))
    read_control(c, train);
  if (!train.path.peer.address.is_link_local()) train.path.interface = 0;
  return train;
}

}  // namespace culvert::net
