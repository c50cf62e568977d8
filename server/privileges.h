// Who the server is going to be. Sockets and TUN queues are opened first; then it becomes that user
// without any privilege, before any thread starts. Changes to the system are made by a helper
// process (common/helper), which alone keeps a capability.
#pragma once

#include <string>

#include "common/base/result.h"
#include "server/service_user.h"

namespace culvert::server {

// Who the process is going to be. Started as root: the configured account, which must exist.
// Started as somebody else (by a service manager that has dropped root already): the present user,
// who must have CAP_NET_ADMIN. Errors: kPermission, kUsage for an account that does not exist.
[[nodiscard]] Result<Account> plan_privileges(const std::string& user);

}  // namespace culvert::server
