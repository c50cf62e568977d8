// The request half of connect_headers.h.
#include <algorithm>

#include "common/base/text.h"
#include "common/wire/connect_headers.h"
#include "common/wire/header_values.h"

namespace culvert::wire {
namespace {

constexpr size_t kMaxCookie = 512;
constexpr size_t kMaxUserAgent = 128;
constexpr size_t kMaxPrevious = 2;
constexpr std::string_view kPskNegotiate = "PSK-NEGOTIATE";

std::string text_of(const HttpRequest& request, std::string_view name, size_t max) {
  const std::string_view value = request.find(name).value_or("");
  return has_no_control_characters(value) ? std::string(value.substr(0, max)) : std::string();
}

std::optional<uint16_t> mtu_of(const HttpRequest& request, std::string_view name) {
  const auto value = request.find(name);
  return value ? parse_mtu(*value, UINT16_MAX) : std::nullopt;
}

PskPosition psk_position(std::string_view suites) {
  const auto list = split(suites, ':');
  const auto at = std::find(list.begin(), list.end(), kPskNegotiate);
  if (at == list.end()) return PskPosition::kNone;
  if (list.size() == 1) return PskPosition::kOnly;
  if (at == list.begin()) return PskPosition::kFirst;
  return at + 1 == list.end() ? PskPosition::kLast : PskPosition::kMiddle;
}

// A substring search, as ocserv does it; a value that names neither family restricts nothing.
void read_address_types(ConnectOffer& offer, std::string_view value) {
  const auto has = [&](std::string_view word) {
    return std::search(value.begin(), value.end(), word.begin(), word.end(), [](char a, char b) {
             return iequals({&a, 1}, {&b, 1});
           }) != value.end();
  };
  const bool v4 = has("IPv4");
  const bool v6 = has("IPv6");
  offer.want_ipv4 = v4 || !v6;
  offer.want_ipv6 = v6 || !v4;
}

std::vector<IpAddress> previous_addresses(const HttpRequest& request) {
  std::vector<IpAddress> addresses;
  for (const std::string_view value : find_headers(request.headers, "X-CSTP-Address")) {
    const auto address = IpAddress::parse(value);
    if (address && addresses.size() < kMaxPrevious) addresses.push_back(*address);
  }
  return addresses;
}

}  // namespace

Result<ConnectOffer> parse_connect_request(const HttpRequest& request) {
  if (request.method != "CONNECT" || request.target != kConnectTarget)
    return fail(ErrorCode::kFailure, "not a request for a tunnel",
                escape_for_display(request.method + " " + request.target));
  ConnectOffer offer;
  offer.cookie = request_cookie(request, kSessionCookie).value_or("");
  if (offer.cookie.empty() || offer.cookie.size() > kMaxCookie)
    return fail(ErrorCode::kAuthRefused, "the CONNECT carries no usable session cookie");
  offer.hostname = text_of(request, "X-CSTP-Hostname", kMaxHostLabel + 1);
  if (!is_host_label(offer.hostname)) offer.hostname.clear();
  offer.user_agent = text_of(request, "User-Agent", kMaxUserAgent);
  offer.base_mtu = mtu_of(request, "X-CSTP-Base-MTU");
  offer.mtu = mtu_of(request, "X-CSTP-MTU");
  read_address_types(offer, request.find("X-CSTP-Address-Type").value_or(""));
  offer.full_ipv6 = iequals(request.find("X-CSTP-Full-IPv6-Capability").value_or(""), "true");
  offer.psk = psk_position(request.find("X-DTLS-CipherSuite").value_or(""));
  offer.previous = previous_addresses(request);
  if (is_culvert_version(request.find(kVersionHeader))) {
    offer.features = parse_features(text_of(request, kFeaturesHeader, kMaxFeatures));
    const AttachMode attach = parse_attach_mode(request.find(kAttachHeader).value_or(""));
    if (allows(offer.features, attach)) offer.attach = attach;
  }
  return offer;
}

HttpRequest write_connect_request(const ConnectOffer& offer, std::string_view host) {
  HttpRequest request{"CONNECT", std::string(kConnectTarget), {}, {}, true};
  const auto add = [&](std::string_view name, std::string_view value) {
    request.headers.push_back({std::string(name), std::string(value)});
  };
  const auto add_number = [&](std::string_view name, std::optional<uint16_t> value) {
    if (value) add(name, std::to_string(*value));
  };
  add("Host", host);
  add("User-Agent", offer.user_agent.empty() ? kUserAgent : std::string_view(offer.user_agent));
  add("Cookie", std::string(kSessionCookie) + "=" + offer.cookie);
  add("X-CSTP-Version", "1");
  if (!offer.hostname.empty()) add("X-CSTP-Hostname", offer.hostname);
  add_number("X-CSTP-Base-MTU", offer.base_mtu);
  add_number("X-CSTP-MTU", offer.mtu);
  add("X-CSTP-Address-Type", !offer.want_ipv6 ? "IPv4" : !offer.want_ipv4 ? "IPv6" : "IPv6,IPv4");
  for (const IpAddress& address : offer.previous)
    add("X-CSTP-Address", address.to_string());
  if (offer.full_ipv6) add("X-CSTP-Full-IPv6-Capability", "true");
  if (offer.psk != PskPosition::kNone) add("X-DTLS-CipherSuite", kPskNegotiate);
  if (offer.features.any()) {
    add_number(kVersionHeader, kCulvertVersion);
    add(kFeaturesHeader, write_features(offer.features));
    if (offer.attach != AttachMode::kNone) add(kAttachHeader, name_of(offer.attach));
  }
  return request;
}

}  // namespace culvert::wire
