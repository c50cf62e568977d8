// UdpSocket: datagrams in batches. Sends runs with one system call entry each (UDP_SEGMENT) and
// several runs with one call (sendmmsg); receives trains (UDP_GRO) with recvmmsg; replies leave
// from the address that was asked (IP_PKTINFO). Says nothing about what the datagrams contain.
// Linux: udp(7), ip(7), ipv6(7).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "common/base/address.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/net/sys.h"
#include "common/net/udp_arena.h"
#include "common/net/udp_plan.h"

namespace culvert::net {

struct UdpOptions {
  // [::] takes IPv4 as well. Port 0: any.
  Endpoint local;
  bool reuse_port = false;
  // Tell for every datagram which of our addresses it came to.
  bool packet_info = true;
  std::optional<uint32_t> mark{};  // SO_MARK; needs CAP_NET_ADMIN
  // Of the kernel's buffers, each direction. More than net.core.[rw]mem_max with CAP_NET_ADMIN.
  uint32_t buffer_bytes = 4u << 20;
  bool gso = true;  // try UDP_SEGMENT
  bool gro = true;  // try UDP_GRO
};

struct SendOutcome {
  size_t sent = 0;       // datagrams; as is everything here
  size_t dropped = 0;    // no room in the socket's or the device's queue (EAGAIN, ENOBUFS)
  size_t too_large = 0;  // EMSGSIZE
  size_t failed = 0;     // anything else
  int last_error = 0;    // errno of the last of these
  // The smallest size that was too large, and the path it was meant for: something for path MTU
  // discovery to know. 0: nothing was. Of several paths only one is told; the others have their
  // turn with their next large datagram.
  uint16_t too_large_size = 0;
  uint16_t too_large_path = 0;
  size_t calls = 0;  // system calls made
  // This call found that the way out cannot segment; it was done without, and stays so.
  bool gso_lost = false;
};

struct ReceiveOutcome {
  size_t trains = 0;  // now in the arena
  size_t bytes = 0;
  size_t truncated = 0;  // trains that were larger than a slot: lost
  bool drained = false;  // nothing is waiting
  int error = 0;         // errno that ended it; 0, also when drained
};

class UdpSocket {
 public:
  // A socket that never blocks and never lets the kernel fragment or remember path MTUs
  // (PMTUDISC_PROBE for both families): too large for the device is EMSGSIZE, and the path is for
  // its user to probe. Offloads that the kernel lacks are left out: see gso(), gro().
  // `sys` must outlive the socket. Errors: kPermission (low port, mark), else kFailure (port taken,
  // address not ours, no IPv6 …).
  static Result<UdpSocket> open(Sys& sys, const UdpOptions& options);
  // The same with a socket that somebody with more privileges has opened, marked, and given its
  // buffers: `options.mark` and `options.buffer_bytes` are not looked at. REQUIRES: `fd` is a
  // non-blocking, unbound UDP socket of the family of options.local.
  static Result<UdpSocket> adopt(Sys& sys, UniqueFd fd, const UdpOptions& options);

  UdpSocket(UdpSocket&&) noexcept;
  UdpSocket& operator=(UdpSocket&&) noexcept;
  ~UdpSocket();

  // From now on only datagrams from `peer` arrive, and send() may leave out the paths. May be
  // called again. REQUIRES: peer of a family that the socket speaks. Errors: kNetwork.
  Status connect(const Endpoint& peer);

  // For poll(2); owned by the socket.
  [[nodiscard]] int fd() const { return fd_.get(); }
  // The port is the real one after asking for 0.
  [[nodiscard]] const Endpoint& local() const { return local_; }
  [[nodiscard]] bool gso() const { return gso_; }
  [[nodiscard]] bool gro() const { return gro_; }
  // Of the sockets that share our port (UdpOptions::reuse_port), datagrams that begin with `first`
  // go from now on to the one whose number, in the order in which they were opened, is the byte at
  // `offset`; all others, and those with a number that is too large, where the kernel's hash puts
  // them. For the whole group. False if the kernel cannot: then the hash alone decides.
  bool steer_by_byte(uint8_t first, uint32_t offset);
  // No more segmentation from now on, for example after another socket found that it doesn't work.
  void disable_gso() { gso_ = false; }

  // Sends the batch in order. `paths` is what OutDatagram::path points into; without any,
  // everything goes to the connected peer. What cannot be sent now is dropped and counted; when the
  // kernel's buffer is full that is the rest of the batch. Never blocks, allocates or locks. A run
  // that the kernel refuses to segment is sent again as single datagrams; if it says EIO (a device
  // without checksum offload, IPsec on the way) segmentation is given up for good.
  SendOutcome send(std::span<const OutDatagram> batch, std::span<const UdpPath> paths);

  // Fills the arena with what is waiting, at most its capacity of trains, with one system call.
  // Never blocks, allocates or locks.
  ReceiveOutcome receive(UdpArena& arena);

 private:
  struct Outbox;  // what sendmmsg() reads: allocated once, rewritten per call

  UdpSocket(Sys& sys, UniqueFd fd, bool v6);
  Status equip(const UdpOptions& options);
  Status take_up(const UdpOptions& options);
  Status configure(const UdpOptions& options);
  Status set(int level, int name, int value, const char* what);
  [[nodiscard]] bool try_set(int level, int name, int value);
  void read_local();
  [[nodiscard]] size_t fill(std::span<const OutDatagram> batch, std::span<const UdpPath> paths);
  [[nodiscard]] static iovec* gather(std::span<const OutDatagram> run, iovec* piece);
  void address(msghdr& header, size_t index, const UdpPath& path);
  [[nodiscard]] size_t push(size_t runs, std::span<const OutDatagram> batch, SendOutcome& outcome);
  void refused(size_t index, int error, std::span<const OutDatagram> batch, SendOutcome& outcome);
  void send_singly(size_t index, std::span<const OutDatagram> batch, SendOutcome& outcome);
  int send_one(mmsghdr& message, SendOutcome& outcome);

  Sys* sys_;
  UniqueFd fd_;
  bool v6_;
  bool gso_ = false;
  bool gro_ = false;
  Endpoint local_;
  std::unique_ptr<Outbox> outbox_;
};

}  // namespace culvert::net
