// Runs a program of the system and waits for it. Internal to this folder, but for is_installed().
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace culvert::net {

struct ProgramResult {
  bool succeeded = false;  // ended by itself with 0
  std::string output;      // standard output and error, the first 64 KB
};

// Looks argv[0] up in /usr/sbin, /usr/bin, /sbin and /bin, and runs it with `input` as its standard
// input, in an environment of PATH and LC_ALL=C alone. Killed after ten seconds without a sign of
// life. kFailure if it could not be run to its end; `package`: what to install if it is missing.
Result<ProgramResult> run_program(const std::vector<std::string>& argv, std::string_view input,
                                  std::string_view package);

// In one of those folders.
[[nodiscard]] bool is_installed(std::string_view program);

}  // namespace culvert::net
