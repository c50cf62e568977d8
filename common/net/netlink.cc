#include "common/net/netlink.h"

#include <linux/rtnetlink.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "common/net/netlink_codec.h"

namespace culvert::net {
namespace {

constexpr int kDumpTries = 5;

int socket_option(nl_sock* socket, int option) {
  const int on = 1;
  return setsockopt(nl_socket_get_fd(socket), SOL_NETLINK, option, &on, sizeof on);
}

// The error of a request; `what` says what could not be done, `where` to what.
Error to_error(const Reply& reply, std::string what, std::string where) {
  if (reply.error == EPERM || reply.error == EACCES) {
    return fail_errno(ErrorCode::kPermission, reply.error, what, std::move(where),
                      "run as root or with CAP_NET_ADMIN");
  }
  if (reply.error == EEXIST) {
    return fail(ErrorCode::kFailure, what + ": it is there already", std::move(where));
  }
  if (!reply.text.empty()) what += " (the kernel says: " + reply.text + ")";
  return fail_errno(ErrorCode::kFailure, reply.error, what, std::move(where));
}

Status to_status(const Reply& reply, std::string what, std::string where) {
  if (reply.error == 0) return {};
  return to_error(reply, std::move(what), std::move(where));
}

// For deletions: what was not there is as good as deleted.
Status absent_is_success(const Reply& reply, std::initializer_list<int> absent, std::string what,
                         std::string where) {
  if (std::find(absent.begin(), absent.end(), reply.error) != absent.end()) return {};
  return to_status(reply, std::move(what), std::move(where));
}

// Dumps until one is not interrupted by changes; `start` empties what the last try collected.
Reply dump(nl_sock* socket, const Message& request, const std::function<void()>& start,
           const std::function<void(nlmsghdr*)>& on_message) {
  Reply reply;
  for (int i = 0; i < kDumpTries; ++i) {
    start();
    // A repeated request gets a new sequence number only if it has none.
    nlmsg_hdr(request.get())->nlmsg_seq = NL_AUTO_SEQ;
    reply = transact(socket, request, on_message);
    if (reply.error != EINTR) break;
  }
  return reply;
}

}  // namespace

void Netlink::FreeSocket::operator()(nl_sock* socket) const noexcept {
  nl_socket_free(socket);
}

Netlink::Netlink(Socket socket) : socket_(std::move(socket)) {}
Netlink::Netlink(Netlink&&) noexcept = default;
Netlink& Netlink::operator=(Netlink&&) noexcept = default;
Netlink::~Netlink() = default;

Result<Netlink> Netlink::open() {
  Socket socket(nl_socket_alloc());
  if (socket == nullptr) return fail(ErrorCode::kFailure, "out of memory", "netlink");
  // libnl opens with SOCK_CLOEXEC.
  if (const int result = nl_connect(socket.get(), NETLINK_ROUTE); result < 0) {
    return fail(ErrorCode::kFailure, nl_geterror(-result), "netlink");
  }
  // Both only sharpen answers: the kernel's explanations (4.12), dumps filtered by the kernel
  // (4.20).
  socket_option(socket.get(), NETLINK_EXT_ACK);
  socket_option(socket.get(), NETLINK_GET_STRICT_CHK);
  return Netlink(std::move(socket));
}

Result<std::optional<LinkInfo>> Netlink::find_link(std::string_view name) {
  std::optional<LinkInfo> found;
  const Reply reply = transact(socket_.get(), link_query(0, std::string(name)),
                               [&](nlmsghdr* m) { found = read_link(m); });
  if (reply.error == ENODEV) return std::optional<LinkInfo>();
  if (reply.error != 0) return to_error(reply, "cannot read the link", std::string(name));
  return found;
}

Result<LinkInfo> Netlink::link(std::string_view name) {
  auto found = find_link(name);
  if (!found) return found.error();
  if (!*found) return fail(ErrorCode::kFailure, "no such network interface", std::string(name));
  return **found;
}

Result<int> Netlink::link_index(std::string_view name) {
  const auto info = link(name);
  if (!info) return info.error();
  return info->index;
}

Result<std::string> Netlink::link_name(int index) {
  std::optional<LinkInfo> found;
  const Reply reply =
      transact(socket_.get(), link_query(index, ""), [&](nlmsghdr* m) { found = read_link(m); });
  if (reply.error != 0 || !found) {
    return to_error(reply, "cannot read the link", std::to_string(index));
  }
  return found->name;
}

Status Netlink::set_link(const LinkChange& change) {
  const auto index = link_index(change.device);
  if (!index) return index.error();
  const auto ask = [&](const LinkChange& part) {
    return transact(socket_.get(), link_request(*index, part));
  };
  if (!change.addr_gen_mode_none) {
    return to_status(ask(change), "cannot set up the link", change.device);
  }
  // The kernel brings a link up before it looks at the address mode (do_setlink() in
  // net/core/rtnetlink.c), and would have made a link-local address by then: the mode goes first.
  // It goes after the MTU, because below 1280 the link has no IPv6 that could have a mode.
  LinkChange sizes = change;
  sizes.addr_gen_mode_none = false;
  sizes.up.reset();
  Reply reply = ask(sizes);
  if (reply.error == 0) {
    reply = ask({.device = change.device, .addr_gen_mode_none = true});
    if (reply.error == EAFNOSUPPORT) reply = {};
  }
  if (reply.error == 0 && change.up) reply = ask({.device = change.device, .up = change.up});
  return to_status(reply, "cannot set up the link", change.device);
}

Status Netlink::add_address(int index, const Prefix& address) {
  const Reply reply = transact(
      socket_.get(), address_request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, address));
  return to_status(reply, "cannot add the address", address.to_string());
}

