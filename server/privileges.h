// Privileges: which ones the server needs, whether it has them, and giving up the rest.
//
// Sockets and TUN queues are opened first; then drop_privileges() changes to the service user,
// before any thread starts, because identity and capabilities belong to threads. Changes to the
// system are made by a helper process, which alone keeps a capability.
#pragma once

#include <string>

#include "common/base/result.h"
#include "server/service_user.h"

namespace culvert::server {

// Who the process is going to be. Started as root: the configured account, which must exist.
// Started as somebody else (by a service manager that has dropped root already): the present user,
// who must have CAP_NET_ADMIN. Errors: kPermission, kUsage for an account that does not exist.
[[nodiscard]] Result<Account> plan_privileges(const std::string& user);

enum class Keep : uint8_t {
  kNothing,
  kNetAdmin,  // CAP_NET_ADMIN: addresses and routes
};
// Becomes `account` and drops all capabilities that are not kept for good (bounding set,
// no_new_privs).
// REQUIRES: plan_privileges() gave the account; no other thread runs.
[[nodiscard]] Status drop_privileges(const Account& account, Keep keep);

}  // namespace culvert::server
