// FakeSys: the system calls of net::Sys in memory. Reads come from a queue of packets, writes are
// kept, and any call can be told to fail. Records what the TUN was asked for, and which socket
// options were set. Datagrams go through their own queues, in the shape in which the kernel has
// them: a train with its segment size.
#pragma once

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/base/address.h"
#include "common/net/sys.h"

namespace culvert::fakes {

class FakeSys final : public net::Sys {
 public:
  using Packet = std::vector<std::byte>;

  // One message of sendmmsg() or recvmmsg().
  struct Message {
    Packet bytes;
    uint16_t segment_size = 0;  // of UDP_SEGMENT or UDP_GRO; 0: there was none
    Endpoint peer;              // sent without a name (connected): 0.0.0.0:0
    IpAddress local;            // of the packet information; 0.0.0.0: there was none
    uint32_t interface = 0;
  };
  using Option = std::pair<int, int>;  // level and name

  // What the calls find and answer; set by the test.
  std::deque<Packet> to_read;    // then EAGAIN
  std::deque<int> read_errors;   // given, in order, before the packets; 0 lets one packet pass
  std::deque<int> write_errors;  // one per write; 0 or none left: the write succeeds
  int open_error = 0;
  int ioctl_error = 0;
  std::string kernel_name = "tun7";  // replaces a name with %d
  unsigned offload_flags = 0xff;     // that TUNSETOFFLOAD grants; asking for more is EINVAL
  int vnet_header_error = 0;
  int socket_error = 0;
  int bind_error = 0;
  int connect_error = 0;
  std::map<Option, int> option_errors;
  std::deque<Message> to_receive;   // then EAGAIN
  std::deque<int> receive_errors;   // as read_errors
  std::deque<int> send_errors;      // one per message; as write_errors
  int segmented_send_error = 0;     // of every message with UDP_SEGMENT
  size_t largest_datagram = 65507;  // beyond it: EMSGSIZE

  // What was asked; read by the test.
  std::vector<Packet> written;
  std::string opened_path;
  int opened_flags = 0;
  std::string asked_name;
  unsigned asked_flags = 0;
  unsigned asked_offloads = 0;
  int asked_vnet_header = 0;
  size_t reads = 0;
  int socket_family = 0;
  int socket_type = 0;
  Endpoint bound;
  Endpoint connected;
  std::map<Option, int> options;  // those that were set, as numbers
  std::vector<Message> sent;
  size_t send_calls = 0;
  size_t receive_calls = 0;

  int open(const char* path, int flags) override {
    opened_path = path;
    opened_flags = flags;
    return open_error != 0 ? -open_error : descriptor();
  }
  int ioctl(int, unsigned long request_code, void* argument) override {
    if (ioctl_error != 0) return -ioctl_error;
    if (request_code == TUNSETOFFLOAD) {
      const auto flags = reinterpret_cast<uintptr_t>(argument);
      if ((flags & ~offload_flags) != 0) return -EINVAL;
      asked_offloads = static_cast<unsigned>(flags);
      return 0;
    }
    if (request_code == TUNSETVNETHDRSZ) {
      if (vnet_header_error != 0) return -vnet_header_error;
      std::memcpy(&asked_vnet_header, argument, sizeof asked_vnet_header);
      return 0;
    }
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
    if (const int error = next_of(read_errors); error != 0) return -error;
    if (to_read.empty()) return -EAGAIN;
    const Packet packet = std::move(to_read.front());
    to_read.pop_front();
    const size_t length = std::min(packet.size(), into.size());
    std::copy_n(packet.begin(), length, into.begin());
    return static_cast<ssize_t>(length);
  }
  ssize_t write(int, Bytes from) override {
    if (const int error = next_of(write_errors); error != 0) return -error;
    written.emplace_back(from.begin(), from.end());
    return static_cast<ssize_t>(from.size());
  }
  ssize_t readv(int, std::span<const iovec>) override { return -ENOSYS; }
  ssize_t writev(int fd, std::span<const iovec> from) override {
    return write(fd, gather(from.data(), from.size()));
  }

  int socket(int family, int type, int) override {
    socket_family = family;
    socket_type = type;
    return socket_error != 0 ? -socket_error : descriptor();
  }
  int bind(int, const sockaddr_storage& address, socklen_t) override {
    bound = Endpoint::from_sockaddr(address);
    return -bind_error;
  }
  int connect(int, const sockaddr_storage& address, socklen_t) override {
    connected = Endpoint::from_sockaddr(address);
    return -connect_error;
  }
  int setsockopt(int, int level, int name, Bytes value) override {
    if (const auto found = option_errors.find({level, name}); found != option_errors.end())
      return -found->second;
    int number = 0;
    std::memcpy(&number, value.data(), std::min(value.size(), sizeof number));
    options[{level, name}] = number;
    return 0;
  }
  int getsockname(int, sockaddr_storage& address) override {
    return bound.to_sockaddr(address) > 0 ? 0 : -EINVAL;
  }
  int recvmmsg(int, std::span<mmsghdr> messages) override {
    ++receive_calls;
    if (const int error = next_of(receive_errors); error != 0) return -error;
    size_t count = 0;
    for (; count < messages.size() && !to_receive.empty(); ++count) {
      deliver(to_receive.front(), messages[count]);
      to_receive.pop_front();
    }
    return count > 0 ? static_cast<int>(count) : -EAGAIN;
  }
  int sendmmsg(int, std::span<mmsghdr> messages) override {
    ++send_calls;
    size_t count = 0;
    for (; count < messages.size(); ++count) {
      // As the kernel: an error is only told when nothing was sent before it, and comes again.
      const bool scripted = !send_errors.empty();
      const int error = scripted && send_errors.front() != 0 ? send_errors.front()
                                                             : take(messages[count].msg_hdr);
      if (error != 0 && count > 0) break;
      if (scripted) send_errors.pop_front();
      if (error != 0) return -error;
    }
    return static_cast<int>(count);
  }

