#include "server/privileges.h"

#include <unistd.h>

#include "common/helper/privileges.h"

namespace culvert::server {

Result<Account> plan_privileges(const std::string& user) {
  if (!helper::may_change_network()) {
    return fail(ErrorCode::kPermission,
                "the server needs the capability net_admin: for its TUN device, and for the host "
                "routes that come and go with sessions",
                {}, "start it as root, or give it to the service (AmbientCapabilities)");
  }
  if (::geteuid() != 0) {
    return Account{
        .name = "uid " + std::to_string(::geteuid()), .uid = ::geteuid(), .gid = ::getegid()};
  }
  auto account = find_account(user);
  if (!account) return account.error();
  if (!account->has_value()) {
    return fail(ErrorCode::kUsage, "there is no account \"" + user + "\" to run as", "user",
                "culvertd init creates it; or: useradd --system --no-create-home " + user);
  }
  return **account;
}

}  // namespace culvert::server
