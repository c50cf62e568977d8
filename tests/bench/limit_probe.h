// What the two limit probes share. A probe is the least that a user-space tunnel has to do (TUN
// with superpackets, AES-128-GCM by ipsec-mb, one socket, one thread), so its figure is what
// Culvert is measured against. It protects nothing: the key is fixed and anybody may send. Apart
// from the aliases of common/base it shares no code with the product, so that a mistake there
// cannot lower the yardstick. Any error ends the program.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <intel-ipsec-mb.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/unique_fd.h"

namespace culvert::bench {

// The header before each packet of a TUN with IFF_VNET_HDR, in the 12-byte variant, which puts the
// packet on a 4-byte boundary. Written out here because <linux/virtio_net.h> is no C++.
struct VnetHeader {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t header_length;
  uint16_t gso_size;
  uint16_t checksum_start;
  uint16_t checksum_offset;
  uint16_t buffers;
};
constexpr size_t kVnetSize = sizeof(VnetHeader);
static_assert(kVnetSize == 12);
constexpr uint8_t kNeedsChecksum = 1;
constexpr uint8_t kGsoNone = 0, kGsoTcpV4 = 1, kGsoUdpL4 = 5;

[[noreturn]] inline void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

inline int check(int result, const char* what) {
  if (result < 0) fail(what);
  return result;
}

inline VnetHeader load_vnet(const std::byte* at) {
  VnetHeader header;
  std::memcpy(&header, at, kVnetSize);
  return header;
}

// AES-128-GCM under a fixed key; nonces are the numbers that the caller gives.
class Aead {
 public:
  static constexpr size_t kTagSize = 16;

  Aead() : manager_(alloc_mb_mgr(0)) {
    if (manager_ == nullptr) fail("ipsec-mb");
    init_mb_mgr_auto(manager_, nullptr);
    const std::array<uint8_t, 16> key{1};
    IMB_AES128_GCM_PRE(manager_, key.data(), &key_);
  }
  Aead(const Aead&) = delete;
  Aead& operator=(const Aead&) = delete;
  ~Aead() { free_mb_mgr(manager_); }

  // REQUIRES: plain.size() + kTagSize bytes at `out`.
  void seal(Bytes plain, Bytes header, uint64_t number, std::byte* out) {
    const Nonce nonce(number);
    IMB_AES128_GCM_ENC(manager_, &key_, &context_, raw(out), raw(plain.data()), plain.size(),
                       nonce.bytes.data(), raw(header.data()), header.size(),
                       raw(out + plain.size()), kTagSize);
  }
  // REQUIRES: sealed.size() >= kTagSize; sealed.size() - kTagSize bytes at `out`.
  [[nodiscard]] bool open(Bytes sealed, Bytes header, uint64_t number, std::byte* out) {
    const Nonce nonce(number);
    const size_t size = sealed.size() - kTagSize;
    std::array<uint8_t, kTagSize> tag;
    IMB_AES128_GCM_DEC(manager_, &key_, &context_, raw(out), raw(sealed.data()), size,
                       nonce.bytes.data(), raw(header.data()), header.size(), tag.data(), kTagSize);
    return std::memcmp(tag.data(), sealed.data() + size, kTagSize) == 0;
  }

 private:
  struct Nonce {
    explicit Nonce(uint64_t number) { std::memcpy(bytes.data(), &number, sizeof number); }
    std::array<uint8_t, 12> bytes{};
  };
  static uint8_t* raw(std::byte* bytes) { return reinterpret_cast<uint8_t*>(bytes); }
  static const uint8_t* raw(const std::byte* bytes) {
    return reinterpret_cast<const uint8_t*>(bytes);
  }

  IMB_MGR* manager_;
  alignas(64) gcm_key_data key_{};  // which the library wants and its header does not say
  gcm_context_data context_{};
};

// A TUN that gives and takes IPv4 TCP superpackets. Never blocks. Up, with an address, is the
// caller's business.
inline UniqueFd open_tun(std::string_view name) {
  UniqueFd fd(check(::open("/dev/net/tun", O_RDWR | O_NONBLOCK), "/dev/net/tun"));
  ifreq request{};
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  check(ioctl(fd.get(), TUNSETIFF, &request), "TUNSETIFF");
  int header_size = kVnetSize;
  check(ioctl(fd.get(), TUNSETVNETHDRSZ, &header_size), "TUNSETVNETHDRSZ");
  check(ioctl(fd.get(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4), "TUNSETOFFLOAD");
  return fd;
}

// "198.51.100.1:7000".
inline sockaddr_in parse_endpoint(std::string_view text) {
  const size_t colon = text.find(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (colon == std::string_view::npos ||
      inet_pton(AF_INET, std::string(text.substr(0, colon)).c_str(), &address.sin_addr) != 1) {
    std::fprintf(stderr, "not an ADDRESS:PORT: %.*s\n", static_cast<int>(text.size()), text.data());
    std::exit(2);
  }
  address.sin_port = htons(static_cast<uint16_t>(std::atoi(text.data() + colon + 1)));
  return address;
}

inline const sockaddr* generic(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

inline void set_option(int fd, int level, int name, int value, const char* what) {
  check(setsockopt(fd, level, name, &value, sizeof value), what);
}

inline void make_nonblocking(int fd) {
  check(fcntl(fd, F_SETFL, O_NONBLOCK), "O_NONBLOCK");
}

// Level-triggered waiting for two descriptors.
class Poller {
 public:
  Poller() : fd_(check(epoll_create1(0), "epoll")) {}

  void add(int fd, uint32_t events) { control(EPOLL_CTL_ADD, fd, events); }
  void change(int fd, uint32_t events) { control(EPOLL_CTL_MOD, fd, events); }
  // Calls on_event(fd, events) for each descriptor that is ready.
  template <typename OnEvent>
  void wait(OnEvent&& on_event) {
    std::array<epoll_event, 2> ready;
    const int count = epoll_wait(fd_.get(), ready.data(), static_cast<int>(ready.size()), -1);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; ++i)
      on_event(ready[static_cast<size_t>(i)].data.fd, ready[static_cast<size_t>(i)].events);
  }

 private:
  void control(int operation, int fd, uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    check(epoll_ctl(fd_.get(), operation, fd, &event), "epoll_ctl");
  }

  UniqueFd fd_;
};

}  // namespace culvert::bench
