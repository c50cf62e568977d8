#include "common/net/network_events.h"

#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "common/net/netlink_message.h"

namespace culvert::net {
namespace {

// What decides whether packets leave by a link. if(7) has these in <net/if.h>, and the carrier
// (IFF_LOWER_UP) in <linux/if.h>, which cannot be included beside it.
constexpr unsigned kLowerUp = 1U << 16;
constexpr unsigned kCarriesPackets = IFF_UP | IFF_RUNNING | kLowerUp;

constexpr unsigned kGroups =
    RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;

const nlmsghdr* header_of(Bytes message) {
  return reinterpret_cast<const nlmsghdr*>(message.data());
}

// The fixed part behind the header; false: the message is too short for one.
template <typename Fixed>
bool read_fixed(Bytes message, Fixed& fixed) {
  if (message.size() < NLMSG_HDRLEN + sizeof fixed) return false;
  std::memcpy(&fixed, message.data() + NLMSG_HDRLEN, sizeof fixed);
  return true;
}

}  // namespace

int interface_index(const std::string& name) {
  return static_cast<int>(::if_nametoindex(name.c_str()));
}

Result<NetworkEvents> NetworkEvents::open(int own_device) {
  UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE));
  sockaddr_nl name{};
  name.nl_family = AF_NETLINK;
  name.nl_groups = kGroups;
  if (!socket.valid() ||
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) {
    return fail_errno(ErrorCode::kFailure, errno, "cannot listen to changes of the network",
                      "netlink");
  }
  return NetworkEvents(std::move(socket), own_device);
}

bool NetworkEvents::read() {
  bool news = false;
  while (true) {
    sockaddr_nl sender{};
    socklen_t length = sizeof sender;
    const ssize_t size = ::recvfrom(socket_.get(), buffer_.data(), buffer_.size(), 0,
                                    reinterpret_cast<sockaddr*>(&sender), &length);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == ENOBUFS) {  // the socket's buffer was full
      news = true;
      continue;
    }
    if (size <= 0) return news;
    if (sender.nl_pid != 0) continue;  // not the kernel
    Bytes rest = Bytes(buffer_).first(static_cast<size_t>(size));
    while (rest.size() >= sizeof(nlmsghdr)) {
      const size_t one = header_of(rest)->nlmsg_len;
      if (one < sizeof(nlmsghdr) || one > rest.size()) break;
      if (is_news(rest.first(one))) news = true;
      rest = rest.subspan(std::min<size_t>(NLMSG_ALIGN(one), rest.size()));
    }
  }
}

bool NetworkEvents::is_news(Bytes message) {
  switch (header_of(message)->nlmsg_type) {
    case RTM_NEWLINK:
      return link_is_news(message, false);
    case RTM_DELLINK:
      return link_is_news(message, true);
    case RTM_NEWADDR:
      return address_is_news(message, false);
    case RTM_DELADDR:
      return address_is_news(message, true);
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return route_is_news(message);
    default:
      return false;
  }
}

bool NetworkEvents::link_is_news(Bytes message, bool gone) {
  ifinfomsg link{};
  if (!read_fixed(message, link) || link.ifi_index == own_device_) return false;
  if (gone) {
    links_.erase(link.ifi_index);
    return true;
  }
  const unsigned flags = link.ifi_flags & kCarriesPackets;
  const auto [known, is_new] = links_.try_emplace(link.ifi_index, flags);
  return is_new || std::exchange(known->second, flags) != flags;
}

bool NetworkEvents::address_is_news(Bytes message, bool gone) {
  ifaddrmsg head{};
  if (!read_fixed(message, head) || static_cast<int>(head.ifa_index) == own_device_) return false;
  const Attributes attributes(header_of(message), sizeof head, IFA_MAX);
  const Bytes local = attributes.bytes(IFA_LOCAL);
  const Bytes address = local.empty() ? attributes.bytes(IFA_ADDRESS) : local;
  const std::string key = std::to_string(head.ifa_index) + " " + std::string(as_text(address));
  return gone ? (addresses_.erase(key), true) : addresses_.insert(key).second;
}

bool NetworkEvents::route_is_news(Bytes message) const {
  rtmsg route{};
  if (!read_fixed(message, route) || (route.rtm_flags & RTM_F_CLONED) != 0) return false;
  // The others come with addresses, which are told anyway, or discard, as ours do (on "lo", if they
  // are IPv6).
  if (route.rtm_type != RTN_UNICAST) return false;
  const Attributes attributes(header_of(message), sizeof route, RTA_MAX);
  const auto device = attributes.u32(RTA_OIF);
  return !device || static_cast<int>(*device) != own_device_;  // none: it has several
}

}  // namespace culvert::net
