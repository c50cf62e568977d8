// Privileges: which ones the server needs, whether it has them, and giving up the rest.
//
// Sockets, TUN queue and journal are opened first; then drop_privileges() changes to the service
// user, before any thread starts, because identity and capabilities belong to threads.
#pragma once

#include <string>

#include "common/base/result.h"
#include "server/service_user.h"

namespace culvert::server {

// Who the process is going to be. Started as root: the configured account, which must exist.
// Started as somebody else (by a service manager that has dropped root already): the present user,
// who must have CAP_NET_ADMIN. Errors: kPermission, kUsage for an account that does not exist.
[[nodiscard]] Result<Account> plan_privileges(const std::string& user);

// Becomes `account`, keeps the capabilities that are listed with their reasons in privileges.cc,
// drops all others for good (bounding set, no_new_privs).
// REQUIRES: plan_privileges() gave the account; no other thread runs.
[[nodiscard]] Status drop_privileges(const Account& account);

}  // namespace culvert::server
