// Netlink: links, addresses, routes and rules, one synchronous request at a time.
// One object is one socket, which stays in the network namespace it was opened in. Not for the
// packet path. Messages are built and parsed with libnl; errors carry the kernel's own text where
// it gives one. Linux: rtnetlink(7).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/address.h"
#include "common/base/result.h"

struct nl_sock;

namespace culvert::net {

constexpr uint32_t kMainTable = 254;

struct LinkInfo {
  int index = 0;
  std::string name;
  bool up = false;
  uint32_t mtu = 0;
  uint32_t tx_queue_len = 0;
  uint64_t rx_packets = 0, rx_bytes = 0, rx_dropped = 0;
  uint64_t tx_packets = 0, tx_bytes = 0, tx_dropped = 0;
};

// Changes to a link; what is absent stays as it is.
struct LinkChange {
  std::string device;
  std::optional<bool> up{};
  std::optional<uint32_t> mtu{};
  std::optional<uint32_t> tx_queue_len{};
  bool addr_gen_mode_none = false;  // no link-local IPv6 address of its own making
  std::optional<uint32_t> gso_max_size{};

  friend bool operator==(const LinkChange&, const LinkChange&) = default;
};

struct Route {
  enum class Type : uint8_t { kUnicast, kUnreachable, kThrow, kBlackhole };

  Prefix destination{};
  std::string device{};  // empty for a type that discards, or to let the gateway decide
  std::optional<IpAddress> gateway{};
  uint32_t table = kMainTable;
  Type type = Type::kUnicast;
  std::optional<uint32_t> mtu{};
  std::optional<uint32_t> metric{};  // absent: 0 for IPv4; the kernel makes it 1024 for IPv6
  std::optional<IpAddress> preferred_source{};
  bool onlink = false;  // the gateway is reachable on the device, whatever its own routes say

  // "unreachable 10.0.0.0/8 table 700", "10.1.0.0/16 via 192.0.2.1 dev eth0", for messages.
  [[nodiscard]] std::string to_string() const;
  friend bool operator==(const Route&, const Route&) = default;
};

// "Packets with this mark (or all) look up this table."
struct Rule {
  Family family = Family::kV4;
  uint32_t priority = 0;
  std::optional<uint32_t> fwmark{};
  uint32_t table = kMainTable;

  [[nodiscard]] std::string to_string() const;
  friend bool operator==(const Rule&, const Rule&) = default;
};

// Errors of all requests: kPermission (EPERM, with a hint about CAP_NET_ADMIN), else kFailure; what
// exists already is a failure that says what is there. Deleting what is absent is success. A failed
// request changes nothing and leaves the object usable.
class Netlink {
 public:
  static Result<Netlink> open();

  Netlink(Netlink&&) noexcept;
  Netlink& operator=(Netlink&&) noexcept;
  ~Netlink();

  // Fails if there is no link of that name.
  Result<int> link_index(std::string_view name);
  Result<LinkInfo> link(std::string_view name);
  Status set_link(const LinkChange& change);

  // The address with its length; a length below the full one makes the kernel add the connected
  // route to the main table.
  Status add_address(int index, const Prefix& address);
  // A device that is gone has taken its addresses along: success.
  Status del_address(std::string_view device, const Prefix& address);
  // The addresses of a link, in the kernel's order.
  Result<std::vector<Prefix>> addresses(int index);

  Status add_route(const Route& route);
  // Deletes the route with the same destination, table and type and, where given, metric, device
  // and gateway. A device that is gone has taken its routes along: success.
  Status del_route(const Route& route);
  // All single-path routes of a table, in the kernel's order. Other types (local, broadcast …) and
  // multipath routes are left out.
  Result<std::vector<Route>> routes(uint32_t table, Family family);

  Status add_rule(const Rule& rule);
  Status del_rule(const Rule& rule);
  // The rules that look up a table, in the order of their priorities.
  Result<std::vector<Rule>> rules(Family family);

 private:
  struct FreeSocket {
    void operator()(nl_sock* socket) const noexcept;
  };
  using Socket = std::unique_ptr<nl_sock, FreeSocket>;

  explicit Netlink(Socket socket);
  // Nothing if there is no link of that name.
  Result<std::optional<LinkInfo>> find_link(std::string_view name);
  Result<std::string> link_name(int index);
  Error route_exists(const Route& wanted);

  Socket socket_;
};

}  // namespace culvert::net
