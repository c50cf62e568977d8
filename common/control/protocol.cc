#include "common/control/protocol.h"

#include <array>
#include <utility>

namespace culvert::control {
namespace {

std::string one_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string string_member(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

ErrorCode code_named(std::string_view name) {
  static constexpr std::array kCodes{
      ErrorCode::kFailure,   ErrorCode::kUsage,      ErrorCode::kAuthRefused,
      ErrorCode::kUntrusted, ErrorCode::kNetwork,    ErrorCode::kNeedsInteraction,
      ErrorCode::kAlreadyUp, ErrorCode::kNotRunning, ErrorCode::kPermission};
  for (const ErrorCode code : kCodes) {
    if (name_of(code) == name) return code;
  }
  return ErrorCode::kFailure;  // a newer daemon's code: the text still says what happened
}

// Copying and printing go down a value by recursion, so depth must have a bound.
constexpr int kMaxDepth = 64;

// Nothing if the line is no JSON object, or a very deep one; never throws.
Json parse_object(std::string_view line) {
  bool too_deep = false;
  const auto watch = [&too_deep](int depth, Json::parse_event_t, const Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  Json value = Json::parse(line, watch, /*allow_exceptions=*/false);
  return !too_deep && value.is_object() ? value : Json();
}

}  // namespace

Result<std::string> Request::text(std::string_view name) const {
  const auto found = arguments.find(std::string(name));
  if (found == arguments.end() || !found->is_string()) {
    return fail(ErrorCode::kUsage, "the request needs a text \"" + std::string(name) + "\"",
                command);
  }
  return found->get<std::string>();
}

bool Request::flag(std::string_view name) const {
  const auto found = arguments.find(std::string(name));
  return found != arguments.end() && found->is_boolean() && found->get<bool>();
}

std::string encode_request(const Request& request) {
  Json object = request.arguments.is_object() ? request.arguments : Json::object();
  object["command"] = request.command;
  return one_line(object);
}

std::string encode_result(const Json& result) {
  return one_line(Json{{"ok", true}, {"result", result}});
}

std::string encode_error(const Error& error) {
  return one_line(Json{{"ok", false},
                       {"error",
                        {{"code", name_of(error.code)},
                         {"what", error.what},
                         {"where", error.where},
                         {"hint", error.hint}}}});
}

std::string encode_answer(const Result<Json>& answer) {
  return answer ? encode_result(*answer) : encode_error(answer.error());
}

std::string pretty(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace);
}

Result<Request> parse_request(std::string_view line) {
  Json object = parse_object(line);
  const std::string command = object.is_object() ? string_member(object, "command") : "";
  if (command.empty()) {
    return fail(ErrorCode::kUsage, "a request is one JSON object with a \"command\"");
  }
  object.erase("command");
  return Request{.command = command, .arguments = std::move(object)};
}

Result<Json> parse_answer(std::string_view line) {
  Json object = parse_object(line);
  const auto ok = object.is_object() ? object.find("ok") : object.end();
  if (ok == object.end() || !ok->is_boolean()) {
    return fail(ErrorCode::kFailure, "the daemon's answer cannot be understood", "control socket",
                "are the command and the daemon of the same version?");
  }
  if (ok->get<bool>()) return object.value("result", Json::object());
  const Json error = object.value("error", Json::object());
  std::string what = error.is_object() ? string_member(error, "what") : "";
  if (what.empty()) return fail(ErrorCode::kFailure, "the daemon reported a failure");
  return fail(code_named(string_member(error, "code")), std::move(what),
              string_member(error, "where"), string_member(error, "hint"));
}

}  // namespace culvert::control
