// SystemRequest: a change to the system as a plain value, and its one-line text form.
// Values alone: nothing here touches the system (system_ops.h does). The text form is what the undo
// journal keeps and what a privileged helper process would be sent, so its parser is strict:
//
//   add_route destination=10.0.0.0/8 type=unicast table=254 device=culvert0 mtu=1390
//
// Values are percent-encoded where they contain anything but letters, digits and . _ : / -
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "common/base/address.h"
#include "common/base/result.h"
#include "common/net/netlink.h"
#include "common/net/resolver_setup.h"

namespace culvert::net {

struct SetLink {
  LinkChange change;
  friend bool operator==(const SetLink&, const SetLink&) = default;
};
struct AddAddress {
  std::string device;
  Prefix address;
  friend bool operator==(const AddAddress&, const AddAddress&) = default;
};
struct DelAddress {
  std::string device;
  Prefix address;
  friend bool operator==(const DelAddress&, const DelAddress&) = default;
};
struct AddRoute {
  Route route;
  friend bool operator==(const AddRoute&, const AddRoute&) = default;
};
struct DelRoute {
  Route route;
  friend bool operator==(const DelRoute&, const DelRoute&) = default;
};
struct AddRule {
  Rule rule;
  friend bool operator==(const AddRule&, const AddRule&) = default;
};
struct DelRule {
  Rule rule;
  friend bool operator==(const DelRule&, const DelRule&) = default;
};
// A file below /proc/sys. Allowed are net/ipv4/conf/DEVICE/NAME and net/ipv6/conf/DEVICE/NAME,
// where DEVICE is a device's name (not "all" or "default"), and net/ipv6/conf/all/forwarding.
struct SetSysctl {
  std::string path;   // relative to /proc/sys, with slashes: "net/ipv4/conf/culvert0/forwarding"
  std::string value;  // 1 to 64 printable characters
  friend bool operator==(const SetSysctl&, const SetSysctl&) = default;
};
// One atomic transaction for `nft -j -f -`; `undo` is the transaction that takes it back (empty:
// there is nothing to take back).
struct RunNft {
  std::string json;
  std::string undo{};
  friend bool operator==(const RunNft&, const RunNft&) = default;
};

// Tells the machine's resolver, in place of what it was told about this device before.
struct SetResolver {
  ResolverSetup setup;
  friend bool operator==(const SetResolver&, const SetResolver&) = default;
};
// Harmless if it was not told.
struct ClearResolver {
  ResolverKind kind = ResolverKind::kResolved;
  std::string device;
  friend bool operator==(const ClearResolver&, const ClearResolver&) = default;
};

using SystemRequest = std::variant<SetLink, AddAddress, DelAddress, AddRoute, DelRoute, AddRule,
                                   DelRule, SetSysctl, RunNft, SetResolver, ClearResolver>;

// A request longer than this as text is refused by validate() and by the parser.
constexpr size_t kMaxRequestText = size_t{4} << 20;

// Is the request one that we would ever make: names, paths, families and sizes. kUsage if not.
Status validate(const SystemRequest& request);

// One line, no newline at the end. REQUIRES: nothing; every request has a text.
[[nodiscard]] std::string to_text(const SystemRequest& request);

// The inverse of to_text(): takes exactly what it gives. Everything else, and whatever validate()
// refuses, is an error (kUsage).
Result<SystemRequest> parse_request(std::string_view line);

// "add route 10.0.0.0/8 dev culvert0", for a log or an error.
[[nodiscard]] std::string describe(const SystemRequest& request);

}  // namespace culvert::net
