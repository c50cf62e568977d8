// Result<T>: a value, or an Error that says what went wrong, where, and what to do about it.
//
// common/base is the ground floor: the standard library, tl::expected and the logging library only.
// Every other folder may include it; it includes none of them.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <tl/expected.hpp>

namespace culvert {

// The class of a failure. The values are the exit codes of our programs and so part of their
// interface: they are never renumbered (culvert(1), section EXIT STATUS).
enum class ErrorCode : int {
  kFailure = 1,           // anything without a code of its own; port, address or TUN unavailable
  kUsage = 2,             // command line, configuration file, profile
  kAuthRefused = 3,       // authentication refused, by either side
  kNeedsInteraction = 4,  // an answer from a person is needed and none can be asked for
  kUntrusted = 5,         // the server's certificate is not trusted
  kNetwork = 6,           // name resolution, connection, timeout
  kNotRunning = 7,
  kAlreadyUp = 8,
  kPermission = 9,
};

// An expected failure. `what` is a sentence without a full stop, `where` the file, key, address or
// call it happened at, `hint` what the reader can do; the last two may be empty.
struct Error {
  ErrorCode code = ErrorCode::kFailure;
  std::string what;
  std::string where{};
  std::string hint{};

  // "where: what (hint)", for a person, on one line.
  [[nodiscard]] std::string message() const;
};

// Derived from tl::expected instead of an alias, because only a class of our own can be
// [[nodiscard]]: a Result that is dropped is a compiler warning.
template <typename T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
  using Base = tl::expected<T, Error>;

 public:
  using Base::Base;
  Result(Base base) : Base(std::move(base)) {}
  Result(Error error) : Base(tl::unexpect, std::move(error)) {}
};

using Status = Result<void>;

// fail(code, what, where, hint): the Error to return; converts to any Result<T>.
[[nodiscard]] inline Error fail(ErrorCode code, std::string what, std::string where = {},
                                std::string hint = {}) {
  return Error{code, std::move(what), std::move(where), std::move(hint)};
}

// As fail(), with the text of the given errno appended to `what`.
[[nodiscard]] Error fail_errno(ErrorCode code, int errno_value, std::string_view what,
                               std::string where = {}, std::string hint = {});

[[nodiscard]] inline int exit_code(const Error& error) {
  return static_cast<int>(error.code);
}

// A stable, lower-case name for logs and JSON: "auth_refused".
[[nodiscard]] std::string_view name_of(ErrorCode code);

}  // namespace culvert

// Lets and_then() and map() take functions that return a Result.
namespace tl::detail {
template <typename T>
struct is_expected_impl<culvert::Result<T>> : std::true_type {};
}  // namespace tl::detail
