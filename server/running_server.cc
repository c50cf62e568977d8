#include "server/running_server.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/control/control_client.h"
#include "common/control/protocol.h"

namespace culvert::server {
namespace {

using control::Json;

constexpr std::chrono::seconds kPatience{10};

bool same_file(const std::string& a, const std::string& b) {
  std::error_code error;
  return a == b || (std::filesystem::equivalent(a, b, error) && !error);
}

// Whether the server that gave this status runs with the configuration at `place`.
bool is_ours(const Json& status, const Place& place) {
  const auto config = status.find("config");
  return config != status.end() && config->is_string() &&
         same_file(config->get_ref<const std::string&>(), place.config_file());
}

}  // namespace

Result<Json> ask_server(const std::string& socket, const std::string& command,
                        const Json& arguments) {
  control::Request request;
  request.command = command;
  request.arguments = arguments;
  return control::call(socket, request, kPatience);
}

Result<Json> ask_server(const std::string& socket, const std::string& command) {
  return ask_server(socket, command, Json::object());
}

Result<Reloaded> reload_running_server(const Place& place) {
  const std::string socket = place.control_socket();
  // Another server's sessions are none of our business: ask whose socket this is.
  const auto status = ask_server(socket, "status");
  if (!status && status.error().code == ErrorCode::kNotRunning) {
    return Reloaded{false, "No server is running; the next start takes this up.", 0};
  }
  if (!status) return status.error();
  if (!is_ours(*status, place)) {
    return Reloaded{false,
                    "The server on " + socket +
                        " has another configuration and was not told (--socket names the right "
                        "one).",
                    0};
  }
  const auto answer = ask_server(socket, "reload");
  if (!answer) return answer.error();
  const auto ended = answer->find("ended");
  return Reloaded{true, {}, ended != answer->end() && ended->is_array() ? ended->size() : 0};
}

bool is_running(const Place& place) {
  const auto status = ask_server(place.control_socket(), "status");
  return status && is_ours(*status, place);
}

}  // namespace culvert::server
