#include "common/net/sys.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

namespace culvert::net {
namespace {

template <typename T>
T or_negated_errno(T result) {
  return result >= 0 ? result : static_cast<T>(-errno);
}

}  // namespace

int KernelSys::open(const char* path, int flags) {
  return or_negated_errno(::open(path, flags));
}

int KernelSys::ioctl(int fd, unsigned long request, void* argument) {
  return or_negated_errno(::ioctl(fd, request, argument));
}

ssize_t KernelSys::read(int fd, MutableBytes into) {
  return or_negated_errno(::read(fd, into.data(), into.size()));
}

ssize_t KernelSys::write(int fd, Bytes from) {
  return or_negated_errno(::write(fd, from.data(), from.size()));
}

ssize_t KernelSys::readv(int fd, std::span<const iovec> into) {
  return or_negated_errno(::readv(fd, into.data(), static_cast<int>(into.size())));
}

ssize_t KernelSys::writev(int fd, std::span<const iovec> from) {
  return or_negated_errno(::writev(fd, from.data(), static_cast<int>(from.size())));
}

}  // namespace culvert::net
