// Values of X-CSTP-* and X-DTLS-* headers: bounded reading, and their spelling. For the files that
// implement connect_headers.h only.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/address.h"

namespace culvert::wire {

// Ten years: more than any timer means, and far from overflow in nanoseconds.
inline constexpr std::chrono::seconds kMaxTimer{10LL * 365 * 86400};
inline constexpr size_t kMaxHostLabel = 63;

// kMinMtu..max; larger numbers become `max`; smaller ones and what is no number give nothing.
[[nodiscard]] std::optional<uint16_t> parse_mtu(std::string_view text, uint16_t max);

// Of the extension between Culvert peers.
inline constexpr std::string_view kVersionHeader = "X-Culvert-Version";
inline constexpr std::string_view kFeaturesHeader = "X-Culvert-Features";
inline constexpr std::string_view kAttachHeader = "X-Culvert-Attach";
inline constexpr size_t kMaxFeatures = 1024;  // bytes that are read of it
// The value is there and a number from 1 to 65535: a peer that knows version 1, or more.
[[nodiscard]] bool is_culvert_version(std::optional<std::string_view> text);

// Whole seconds, at most kMaxTimer (larger numbers become that).
[[nodiscard]] std::optional<std::chrono::seconds> parse_seconds(std::string_view text);

// "10.0.0.0/255.0.0.0", "10.0.0.0/8", "fd00::/8" or an address; host bits are cleared.
[[nodiscard]] std::optional<Prefix> parse_route(std::string_view text);

// Can be configured on an interface: not unspecified, loopback, multicast or broadcast.
[[nodiscard]] bool is_assignable(const IpAddress& address);

// Letters, digits and ".-_", 1..63 of them, not beginning with "." or "-".
[[nodiscard]] bool is_host_label(std::string_view text);
// The same with 1..253.
[[nodiscard]] bool is_domain(std::string_view text);

// %XX for control bytes, '%' and what is not ASCII; and back (what is not %XX stays as it is).
[[nodiscard]] std::string percent_encode(std::string_view text);
[[nodiscard]] std::string percent_decode(std::string_view text);

}  // namespace culvert::wire
