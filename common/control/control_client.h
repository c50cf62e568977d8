// The calling end of the control protocol, for command lines: one blocking call, no loop.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "common/base/clock.h"
#include "common/base/result.h"

namespace culvert::control {

struct Request;

// Sends `request` to the program that listens at `path` and waits up to `timeout` for all of it:
// connecting, sending, the answer. Returns the result, or the Error that the program has sent;
// kNotRunning if nobody listens there, kPermission if we may not, kFailure if the answer is late,
// cut off or no answer.
Result<nlohmann::json> call(const std::string& path, const Request& request, Duration timeout);

}  // namespace culvert::control
