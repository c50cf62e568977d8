// culvertd status, sessions, disconnect and reload: one question to the running server each.
#include <iostream>
#include <nlohmann/json.hpp>

#include "common/control/protocol.h"
#include "server/commands.h"
#include "server/live_views.h"
#include "server/running_server.h"

namespace culvert::server {
namespace {

using control::Json;

Result<Json> ask(const LiveOptions& options, const std::string& command,
                 const Json& arguments = Json::object()) {
  auto answer = ask_server(options.place.control_socket(), command, arguments);
  if (answer || answer.error().code != ErrorCode::kNotRunning) return answer;
  Error error = answer.error();
  if (error.hint.empty()) {
    error.hint =
        "start it with: systemctl start culvertd, or culvertd run; --socket if it has "
        "another control socket";
  }
  return error;
}

size_t ended_in(const Json& answer) {
  const auto ended = answer.find("ended");
  return ended != answer.end() && ended->is_array() ? ended->size() : 0;
}

}  // namespace

Status status_command(const LiveOptions& options, std::ostream& out) {
  const auto answer = ask(options, "status");
  if (!answer) return answer.error();
  out << (options.json ? control::pretty(*answer) + "\n" : status_view(*answer));
  return {};
}

Status sessions_command(const LiveOptions& options, std::ostream& out) {
  const auto answer = ask(options, "sessions");
  if (!answer) return answer.error();
  out << (options.json ? control::pretty(*answer) + "\n" : sessions_view(*answer));
  return {};
}

Status disconnect_command(const LiveOptions& options, std::ostream& out) {
  const auto answer = ask(options, "disconnect", {{"who", options.who}});
  if (!answer) return answer.error();
  if (options.json) {
    out << control::pretty(*answer) << "\n";
    return {};
  }
  out << "Ended " << ended_in(*answer) << " session(s) of " << options.who
      << ". Its certificate is still good: culvertd user revoke shuts a user out.\n";
  return {};
}

Status reload_command(const LiveOptions& options, std::ostream& out) {
  const auto answer = ask(options, "reload");
  if (!answer) return answer.error();
  if (options.json) {
    out << control::pretty(*answer) << "\n";
    return {};
  }
  out << "Configuration, certificates and users were read again; sessions ended: "
      << ended_in(*answer) << ".\n";
  if (const auto restart = answer->find("needs_restart");
      restart != answer->end() && restart->is_array()) {
    for (const Json& key : *restart) {
      if (key.is_string()) out << "  " << key.get<std::string>() << " needs a restart\n";
    }
  }
  return {};
}

}  // namespace culvert::server
