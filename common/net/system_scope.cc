#include "common/net/system_scope.h"

#include "common/base/text.h"

namespace culvert::net {
namespace {

struct Judge {
  const SystemScope& scope;

  [[nodiscard]] bool server() const { return scope.role == SystemScope::Role::kServer; }
  [[nodiscard]] bool ours(uint32_t table) const {
    return !server() && table >= scope.first_table && table <= scope.last_table;
  }
  [[nodiscard]] bool route(const Route& route) const {
    if (route.gateway || route.onlink) return false;
    const bool discards = route.type != Route::Type::kUnicast;
    if (discards) {
      return server() ? route.table == kMainTable && route.type == Route::Type::kUnreachable
                      : ours(route.table);
    }
    return route.device == scope.device && (route.table == kMainTable || ours(route.table));
  }
  // A rule that leads past the tunnel leads to where packets went before.
  [[nodiscard]] bool rule(const Rule& rule) const {
    return !server() && (ours(rule.table) || (rule.table == kMainTable && rule.fwmark));
  }

  bool operator()(const SetLink& r) const { return r.change.device == scope.device; }
  bool operator()(const AddAddress& r) const { return r.device == scope.device; }
  bool operator()(const DelAddress& r) const { return r.device == scope.device; }
  bool operator()(const AddRoute& r) const { return route(r.route); }
  bool operator()(const DelRoute& r) const { return route(r.route); }
  bool operator()(const AddRule& r) const { return rule(r.rule); }
  bool operator()(const DelRule& r) const { return rule(r.rule); }
  bool operator()(const SetSysctl& r) const {
    const auto parts = split(r.path, '/');
    if (parts.size() == 5 && parts[3] == scope.device) return true;
    if (server()) return r.path == "net/ipv6/conf/all/forwarding";
    return parts.size() == 5 && parts[1] == "ipv4" && parts[4] == "rp_filter" && r.value == "2";
  }
  // Neither has any so far.
  bool operator()(const RunNft& /*r*/) const { return false; }
  bool operator()(const SetResolver& r) const {
    return !server() && r.setup.device == scope.device;
  }
  bool operator()(const ClearResolver& r) const { return !server() && r.device == scope.device; }
};

}  // namespace

Status permits(const SystemScope& scope, const SystemRequest& request) {
  if (std::visit(Judge{scope}, request)) return {};
  return fail(ErrorCode::kPermission, "not a change that this program makes", describe(request));
}

}  // namespace culvert::net
