// The privileged helper: a process that does nothing but the requests of its program, those that it
// knows and that are in the program's scope. When the program is gone, however that came about, it
// puts everything back and ends.
#pragma once

#include <functional>
#include <string>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace culvert::helper {

// Serves on `socket` until its other end is closed. Returns the exit code: 0, or 1 when not
// everything could be put back or the program said what makes no sense.
// `reduce`: called once the journal is open, before the first request; gives up the privileges that
// the helper does not need. An error is the program's answer, and the end.
int serve(UniqueFd socket, const std::function<Status()>& reduce);

}  // namespace culvert::helper
