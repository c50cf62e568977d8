// TunSteering: which queue of a TUN device a packet comes out of, by its destination: a small
// program in the kernel that looks the address up (TUNSETSTEERINGEBPF; Linux 4.16 with eBPF).
// Without it the kernel goes by its memory of where a flow's other direction was written, and by
// hash.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/address.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/net/sys.h"
#include "common/net/tun_device.h"

namespace culvert::net {

class TunSteering {
 public:
  // For the whole device that `queue` belongs to, until it is gone. `sys` and the queue must
  // outlive this. Needs CAP_NET_ADMIN and CAP_BPF, set() and erase() nothing (Linux 5.19; before
  // that CAP_BPF where unprivileged BPF is off). Errors: kPermission, kFailure (a kernel without
  // it).
  static Result<TunSteering> attach(Sys& sys, const TunDevice& queue);

  TunSteering(TunSteering&&) noexcept = default;
  TunSteering& operator=(TunSteering&&) noexcept = default;

  // Packets for the network come out of queue number `queue`, in the order in which they were
  // opened; the longest prefix decides. Replaces what was said before about the same prefix. Other
  // destinations go by hash.
  Status set(const Prefix& prefix, uint32_t queue);
  // Nothing if it was never said.
  void erase(const Prefix& prefix);
  // Leaves the choice to the kernel again.
  void detach();

 private:
  TunSteering(Sys& sys, int queue, UniqueFd map, UniqueFd program)
      : sys_(&sys), queue_(queue), map_(std::move(map)), program_(std::move(program)) {}

  Sys* sys_;
  int queue_;
  UniqueFd map_;
  UniqueFd program_;
};

}  // namespace culvert::net
