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

int KernelSys::socket(int family, int type, int protocol) {
  return or_negated_errno(::socket(family, type, protocol));
}

int KernelSys::bind(int fd, const sockaddr_storage& address, socklen_t length) {
  return or_negated_errno(::bind(fd, reinterpret_cast<const sockaddr*>(&address), length));
}

int KernelSys::connect(int fd, const sockaddr_storage& address, socklen_t length) {
  return or_negated_errno(::connect(fd, reinterpret_cast<const sockaddr*>(&address), length));
}

int KernelSys::setsockopt(int fd, int level, int name, Bytes value) {
  const auto length = static_cast<socklen_t>(value.size());
  return or_negated_errno(::setsockopt(fd, level, name, value.data(), length));
}

int KernelSys::getsockname(int fd, sockaddr_storage& address) {
  socklen_t length = sizeof address;
  return or_negated_errno(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length));
}

int KernelSys::recvmmsg(int fd, std::span<mmsghdr> messages) {
  const auto count = static_cast<unsigned>(messages.size());
  return or_negated_errno(::recvmmsg(fd, messages.data(), count, MSG_DONTWAIT, nullptr));
}

int KernelSys::sendmmsg(int fd, std::span<mmsghdr> messages) {
  const auto count = static_cast<unsigned>(messages.size());
  return or_negated_errno(::sendmmsg(fd, messages.data(), count, MSG_DONTWAIT | MSG_NOSIGNAL));
}

}  // namespace culvert::net
