// FakeSys: the system calls of net::Sys in memory. Reads come from a queue of packets, writes are
// kept, and any call can be told to fail. Records what TUNSETIFF was asked for.
#pragma once

#include <fcntl.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "common/net/sys.h"

namespace culvert::fakes {

class FakeSys final : public net::Sys {
 public:
  using Packet = std::vector<std::byte>;

  // What the calls find and answer; set by the test.
  std::deque<Packet> to_read;    // then EAGAIN
  std::deque<int> read_errors;   // given, in order, before the packets; 0 lets one packet pass
  std::deque<int> write_errors;  // one per write; 0 or none left: the write succeeds
  int open_error = 0;
  int ioctl_error = 0;
  std::string kernel_name = "tun7";  // replaces a name with %d

  // What was asked; read by the test.
  std::vector<Packet> written;
  std::string opened_path;
  int opened_flags = 0;
  std::string asked_name;
  unsigned asked_flags = 0;
  size_t reads = 0;

  int open(const char* path, int flags) override {
    opened_path = path;
    opened_flags = flags;
    // A real descriptor, because its owner will close it.
    return open_error != 0 ? -open_error : ::open("/dev/null", O_RDWR | O_CLOEXEC);
  }
  int ioctl(int, unsigned long, void* argument) override {
    if (ioctl_error != 0) return -ioctl_error;
    auto* request = static_cast<ifreq*>(argument);
    asked_name = request->ifr_name;
    asked_flags = static_cast<unsigned short>(request->ifr_flags);
    if (asked_name.find('%') != std::string::npos) {
      std::memset(request->ifr_name, 0, sizeof request->ifr_name);
      std::memcpy(request->ifr_name, kernel_name.data(), kernel_name.size());
    }
    return 0;
  }
  ssize_t read(int, MutableBytes into) override {
    ++reads;
    if (!read_errors.empty()) {
      const int error = read_errors.front();
      read_errors.pop_front();
      if (error != 0) return -error;
    }
    if (to_read.empty()) return -EAGAIN;
    const Packet packet = std::move(to_read.front());
    to_read.pop_front();
    const size_t length = std::min(packet.size(), into.size());
    std::copy_n(packet.begin(), length, into.begin());
    return static_cast<ssize_t>(length);
  }
  ssize_t write(int, Bytes from) override {
    if (!write_errors.empty()) {
      const int error = write_errors.front();
      write_errors.pop_front();
      if (error != 0) return -error;
    }
    written.emplace_back(from.begin(), from.end());
    return static_cast<ssize_t>(from.size());
  }
  ssize_t readv(int, std::span<const iovec>) override { return -ENOSYS; }
  ssize_t writev(int, std::span<const iovec>) override { return -ENOSYS; }
};

}  // namespace culvert::fakes
