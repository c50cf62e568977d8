#include "common/net/request_line.h"

#include <algorithm>
#include <limits>

#include "common/base/text.h"

namespace culvert::net {
namespace {

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == ':' || c == '/' || c == '-';
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

std::optional<std::string> decode(std::string_view encoded) {
  std::string value;
  for (size_t i = 0; i < encoded.size(); ++i) {
    if (is_plain(encoded[i])) {
      value += encoded[i];
      continue;
    }
    if (encoded[i] != '%' || encoded.size() - i < 3) return std::nullopt;
    const int high = hex_digit(encoded[i + 1]);
    const int low = hex_digit(encoded[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    value += static_cast<char>(high << 4 | low);
    if (is_plain(value.back())) return std::nullopt;
    i += 2;
  }
  return value;
}

}  // namespace

LineWriter& LineWriter::text(std::string_view key, std::string_view value) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  line_.append(" ").append(key).append("=");
  for (const char c : value) {
    if (is_plain(c)) {
      line_ += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      line_.append({'%', kDigits[byte >> 4], kDigits[byte & 15]});
    }
  }
  return *this;
}

LineReader::LineReader(std::string_view line) {
  const auto words = split(line, ' ');
  verb_ = words.front();
  for (size_t i = 1; i < words.size(); ++i) {
    const size_t equals = words[i].find('=');
    const auto value =
        equals == std::string_view::npos ? std::nullopt : decode(words[i].substr(equals + 1));
    if (!value) {
      note("not KEY=VALUE", words[i]);
      return;
    }
    fields_.emplace_back(words[i].substr(0, equals), *value);
  }
}

std::optional<std::string> LineReader::optional_text(std::string_view key) {
  const auto found = std::find_if(fields_.begin(), fields_.end(),
                                  [&](const auto& field) { return field.first == key; });
  if (found == fields_.end()) return std::nullopt;
  std::string value = std::move(found->second);
  fields_.erase(found);
  return value;
}

std::string LineReader::text(std::string_view key) {
  auto value = optional_text(key);
  if (!value) note("missing key", key);
  return std::move(value).value_or("");
}

std::optional<uint32_t> LineReader::number(std::string_view key) {
  const auto value = optional_text(key);
  if (!value) return std::nullopt;
  const auto number = parse_decimal(*value, 0, std::numeric_limits<uint32_t>::max());
  if (!number) note("not a number", *value);
  return static_cast<uint32_t>(number.value_or(0));
}

uint32_t LineReader::required_number(std::string_view key) {
  const auto value = number(key);
  if (!value) note("missing key", key);
  return value.value_or(0);
}

bool LineReader::flag(std::string_view key) {
  const auto value = optional_text(key);
  if (value && *value != "1") note("not a flag", key);
  return value.has_value();
}

Prefix LineReader::prefix(std::string_view key) {
  auto prefix = Prefix::parse(text(key));
  if (!prefix) note("not a prefix", key);
  return std::move(prefix).value_or(Prefix());
}

std::optional<IpAddress> LineReader::address(std::string_view key) {
  const auto value = optional_text(key);
  if (!value) return std::nullopt;
  const auto address = IpAddress::parse(*value);
  if (!address) note("not an address", *value);
  return address.value_or(IpAddress());
}

void LineReader::note(std::string what, std::string_view where) {
  if (!error_) error_ = fail(ErrorCode::kUsage, std::move(what), escape_for_display(where));
}

Status LineReader::finish() const {
  if (error_) return *error_;
  if (fields_.empty()) return {};
  return fail(ErrorCode::kUsage, "unknown or repeated key",
              escape_for_display(fields_.front().first));
}

}  // namespace culvert::net
