// UdpArena: the memory that one receive of a UdpSocket fills, and what it found: trains of
// datagrams, who sent them, and to which of our addresses. Knows recvmmsg's structures, makes no
// calls.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "common/base/bytes.h"
#include "common/net/udp_plan.h"

namespace culvert::net {

// Datagrams of equal size from one peer, of which the last may be shorter; often just one.
struct UdpTrain {
  MutableBytes bytes;
  size_t segment_size = 0;
  UdpPath path;

  [[nodiscard]] size_t count() const { return (bytes.size() + segment_size - 1) / segment_size; }
  // REQUIRES: i < count().
  [[nodiscard]] MutableBytes operator[](size_t i) const {
    const MutableBytes rest = bytes.subspan(i * segment_size);
    return rest.first(rest.size() < segment_size ? rest.size() : segment_size);
  }
};

// Everything is allocated by the constructor; receiving never allocates. Serves any number of
// sockets of one thread, one at a time.
class UdpArena {
 public:
  // A train is up to 65,535 bytes; without UDP_GRO a slot need not be larger than a datagram. Pages
  // that nothing reaches are never touched. REQUIRES: slots > 0, slot_size > 0.
  explicit UdpArena(size_t slots, size_t slot_size = 65536);
  UdpArena(UdpArena&&) noexcept = default;
  UdpArena& operator=(UdpArena&&) noexcept = default;

  [[nodiscard]] size_t capacity() const { return messages_.size(); }
  // The trains of the last receive, in the order of arrival; none of them is empty. Valid until the
  // next receive.
  [[nodiscard]] std::span<const UdpTrain> trains() const { return trains_; }

  // For the socket: the messages to hand to recvmmsg(2), all of them fresh.
  [[nodiscard]] std::span<mmsghdr> prepare();
  // And what has become of the first `count` of them: makes trains(). Returns how many were larger
  // than a slot: those are lost.
  size_t take(size_t count);

 private:
  struct Ancillary {
    sockaddr_storage name;
    alignas(cmsghdr) std::byte control[64];
  };

  [[nodiscard]] UdpTrain read(mmsghdr& message) const;

  std::unique_ptr<std::byte[]> memory_;
  std::vector<Ancillary> ancillary_;
  std::vector<iovec> rooms_;
  std::vector<mmsghdr> messages_;
  std::vector<UdpTrain> trains_;  // capacity reserved
  size_t dirty_;                  // messages that the kernel may have written to
};

}  // namespace culvert::net
