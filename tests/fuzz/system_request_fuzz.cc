// Lines of the undo journal: what is accepted is valid, and has exactly one text.
#include <cstdlib>

#include "common/net/system_request.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto line = culvert::as_text(std::as_bytes(std::span(data, size)));
  const auto request = culvert::net::parse_request(line);
  if (!request) return 0;
  if (!culvert::net::validate(*request)) std::abort();
  if (line.find('\n') != std::string_view::npos) std::abort();
  if (culvert::net::to_text(*request) != line) std::abort();
  return 0;
}
