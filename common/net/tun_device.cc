#include "common/net/tun_device.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

namespace culvert::net {
namespace {

constexpr const char* kClonePath = "/dev/net/tun";

// Linux 6.2; the headers of Debian 12 are older. The kernel grants both or neither.
constexpr unsigned kTunUso = 0x20 | 0x40;  // TUN_F_USO4 and TUN_F_USO6

// A name for TUNSETIFF may hold one "%d", which the kernel fills in.
bool is_name_or_pattern(std::string_view name) {
  const size_t at = name.find("%d");
  if (at == std::string_view::npos) return is_interface_name(name);
  std::string without(name);
  without.erase(at, 2);
  return name.size() < IFNAMSIZ && (without.empty() || is_interface_name(without));
}

Error cannot_open(int error) {
  if (error == ENOENT || error == ENODEV || error == ENXIO) {
    return fail_errno(ErrorCode::kFailure, error, "no TUN support", kClonePath,
                      "load the module 'tun', or give the container the device");
  }
  const bool denied = error == EACCES || error == EPERM;
  return fail_errno(
      denied ? ErrorCode::kPermission : ErrorCode::kFailure, error, "cannot open the TUN device",
      kClonePath,
      denied ? "the device's owner, mode or the container's device rules forbid it" : "");
}

Error cannot_attach(int error, const TunOptions& options) {
  if (error == EPERM) {
    return fail_errno(ErrorCode::kPermission, error, "cannot create the TUN interface",
                      options.name, "run as root or with CAP_NET_ADMIN");
  }
  std::string hint;
  if (error == EBUSY || error == EEXIST) {
    hint = options.multi_queue
               ? "the name is taken: choose another"
               : "another program has the interface: stop it or choose another name";
  } else if (error == EINVAL) {
    hint = "an interface of this name exists and is of another kind";
  }
  return fail_errno(ErrorCode::kFailure, error, "cannot create the TUN interface", options.name,
                    std::move(hint));
}

short flags_for(const TunOptions& options) {
  unsigned flags = IFF_TUN | IFF_NO_PI;
  if (options.multi_queue) flags |= IFF_MULTI_QUEUE;
  if (options.must_be_new) flags |= IFF_TUN_EXCL;
  if (options.offloads) flags |= IFF_VNET_HDR;
  return static_cast<short>(flags);  // IFF_TUN_EXCL is the sign bit
}

void note(WriteOutcome& outcome, ssize_t result, size_t packets) {
  if (result >= 0) {
    outcome.written += packets;
  } else {
    outcome.dropped += packets;
    outcome.last_error = static_cast<int>(-result);
  }
}

// The one request here that takes its number as the argument itself.
bool set_offload(Sys& sys, int fd, uintptr_t flags) {
  return sys.ioctl(fd, TUNSETOFFLOAD, reinterpret_cast<void*>(flags)) >= 0;
}

// From the most to the least that a kernel may have. The setting is the device's, not the queue's.
// Nothing at all is what a fresh device has, and cannot be refused.
TunOffloads agree_on_offloads(Sys& sys, int fd) {
  constexpr uintptr_t kTcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  if (set_offload(sys, fd, kTcp | kTunUso)) return {.checksum = true, .tcp = true, .udp = true};
  if (set_offload(sys, fd, kTcp)) return {.checksum = true, .tcp = true, .udp = false};
  return {};
}

// Each queue starts with the kernel's default header, whose size is ours; say so all the same.
Status set_header_size(Sys& sys, int fd, const std::string& name) {
  int size = kVnetHeaderSize;
  const int result = sys.ioctl(fd, TUNSETVNETHDRSZ, &size);
  if (result >= 0) return {};
  return fail_errno(ErrorCode::kFailure, -result, "the TUN device refuses its packet header", name,
                    "switch its offloads off in the configuration");
}

}  // namespace

std::string_view name_of(const TunOffloads& offloads) {
  if (!offloads.tcp) return "none";
  return offloads.udp ? "tcp udp" : "tcp";
}

bool is_interface_name(std::string_view name) {
  if (name.empty() || name.size() >= IFNAMSIZ || name == "." || name == "..") return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    // Stricter than the kernel, which takes any byte above 0x7f: such names serve nobody.
    return c > ' ' && c < 0x7f && c != '/' && c != ':' && c != '%';
  });
}

Result<TunDevice> TunDevice::open(Sys& sys, const TunOptions& options) {
  if (!is_name_or_pattern(options.name)) {
    return fail(ErrorCode::kUsage, "not a possible name of an interface", options.name,
                "1 to 15 letters, digits, '-', '_' or '.'; %d stands for the first free number");
  }
  UniqueFd fd(sys.open(kClonePath, O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid()) return cannot_open(-fd.release());

  ifreq request{};
  std::memcpy(request.ifr_name, options.name.data(), options.name.size());
  request.ifr_flags = flags_for(options);
  const int attached = sys.ioctl(fd.get(), TUNSETIFF, &request);
  if (attached < 0) return cannot_attach(-attached, options);

  const size_t length = strnlen(request.ifr_name, sizeof request.ifr_name);
  TunDevice device(sys, std::move(fd), std::string(request.ifr_name, length));
  if (options.offloads) {
    if (const Status sized = set_header_size(sys, device.fd(), device.name()); !sized)
      return sized.error();
    device.has_vnet_header_ = true;
    device.offloads_ = agree_on_offloads(sys, device.fd());
  }
  return device;
}

ReadOutcome TunDevice::read_batch(PacketBatch& batch, size_t max_bytes) {
  ReadOutcome outcome;
  const size_t header = has_vnet_header_ ? kVnetHeaderSize : 0;
  while (!batch.full() && outcome.bytes < max_bytes) {
    const MutableBytes room = extend_front(batch.free_space(), header);
    const ssize_t length = sys_->read(fd_.get(), room);
    if (length > static_cast<ssize_t>(header)) {
      const size_t packet = static_cast<size_t>(length) - header;
      batch.commit(packet);
      ++outcome.packets;
      outcome.bytes += packet;
      continue;
    }
    if (length == -EINTR) continue;
    outcome.drained = length == -EAGAIN;
    if (!outcome.drained) outcome.error = length >= 0 ? EIO : static_cast<int>(-length);
    break;
  }
  return outcome;
}

WriteOutcome TunDevice::write_batch(std::span<const MutableBytes> packets) {
  assert(!has_vnet_header_);
  WriteOutcome outcome;
  for (const MutableBytes packet : packets) {
    ssize_t result = 0;
    do {
      result = sys_->write(fd_.get(), packet);
    } while (result == -EINTR);
    note(outcome, result, 1);
  }
  return outcome;
}

WriteOutcome TunDevice::write_merged(std::span<const TunWrite> writes) {
  assert(has_vnet_header_);
  WriteOutcome outcome;
  for (const TunWrite& write : writes) {
    ssize_t result = 0;
    do {
      result = sys_->writev(fd_.get(), write.parts);
    } while (result == -EINTR);
    note(outcome, result, write.packets);
  }
  return outcome;
}

}  // namespace culvert::net
