#include "common/helper/privileges.h"

#include <cap-ng.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "common/base/log.h"

namespace culvert::helper {
namespace {

constexpr auto kHeld = static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED);

void select_kept(Keep keep) {
  capng_clear(CAPNG_SELECT_ALL);
  if (keep == Keep::kNetAdmin) capng_update(CAPNG_ADD, kHeld, CAP_NET_ADMIN);
}

Error drop_error(int result) {
  return fail(ErrorCode::kPermission, "privileges could not be given up",
              "libcap-ng " + std::to_string(result),
              "is the program started with fewer privileges than root has?");
}

// From root to the service user. The bounding set can only be emptied with CAP_SETPCAP, which a
// container's root may lack; no_new_privs then still keeps what is gone from coming back.
Status change_user(uid_t uid, gid_t gid, Keep keep) {
  for (const int flags : {CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING | CAPNG_CLEAR_AMBIENT,
                          static_cast<int>(CAPNG_DROP_SUPP_GRP)}) {
    select_kept(keep);
    const int result = capng_change_id(static_cast<int>(uid), static_cast<int>(gid),
                                       static_cast<capng_flags_t>(flags));
    if (result == 0) return {};
    const bool retry = (flags & CAPNG_CLEAR_BOUNDING) != 0 && ::geteuid() == 0;
    if (!retry) return drop_error(result);
    log::warning("privileges", "the capability bounding set could not be emptied");
  }
  return {};
}

// The user stays; only capabilities go. Without CAP_SETPCAP the bounding set stays.
Status drop_capabilities(Keep keep) {
  capng_get_caps_process();
  const bool may_bound = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) != 0;
  select_kept(keep);
  const int result = capng_apply(may_bound ? CAPNG_SELECT_ALL : CAPNG_SELECT_CAPS);
  return result == 0 ? Status() : Status(drop_error(result));
}

// Sanitizer builds look for leaks through ptrace(2), which a process that has changed its user
// forbids to itself.
void allow_leak_check() {
#if defined(__SANITIZE_ADDRESS__)
  ::prctl(PR_SET_DUMPABLE, 1);
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
  ::prctl(PR_SET_DUMPABLE, 1);
#endif
#endif
}

}  // namespace

bool may_change_network() {
  return capng_get_caps_process() == 0 &&
         capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_ADMIN) != 0;
}

Status drop_privileges(uid_t uid, gid_t gid, Keep keep) {
  const bool other = uid != ::geteuid() || gid != ::getegid();
  if (Status dropped = other ? change_user(uid, gid, keep) : drop_capabilities(keep); !dropped) {
    return dropped;
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return fail_errno(ErrorCode::kPermission, errno, "no_new_privs could not be set");
  }
  allow_leak_check();
  return {};
}

}  // namespace culvert::helper
