// SystemAnswer: what became of a SystemRequest, as a plain value, and its one-line text form (see
// request_line.h).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace culvert::net {

struct SystemAnswer {
  std::optional<Error> error{};  // absent: done
  std::string output{};          // SetSysctl: the previous value; RunNft: what nft printed
  bool attempted = true;         // false: an earlier request of the batch failed

  [[nodiscard]] bool ok() const { return !error.has_value(); }
};

// The first error of the answers, or success.
Status first_error(const std::vector<SystemAnswer>& answers);

// One line, no newline at the end. An error's texts are cut to what is worth reading.
[[nodiscard]] std::string to_text(const SystemAnswer& answer);
// The inverse; kUsage for everything else.
Result<SystemAnswer> parse_answer(std::string_view line);

}  // namespace culvert::net
