#include "common/net/tun_device.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace culvert::net {
namespace {

constexpr const char* kClonePath = "/dev/net/tun";

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
  return static_cast<short>(flags);  // IFF_TUN_EXCL is the sign bit
}

}  // namespace

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
  return TunDevice(sys, std::move(fd), std::string(request.ifr_name, length));
}

ReadOutcome TunDevice::read_batch(PacketBatch& batch, size_t max_bytes) {
  ReadOutcome outcome;
  while (!batch.full() && outcome.bytes < max_bytes) {
    const ssize_t length = sys_->read(fd_.get(), batch.free_space());
    if (length > 0) {
      batch.commit(static_cast<size_t>(length));
      ++outcome.packets;
      outcome.bytes += static_cast<size_t>(length);
      continue;
    }
    if (length == -EINTR) continue;
    outcome.drained = length == -EAGAIN;
    if (!outcome.drained) outcome.error = length == 0 ? EIO : static_cast<int>(-length);
    break;
  }
  return outcome;
}

WriteOutcome TunDevice::write_batch(std::span<const MutableBytes> packets) {
  WriteOutcome outcome;
  for (const MutableBytes packet : packets) {
    ssize_t result = 0;
    do {
      result = sys_->write(fd_.get(), packet);
    } while (result == -EINTR);
    if (result >= 0) {
      ++outcome.written;
    } else {
      ++outcome.dropped;
      outcome.last_error = static_cast<int>(-result);
    }
  }
  return outcome;
}

}  // namespace culvert::net
