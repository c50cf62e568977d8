#include <system_error>

#include "common/base/result.h"

namespace culvert {

std::string Error::message() const {
  std::string out;
  if (!where.empty()) out += where + ": ";
  out += what;
  if (!hint.empty()) out += " (" + hint + ")";
  return out;
}

Error fail_errno(ErrorCode code, int errno_value, std::string_view what, std::string where,
                 std::string hint) {
  // std::generic_category() instead of strerror(): the latter is not thread-safe.
  return Error{code, std::string(what) + ": " + std::generic_category().message(errno_value),
               std::move(where), std::move(hint)};
}

std::string_view name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kFailure:
      return "failure";
    case ErrorCode::kUsage:
      return "usage";
    case ErrorCode::kAuthRefused:
      return "auth_refused";
    case ErrorCode::kNeedsInteraction:
      return "needs_interaction";
    case ErrorCode::kUntrusted:
      return "untrusted";
    case ErrorCode::kNetwork:
      return "network";
    case ErrorCode::kNotRunning:
      return "not_running";
    case ErrorCode::kAlreadyUp:
      return "already_up";
    case ErrorCode::kPermission:
      return "permission";
  }
  return "failure";
}

}  // namespace culvert
