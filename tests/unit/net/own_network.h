// A network namespace of the test's own, entered by the test's thread. Needs root; skipped without.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/base/address.h"
#include "common/base/unique_fd.h"

namespace culvert::net::testing {

class OwnNetwork : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root for a network namespace";
    if (unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "no network namespace: " << strerror(errno);
  }

  // The kernel takes an IPv6 address into use a little after it was added.
  static void wait_for_address(const IpAddress& address) {
    sockaddr_storage name;
    const socklen_t length = Endpoint{address, 0}.to_sockaddr(name);
    for (int ms = 0; ms < 5000; ++ms) {
      const UniqueFd fd(socket(name.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), length) == 0) return;
      poll(nullptr, 0, 1);
    }
    FAIL() << address.to_string() << " stays unusable";
  }
};

}  // namespace culvert::net::testing
