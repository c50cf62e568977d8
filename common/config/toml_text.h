// Writing TOML: the literals for files that we generate (culvertd.toml, users, profiles). Values
// only; the layout of such a file, with its comments, is its writer's.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace culvert::config {

// "text" as a basic string: quotes, backslashes and control characters escaped. Bytes that are not
// UTF-8 are replaced by U+FFFD, because TOML has no way to say them.
[[nodiscard]] std::string toml_quote(std::string_view text);

// As a multi-line string that starts on a line of its own: for PEM. Line breaks stay as they are.
[[nodiscard]] std::string toml_multiline(std::string_view text);

// ["a", "b"]
[[nodiscard]] std::string toml_list(std::span<const std::string> items);

}  // namespace culvert::config
