// SystemScope: which of the requests that make sense (validate() in system_request.h) this program
// ever makes. What stands behind the seam for privileged work is told it once, before the process
// that asks talks to strangers, and refuses everything else. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/result.h"
#include "common/net/system_request.h"

namespace culvert::net {

struct SystemScope {
  enum class Role : uint8_t {
    kServer,  // what hangs on its device; "unreachable" routes; forwarding
    kClient,  // what hangs on its device, name servers included; its own routing tables and the
              // rules that lead to them; how strictly other devices filter by source (rp_filter)
  };
  Role role = Role::kServer;
  std::string device;        // our TUN
  uint32_t first_table = 0;  // kClient: its tables are these, both included
  uint32_t last_table = 0;

  friend bool operator==(const SystemScope&, const SystemScope&) = default;
};

// kPermission if it is out of scope.
[[nodiscard]] Status permits(const SystemScope& scope, const SystemRequest& request);

}  // namespace culvert::net
