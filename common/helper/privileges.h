// Giving up privileges for good.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "common/base/result.h"

namespace culvert::helper {

// This process has CAP_NET_ADMIN, capabilities(7).
[[nodiscard]] bool may_change_network();

enum class Keep : uint8_t {
  kNothing,
  kNetAdmin,  // CAP_NET_ADMIN: addresses, routes, marked sockets
};
// Becomes this user, without supplementary groups, and drops all capabilities that are not kept for
// good (bounding set, no_new_privs). kPermission if that cannot be.
// REQUIRES: no other thread runs, because identity and capabilities belong to threads.
[[nodiscard]] Status drop_privileges(uid_t uid, gid_t gid, Keep keep);

}  // namespace culvert::helper
