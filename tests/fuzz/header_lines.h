// Inputs of the header targets: lines "Name: value", so that the fuzzer spends its time on values.
#pragma once

#include <string>
#include <vector>

#include "common/base/text.h"
#include "common/wire/http_exchange.h"

namespace culvert::fuzz {

inline std::vector<wire::HttpHeader> header_lines(std::string_view text) {
  std::vector<wire::HttpHeader> headers;
  for (const std::string_view line : split(text, '\n')) {
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    headers.push_back(
        {std::string(line.substr(0, colon)), std::string(trim(line.substr(colon + 1)))});
  }
  return headers;
}

}  // namespace culvert::fuzz
