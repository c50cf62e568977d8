// Names that complete on the command line: those of users.
#pragma once

#include <string>
#include <vector>

#include "common/cli/completion.h"

namespace culvert::server {

// The users beside the configuration that --dir or --config says, as far as we may look.
[[nodiscard]] std::vector<std::string> names_for(const cli::NameQuestion& question);

}  // namespace culvert::server
