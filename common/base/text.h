// Text helpers that several folders need: hex, escaping for people, near misses, strict numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"

namespace culvert {

// Lower-case hex, two digits a byte.
[[nodiscard]] std::string to_hex(Bytes bytes);
// Nothing if the length is odd or a digit is not hex (either case).
[[nodiscard]] std::optional<std::vector<std::byte>> from_hex(std::string_view text);

// Control bytes, quotes, backslashes and anything that is not printable ASCII or valid UTF-8
// becomes \n, \t, \" or \xNN, so that a peer's text can neither forge a log line nor drive a
// terminal. Bidirectional control characters are escaped as well.
[[nodiscard]] std::string escape_for_display(std::string_view text);

// How many bytes at the front are valid UTF-8 (RFC 3629: no overlong forms, no surrogates).
[[nodiscard]] size_t valid_utf8_prefix(std::string_view text);

// True if no byte is below 0x20 or is 0x7f: safe as a header value or a name.
[[nodiscard]] bool has_no_control_characters(std::string_view text);

// A whole unsigned decimal number within [min, max]: no sign, space, or trailing text.
[[nodiscard]] std::optional<uint64_t> parse_decimal(std::string_view text, uint64_t min,
                                                    uint64_t max);

// The candidate within a small edit distance of `word`, for "did you mean" hints.
[[nodiscard]] std::optional<std::string_view> nearest(std::string_view word,
                                                      std::span<const std::string_view> candidates);

[[nodiscard]] std::string_view trim(std::string_view text);
[[nodiscard]] std::vector<std::string_view> split(std::string_view text, char separator);

}  // namespace culvert