Status Netlink::del_address(std::string_view device, const Prefix& address) {
  const auto found = find_link(device);
  if (!found) return found.error();
  if (!*found) return {};
  const Message request = address_request(RTM_DELADDR, 0, (*found)->index, address);
  return absent_is_success(transact(socket_.get(), request), {EADDRNOTAVAIL, ENODEV},
                           "cannot delete the address", address.to_string());
}

Result<std::vector<Prefix>> Netlink::addresses(int index) {
  std::vector<Prefix> found;
  // Kernels without strict checking send the addresses of every link.
  const auto collect = [&](nlmsghdr* message) {
    const auto read = read_address(message);
    if (read && read->index == index) found.push_back(read->address);
  };
  const Reply reply = dump(
      socket_.get(), addresses_dump(index), [&] { found.clear(); }, collect);
  if (reply.error == ENODEV) return std::vector<Prefix>();
  if (reply.error != 0) return to_error(reply, "cannot read addresses", std::to_string(index));
  return found;
}

Status Netlink::add_route(const Route& route) {
  int index = 0;
  if (!route.device.empty()) {
    const auto found = link_index(route.device);
    if (!found) return found.error();
    index = *found;
  }
  const Reply reply =
      transact(socket_.get(), route_request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route, index));
  if (reply.error == EEXIST) return route_exists(route);
  return to_status(reply, "cannot add the route", route.to_string());
}

Error Netlink::route_exists(const Route& wanted) {
  std::string there = "another route to this destination";
  if (const auto all = routes(wanted.table, wanted.destination.address.family())) {
    const auto same = [&](const Route& route) {
      return route.destination == wanted.destination.network() &&
             effective_metric(route) == effective_metric(wanted);
    };
    const auto found = std::find_if(all->begin(), all->end(), same);
    if (found != all->end()) there = "'" + found->to_string() + "'";
  }
  return fail(ErrorCode::kFailure, "cannot add the route: " + there + " is there already",
              wanted.to_string(), "another VPN or an unclean stop? See 'ip route show table all'");
}

Status Netlink::del_route(const Route& route) {
  int index = 0;
  if (!route.device.empty()) {
    const auto found = find_link(route.device);
    if (!found) return found.error();
    if (!*found) return {};
    index = (*found)->index;
  }
  return absent_is_success(transact(socket_.get(), route_request(RTM_DELROUTE, 0, route, index)),
                           {ESRCH, ENOENT, ENODEV}, "cannot delete the route", route.to_string());
}

Result<std::vector<Route>> Netlink::routes(uint32_t table, Family family) {
  std::vector<ReadRoute> found;
  // Kernels without strict checking send every table.
  const auto collect = [&](nlmsghdr* message) {
    auto read = read_route(message);
    if (read && read->route.table == table) found.push_back(std::move(*read));
  };
  const Reply reply = dump(
      socket_.get(), routes_dump(table, family), [&] { found.clear(); }, collect);
  // ENOENT: nobody has used the table so far.
  if (reply.error != 0 && reply.error != ENOENT) {
    return to_error(reply, "cannot read routes", "table " + std::to_string(table));
  }
  std::map<int, std::string> names;
  std::vector<Route> result;
  for (ReadRoute& read : found) {
    if (read.index != 0 && names.count(read.index) == 0) {
      names[read.index] = link_name(read.index).value_or("?");
    }
    read.route.device = read.index != 0 ? names[read.index] : "";
    result.push_back(std::move(read.route));
  }
  return result;
}

Status Netlink::add_rule(const Rule& rule) {
  const Reply reply =
      transact(socket_.get(), rule_request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule));
  return to_status(reply, "cannot add the rule", rule.to_string());
}

Status Netlink::del_rule(const Rule& rule) {
  return absent_is_success(transact(socket_.get(), rule_request(RTM_DELRULE, 0, rule)),
                           {ENOENT, ESRCH}, "cannot delete the rule", rule.to_string());
}

Result<std::vector<Rule>> Netlink::rules(Family family) {
  std::vector<Rule> found;
  const auto collect = [&](nlmsghdr* message) {
    if (const auto rule = read_rule(message, family)) found.push_back(*rule);
  };
  const Reply reply = dump(
      socket_.get(), rules_dump(family), [&] { found.clear(); }, collect);
  if (reply.error != 0) return to_error(reply, "cannot read rules", "");
  return found;
}

}  // namespace culvert::net
