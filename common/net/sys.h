// Sys: the system calls that the packet path makes, as a seam for tests. Each call returns what the
// system call returns, or the negated errno, so that a fake need not touch the thread's errno.
// The fake is tests/fakes/fake_sys.h. Netlink is not here: it is tested on the real kernel.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <span>

#include "common/base/bytes.h"

namespace culvert::net {

class Sys {
 public:
  virtual ~Sys() = default;

  // open(2). The caller owns the descriptor.
  virtual int open(const char* path, int flags) = 0;
  // ioctl(2) with a pointer argument; `argument` must be what `request` asks for.
  virtual int ioctl(int fd, unsigned long request, void* argument) = 0;
  virtual ssize_t read(int fd, MutableBytes into) = 0;
  virtual ssize_t write(int fd, Bytes from) = 0;
  virtual ssize_t readv(int fd, std::span<const iovec> into) = 0;
  virtual ssize_t writev(int fd, std::span<const iovec> from) = 0;

  // socket(2). The caller owns the descriptor.
  virtual int socket(int family, int type, int protocol) = 0;
  virtual int bind(int fd, const sockaddr_storage& address, socklen_t length) = 0;
  virtual int connect(int fd, const sockaddr_storage& address, socklen_t length) = 0;
  virtual int setsockopt(int fd, int level, int name, Bytes value) = 0;
  virtual int getsockname(int fd, sockaddr_storage& address) = 0;
  // recvmmsg(2) and sendmmsg(2) without waiting: how many messages were dealt with, 1 or more, or
  // the error of the first.
  virtual int recvmmsg(int fd, std::span<mmsghdr> messages) = 0;
  virtual int sendmmsg(int fd, std::span<mmsghdr> messages) = 0;
};

// The kernel. Stateless: any number of them, shared by any number of threads.
class KernelSys final : public Sys {
 public:
  int open(const char* path, int flags) override;
  int ioctl(int fd, unsigned long request, void* argument) override;
  ssize_t read(int fd, MutableBytes into) override;
  ssize_t write(int fd, Bytes from) override;
  ssize_t readv(int fd, std::span<const iovec> into) override;
  ssize_t writev(int fd, std::span<const iovec> from) override;
  int socket(int family, int type, int protocol) override;
  int bind(int fd, const sockaddr_storage& address, socklen_t length) override;
  int connect(int fd, const sockaddr_storage& address, socklen_t length) override;
  int setsockopt(int fd, int level, int name, Bytes value) override;
  int getsockname(int fd, sockaddr_storage& address) override;
  int recvmmsg(int fd, std::span<mmsghdr> messages) override;
  int sendmmsg(int fd, std::span<mmsghdr> messages) override;
};

}  // namespace culvert::net
