// Which datagrams share one send. A run is what the kernel cuts up again by itself (UDP_SEGMENT,
// Linux 4.18, udp(7)): datagrams of one size, of which the last may be shorter. Pure; udp_socket
// carries it out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "common/base/address.h"
#include "common/base/bytes.h"

namespace culvert::net {

// Both ends of a datagram's way.
struct UdpPath {
  Endpoint peer;
  // Ours. Unspecified (of any family): the kernel chooses.
  IpAddress local;
  // Set for link-local addresses, which mean nothing without it. Otherwise 0, so that a reply
  // follows the routes, also after they changed.
  uint32_t interface = 0;

  friend bool operator==(const UdpPath&, const UdpPath&) = default;
};

// A datagram to be sent. The memory is the caller's.
struct OutDatagram {
  Bytes bytes;
  // Where it goes: an index into the paths that are handed to the socket with the batch.
  uint16_t path = 0;
};

struct RunLimits {
  size_t max_datagrams = 64;  // UDP_MAX_SEGMENTS before Linux 6.9
  size_t max_bytes = 65000;   // of payload; with the headers it must fit the length field of IPv4
};
// Every datagram alone: without UDP_SEGMENT.
constexpr RunLimits kNoRuns{.max_datagrams = 1, .max_bytes = 65535};

// Consecutive datagrams of a batch.
struct DatagramRun {
  uint32_t first = 0;  // index in the batch
  uint32_t count = 0;
  uint32_t bytes = 0;
  uint16_t segment_size = 0;  // of each datagram but perhaps the last
  uint16_t path = 0;
};

// May `next` be sent with `run`, which ends with `last`?
[[nodiscard]] bool can_join_run(const DatagramRun& run, const OutDatagram& last,
                                const OutDatagram& next, const RunLimits& limits);

// Divides the beginning of `batch` into runs, in order and greedily, until `runs` is full or the
// batch is used up. Returns how many runs were written; the rest of the batch begins behind the
// last of them. A datagram that can share with nobody (empty, or larger than any run) is a run of
// one.
[[nodiscard]] size_t plan_runs(std::span<const OutDatagram> batch, const RunLimits& limits,
                               std::span<DatagramRun> runs);

}  // namespace culvert::net
