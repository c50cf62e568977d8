// GroMerger: from the packets of one batch to the superpackets that a TUN takes with one write each
// (generic receive offload, as a network card's driver has it). Pure; the way back is gso_split.
// Payload is not copied: a superpacket is a list of memory pieces for writev(2).
// Modelled on the kernel's own rules (net/ipv4/tcp_offload.c, udp_offload.c, net/core/gro.c).
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/base/bytes.h"
#include "common/net/checksum.h"
#include "common/net/vnet_header.h"

namespace culvert::net {

struct GroOptions {
  // What the TUN takes. TCP always, with IFF_VNET_HDR; UDP trains with Linux 6.2 or newer.
  bool tcp = true;
  bool udp = false;
  size_t vnet_header_size = kVnetHeaderSize;  // or kVnetHeaderSizeLong
  // Of a superpacket, headers included. Linux cuts in software what exceeds a device's
  // gso_max_size (65,536 with the link layer's header), wherever it is forwarded to.
  size_t max_bytes = 65000;
  size_t max_tcp_packets = kMaxPeerSegments;
  size_t max_udp_packets = 64;  // UDP_MAX_SEGMENTS before Linux 6.9
};

// One write: a virtio header, a packet or superpacket.
struct TunWrite {
  std::span<const iovec> parts;
  size_t packets = 0;  // that it stands for
};

// A flow is one direction of one connection: version, addresses, protocol, ports. Several flows may
// interleave in a batch. Within a flow, writes carry the packets in the order of the batch; between
// flows a packet may be overtaken by those that joined an earlier write. Nothing is held back: what
// one batch brought is written with it, so that merging adds no delay.
class GroMerger {
 public:
  // Batches of at most `max_packets` (1 to 65,535). All memory is taken here.
  GroMerger(size_t max_packets, const GroOptions& options);
  GroMerger(GroMerger&&) noexcept = default;
  GroMerger& operator=(GroMerger&&) noexcept = default;

  // Decides, and rewrites headers in place: vnet_header_size bytes before the first packet of each
  // write, and its lengths and checksums. Packets that cannot be merged, down to what is no IP at
  // all, come out alone and unchanged. The writes borrow the packets and this object: valid until
  // the next merge().
  // `sums`: for each packet; empty: kDone for all. One whose checksum is left to us gets
  // NEEDS_CSUM; if it is none that may come without (unsummed.h), it is left out. REQUIRES: at most
  // max_packets packets; vnet_header_size writable bytes before each of them.
  [[nodiscard]] std::span<const TunWrite> merge(std::span<const MutableBytes> packets,
                                                std::span<const Sums> sums = {});

  // Changes what may be merged from now on, after the TUN refused it or took it again.
  void set_options(const GroOptions& options);
  [[nodiscard]] const GroOptions& options() const { return options_; }

 private:
  struct Segment;

  // One write in the making.
  struct Run {
    uint16_t head = 0;  // index of its first packet in the batch
    uint16_t tail = 0;  // and of its last
    uint16_t packets = 1;
    GsoType type = GsoType::kNone;  // what it will be if a second packet joins
    uint8_t tcp_flags = 0;          // of all its packets
    bool verified = false;          // the checksums of its first packet were found right
    uint16_t ip_header = 0;
    uint16_t headers = 0;       // IP and transport
    uint16_t segment_size = 0;  // payload of its first packet
    uint32_t next_sequence = 0;
    uint32_t bytes = 0;
  };
  // A run that may grow.
  struct Open {
    uint64_t flow = 0;
    uint16_t run = 0;
  };
  // Enough for the flows that interleave in one batch; with more, the oldest run stops growing.
  static constexpr size_t kOpenRuns = 16;

  [[nodiscard]] Sums sums_of(uint16_t index) const {
    return sums_.empty() ? Sums::kDone : sums_[index];
  }
  [[nodiscard]] Segment parse(Bytes packet, Sums sums) const;
  void place(uint16_t index);
  [[nodiscard]] Open* find(uint64_t flow);
  void close(Open* open);
  void start(uint16_t index, const Segment& segment);
  [[nodiscard]] bool can_join(Run& run, const Segment& segment) const;
  [[nodiscard]] bool join(Run& run, uint16_t index, const Segment& segment);
  void finish(const Run& run);
  void write_headers(const Run& run, MutableBytes packet, VnetHeader& header) const;
  void leave_sum(const Run& run, MutableBytes packet, VnetHeader& header, size_t size) const;

  size_t max_packets_;
  GroOptions options_;
  std::span<const MutableBytes> packets_;  // of the merge() under way
  std::span<const Sums> sums_;             // likewise
  std::vector<Run> runs_;                  // in the order of the writes; capacity reserved
  std::vector<uint16_t> next_;             // the packet after packet i in its run
  std::array<Open, kOpenRuns> open_{};
  size_t open_count_ = 0;
  size_t oldest_ = 0;
  std::vector<iovec> parts_;      // capacity reserved: spans into it stay valid
  std::vector<TunWrite> writes_;  // capacity reserved
};

}  // namespace culvert::net
