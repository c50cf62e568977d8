// Splits a program in three, so that none of them can be killed without the system being put back:
//
//   program ── talks to the network; gives up all its privileges
//     └─ guard ── does nothing but wait for the other two; puts back what both have left
//          └─ helper ── does the privileged work that the program asks for (helper_process.h)
//
// The program keeps its process id. It ends when its helper is gone (RemoteSystemOps says so), and
// the helper when the program is gone.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace culvert::helper {

struct SplitOptions {
  std::string journal;                // absolute path, as in Begin
  std::vector<int> of_the_program{};  // descriptors that only the program may keep
  std::function<Status()> reduce{};   // as in serve()
};

// Returns in the program, with its socket to the helper, which is not non-blocking. In the other
// two processes it does not return. REQUIRES: no other threads; standard error takes log lines of
// all three.
Result<UniqueFd> split_process(const SplitOptions& options);

}  // namespace culvert::helper
