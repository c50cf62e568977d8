// Runs one `nft` transaction and waits for it. Internal to this folder.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"

namespace culvert::net {

// Feeds `json` to `nft -j -f -` in a clean environment and returns what it printed. nft commits all
// of it or nothing. Killed after ten seconds without a sign of life. Errors: kPermission if the
// kernel refuses, else kFailure with nft's own words; a missing program says what to install.
Result<std::string> run_nft(std::string_view json);

}  // namespace culvert::net
