// The control protocol: how `status`, `sessions`, `disconnect` and their like reach a running
// program. One JSON object a line over a unix stream socket; a request, then its answer, in order:
//
//   {"command":"disconnect","user":"alice"}
//   {"ok":true,"result":{…}}
//   {"ok":false,"error":{"code":"not_running","what":"…","where":"…","hint":"…"}}
//
// common/control has the framing, both ends and who may connect; what commands there are is the
// server's and the client's business. This file is pure.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace culvert::control {

using Json = nlohmann::json;

// Longest line, "\n" not counted, of a request and of an answer.
inline constexpr size_t kMaxRequestLine = size_t{1} << 20;
inline constexpr size_t kMaxAnswerLine = size_t{32} << 20;  // ten thousands of sessions

struct Request {
  std::string command;
  Json arguments = Json::object();  // the other members

  // The member `name`, which must be there and a string; else kUsage.
  [[nodiscard]] Result<std::string> text(std::string_view name) const;
  // The member `name` if it is true; false for anything else.
  [[nodiscard]] bool flag(std::string_view name) const;
};

// Each is one line, without "\n". Bad UTF-8 is replaced.
[[nodiscard]] std::string encode_request(const Request& request);
[[nodiscard]] std::string encode_result(const Json& result);
[[nodiscard]] std::string encode_error(const Error& error);
[[nodiscard]] std::string encode_answer(const Result<Json>& answer);

// kUsage unless it is an object with a string "command".
[[nodiscard]] Result<Request> parse_request(std::string_view line);
// The result, or the Error that the other side has sent; kFailure for a line that is no answer.
[[nodiscard]] Result<Json> parse_answer(std::string_view line);

// For --json: indented, on several lines. Bad UTF-8 is replaced.
[[nodiscard]] std::string pretty(const Json& value);

}  // namespace culvert::control
