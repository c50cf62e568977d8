// A line of text that stands for a plain value: "verb key=value key=value". The alphabet of the
// undo journal and of the talk with the privileged helper. Values are percent-encoded where they
// contain anything but letters, digits and . _ : / -
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/address.h"
#include "common/base/result.h"

namespace culvert::net {

class LineWriter {
 public:
  explicit LineWriter(std::string_view verb) : line_(verb) {}

  LineWriter& text(std::string_view key, std::string_view value);
  LineWriter& text_unless_empty(std::string_view key, std::string_view value) {
    return value.empty() ? *this : text(key, value);
  }
  LineWriter& number(std::string_view key, std::optional<uint32_t> value) {
    return value ? text(key, std::to_string(*value)) : *this;
  }
  LineWriter& flag(std::string_view key, bool value) { return value ? text(key, "1") : *this; }
  std::string take() { return std::move(line_); }

 private:
  std::string line_;
};

// Reading takes a key out; finish() fails if a read failed or a key is left. Takes only what the
// writer makes, so that a value has one text. `line` must outlive the reader.
class LineReader {
 public:
  explicit LineReader(std::string_view line);

  [[nodiscard]] std::string_view verb() const { return verb_; }

  std::optional<std::string> optional_text(std::string_view key);
  std::string text(std::string_view key);
  std::optional<uint32_t> number(std::string_view key);
  uint32_t required_number(std::string_view key);
  bool flag(std::string_view key);
  Prefix prefix(std::string_view key);
  std::optional<IpAddress> address(std::string_view key);

  // The first one counts.
  void note(std::string what, std::string_view where);
  // kUsage.
  [[nodiscard]] Status finish() const;

 private:
  std::string_view verb_;
  std::vector<std::pair<std::string_view, std::string>> fields_;
  std::optional<Error> error_;
};

}  // namespace culvert::net
