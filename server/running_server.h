// Commands talking to the running server over its control socket.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "common/base/result.h"
#include "server/commands.h"

namespace culvert::server {

// One request, and its answer (shapes: control_commands.h). Errors as of control::call().
// `arguments` is a JSON object.
[[nodiscard]] Result<nlohmann::json> ask_server(const std::string& socket,
                                                const std::string& command,
                                                const nlohmann::json& arguments);
[[nodiscard]] Result<nlohmann::json> ask_server(const std::string& socket,
                                                const std::string& command);

struct Reloaded {
  // False: no server runs, or the one that runs on this socket has another configuration; `note`
  // says which. Nothing was asked of it.
  bool told = false;
  std::string note;
  size_t sessions_ended = 0;
};

// Makes the server that runs with this configuration reload. An error means that it runs but could
// not or would not reload.
[[nodiscard]] Result<Reloaded> reload_running_server(const Place& place);

// True if a server with this configuration answers on the control socket.
[[nodiscard]] bool is_running(const Place& place);

}  // namespace culvert::server
