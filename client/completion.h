// Names that complete on the command line: profiles, and tunnels that run or have left something.
#pragma once

#include <string>
#include <vector>

#include "common/cli/completion.h"

namespace culvert::client {

[[nodiscard]] std::vector<std::string> names_for(const cli::NameQuestion& question);

}  // namespace culvert::client
