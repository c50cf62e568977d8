// TunDevice: one queue of a TUN interface, read and written in batches of IP packets.
// Opens and moves packets; addresses, MTU and up/down are netlink's business. The interface goes
// away with its last descriptor, and its addresses and routes with it.
// Linux: Documentation/networking/tuntap.rst.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/net/gro_merge.h"
#include "common/net/packet_batch.h"
#include "common/net/sys.h"

namespace culvert::net {

struct TunOptions {
  // At most 15 characters. "%d" in it is replaced with the first free number by the kernel.
  std::string name = "culvert%d";
  // IFF_MULTI_QUEUE: opening the same name again adds a queue. All queues must agree on it.
  bool multi_queue = false;
  // Refuse an interface that exists already (of another program, or made beforehand for us).
  bool must_be_new = false;
  // Ask for superpackets. What the kernel does not have is done without: see offloads().
  bool offloads = false;
};

// What the kernel has granted. Checksums are then left to whoever needs them.
struct TunOffloads {
  bool checksum = false;  // packets may come with the checksum left to us
  bool tcp = false;       // TCP superpackets come out of the device; they may always go in
  bool udp = false;       // trains of UDP datagrams, both ways (Linux 6.2)
};
// "tcp udp", "tcp", "none": for logs and views.
[[nodiscard]] std::string_view name_of(const TunOffloads& offloads);

struct ReadOutcome {
  size_t packets = 0;    // added to the batch
  size_t bytes = 0;      // the sum of their lengths
  bool drained = false;  // the queue was empty at the end
  int error = 0;         // errno that ended the reading; 0, also when drained
};

struct WriteOutcome {
  size_t written = 0;
  size_t dropped = 0;
  int last_error = 0;  // errno of the last drop: EIO (interface is down), EINVAL (no IP packet) …
};

class TunDevice {
 public:
  // Needs CAP_NET_ADMIN, unless the interface was made for this user. `sys` must outlive the
  // device. Errors: kPermission; kUsage for a bad name; else kFailure with a hint (no /dev/net/tun,
  // name taken).
  static Result<TunDevice> open(Sys& sys, const TunOptions& options);

  TunDevice(TunDevice&&) noexcept = default;
  TunDevice& operator=(TunDevice&&) noexcept = default;

  // The interface's name as it was at open(), numbers filled in.
  [[nodiscard]] const std::string& name() const { return name_; }
  // For poll(2); owned by the device.
  [[nodiscard]] int fd() const { return fd_.get(); }
  // Each packet has a virtio header before it (TunOptions::offloads).
  [[nodiscard]] bool has_vnet_header() const { return has_vnet_header_; }
  // What the kernel granted; nothing without the header.
  [[nodiscard]] const TunOffloads& offloads() const { return offloads_; }

  // Appends packets to `batch` until the queue is empty, the batch is full, or at least `max_bytes`
  // were read (so a turn of the loop stays bounded; the last packet may go over). A packet larger
  // than the batch's slots arrives cut off, which parse_ip() notices: make slots as large as the
  // MTU (with offloads().tcp, as a superpacket). With has_vnet_header() the packet's virtio header
  // lies in the kVnetHeaderSize bytes before it, and the batch must have that much headroom.
  // Never blocks, allocates or locks.
  ReadOutcome read_batch(PacketBatch& batch, size_t max_bytes);

  // Writes each packet as it is; what the kernel doesn't take is dropped and counted, and the rest
  // goes on. Never blocks, allocates or locks. REQUIRES: not has_vnet_header().
  WriteOutcome write_batch(std::span<const MutableBytes> packets);
  // Writes what GroMerger has made, header first; counts packets, as many as each write stands for.
  // REQUIRES: has_vnet_header(). Never blocks, allocates or locks.
  WriteOutcome write_merged(std::span<const TunWrite> writes);

 private:
  TunDevice(Sys& sys, UniqueFd fd, std::string name)
      : sys_(&sys), fd_(std::move(fd)), name_(std::move(name)) {}

  Sys* sys_;
  UniqueFd fd_;
  std::string name_;
  bool has_vnet_header_ = false;
  TunOffloads offloads_;
};

// True if the kernel would take it as the name of an interface: 1 to 15 characters, no '/', white
// space, ':' or control characters, not "." or "..". Not a pattern: '%' is refused.
[[nodiscard]] bool is_interface_name(std::string_view name);

}  // namespace culvert::net
