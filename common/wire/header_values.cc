#include "common/wire/header_values.h"

#include <algorithm>

#include "common/base/text.h"
#include "common/wire/tunnel_params.h"

namespace culvert::wire {
namespace {

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// A number of any length, cut at `max`.
std::optional<uint64_t> parse_saturated(std::string_view text, uint64_t max) {
  if (!is_number(text)) return std::nullopt;
  return parse_decimal(text, 0, max).value_or(max);
}

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// The first character keeps a name from looking like an option to some program.
bool is_name(std::string_view text, size_t max) {
  return !text.empty() && text.size() <= max && text[0] != '-' && text[0] != '.' &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return is_alphanumeric(c) || c == '.' || c == '-' || c == '_'; });
}

}  // namespace

std::optional<uint16_t> parse_mtu(std::string_view text, uint16_t max) {
  const auto value = parse_saturated(text, max);
  if (!value || *value < kMinMtu) return std::nullopt;
  return static_cast<uint16_t>(*value);
}

bool is_culvert_version(std::optional<std::string_view> text) {
  return text && parse_decimal(*text, 1, UINT16_MAX).has_value();
}

std::optional<std::chrono::seconds> parse_seconds(std::string_view text) {
  const auto value = parse_saturated(text, static_cast<uint64_t>(kMaxTimer.count()));
  if (!value) return std::nullopt;
  return std::chrono::seconds(*value);
}

std::optional<Prefix> parse_route(std::string_view text) {
  const size_t slash = text.find('/');
  const bool dotted =
      slash != std::string_view::npos && text.find('.', slash) != std::string_view::npos;
  if (!dotted) {
    const auto prefix = Prefix::parse(text);
    return prefix ? std::optional(prefix->network()) : std::nullopt;
  }
  const auto address = IpAddress::parse(text.substr(0, slash));
  const auto length = length_of_netmask(text.substr(slash + 1));
  if (!address || !address->is_v4() || !length) return std::nullopt;
  return Prefix{*address, *length}.network();
}

bool is_assignable(const IpAddress& address) {
  const bool broadcast = address.is_v4() && address.v4_value() == 0xffffffffU;
  return !address.is_unspecified() && !address.is_loopback() && !address.is_multicast() &&
         !broadcast;
}

bool is_host_label(std::string_view text) {
  return is_name(text, kMaxHostLabel);
}
bool is_domain(std::string_view text) {
  return is_name(text, 253);
}

std::string percent_encode(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c >= 0x20 && c < 0x7f && c != '%') {
      out += c;
    } else {
      out += "%" + to_hex(as_bytes({&c, 1}));
    }
  }
  return out;
}

std::string percent_decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte =
        text[i] == '%' && i + 2 < text.size() ? from_hex(text.substr(i + 1, 2)) : std::nullopt;
    out += byte ? std::to_integer<char>(byte->front()) : text[i];
    if (byte) i += 2;
  }
  return out;
}

}  // namespace culvert::wire