 private:
  // A real one, because its owner will close it.
  static int descriptor() { return ::open("/dev/null", O_RDWR | O_CLOEXEC); }
  static int next_of(std::deque<int>& errors) {
    if (errors.empty()) return 0;
    const int error = errors.front();
    errors.pop_front();
    return error;
  }
  static Packet gather(const iovec* parts, size_t count) {
    Packet all;
    for (const iovec& part : std::span(parts, count)) {
      const Bytes bytes(static_cast<const std::byte*>(part.iov_base), part.iov_len);
      all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return all;
  }
  static IpAddress unmapped(const in6_addr& address) {
    sockaddr_storage storage{};
    sockaddr_in6 in6{};
    in6.sin6_family = AF_INET6;
    in6.sin6_addr = address;
    std::memcpy(&storage, &in6, sizeof in6);
    return Endpoint::from_sockaddr(storage).address;
  }

  static Message describe(msghdr& header) {
    Message message;
    message.bytes = gather(header.msg_iov, header.msg_iovlen);
    if (header.msg_namelen > 0) {
      sockaddr_storage storage{};
      std::memcpy(&storage, header.msg_name, header.msg_namelen);
      message.peer = Endpoint::from_sockaddr(storage);
    }
    for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
      if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_SEGMENT)
        std::memcpy(&message.segment_size, CMSG_DATA(c), sizeof message.segment_size);
      if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
        in_pktinfo info{};
        std::memcpy(&info, CMSG_DATA(c), sizeof info);
        message.local = IpAddress::v4(ntohl(info.ipi_spec_dst.s_addr));
        message.interface = static_cast<uint32_t>(info.ipi_ifindex);
      }
      if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
        in6_pktinfo info{};
        std::memcpy(&info, CMSG_DATA(c), sizeof info);
        message.local = unmapped(info.ipi6_addr);
        message.interface = info.ipi6_ifindex;
      }
    }
    return message;
  }

  int take(msghdr& header) {
    Message message = describe(header);
    if (message.segment_size != 0 && segmented_send_error != 0) return segmented_send_error;
    const size_t datagram = message.segment_size != 0 ? message.segment_size : message.bytes.size();
    if (datagram > largest_datagram) return EMSGSIZE;
    sent.push_back(std::move(message));
    return 0;
  }

  template <typename T>
  static void add_control(msghdr& header, size_t& used, int level, int type, const T& value) {
    const size_t space = CMSG_SPACE(sizeof value);
    if (used + space > header.msg_controllen) {
      header.msg_flags |= MSG_CTRUNC;
      return;
    }
    auto* control = reinterpret_cast<cmsghdr*>(static_cast<std::byte*>(header.msg_control) + used);
    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(sizeof value);
    std::memcpy(CMSG_DATA(control), &value, sizeof value);
    used += space;
  }

  void deliver(const Message& message, mmsghdr& into) const {
    msghdr& header = into.msg_hdr;
    header.msg_flags = 0;
    const iovec& room = header.msg_iov[0];
    const size_t length = std::min(message.bytes.size(), room.iov_len);
    std::copy_n(message.bytes.begin(), length, static_cast<std::byte*>(room.iov_base));
    if (length < message.bytes.size()) header.msg_flags |= MSG_TRUNC;
    into.msg_len = static_cast<unsigned>(length);
    sockaddr_storage storage{};
    header.msg_namelen = message.peer.to_sockaddr(storage);
    std::memcpy(header.msg_name, &storage, header.msg_namelen);

    size_t used = 0;
    if (message.segment_size != 0)
      add_control(header, used, IPPROTO_UDP, UDP_GRO, int{message.segment_size});
    if (message.local.is_v4() && socket_family == AF_INET) {
      in_pktinfo info{};
      info.ipi_ifindex = static_cast<int>(message.interface);
      info.ipi_addr.s_addr = info.ipi_spec_dst.s_addr = htonl(message.local.v4_value());
      add_control(header, used, IPPROTO_IP, IP_PKTINFO, info);
    } else if (socket_family == AF_INET6) {
      in6_pktinfo info{};
      info.ipi6_ifindex = message.interface;
      const Bytes bytes = message.local.bytes();
      if (message.local.is_v4()) info.ipi6_addr.s6_addr[10] = info.ipi6_addr.s6_addr[11] = 0xff;
      std::memcpy(info.ipi6_addr.s6_addr + 16 - bytes.size(), bytes.data(), bytes.size());
      add_control(header, used, IPPROTO_IPV6, IPV6_PKTINFO, info);
    }
    header.msg_controllen = used;
  }
};

}  // namespace culvert::fakes
