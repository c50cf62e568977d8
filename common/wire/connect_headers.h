// The headers of CONNECT /CSCOSSLC/tunnel: what a client offers and what the server grants, to and
// from structs. Names are written exactly as stock peers spell them (they compare case-sensitively)
// and read in any case. Numbers from outside are bounded here; nobody behind checks them again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/address.h"
#include "common/base/result.h"
#include "common/wire/culvert_features.h"
#include "common/wire/http_exchange.h"
#include "common/wire/tunnel_params.h"

namespace culvert::wire {

inline constexpr std::string_view kConnectTarget = "/CSCOSSLC/tunnel";
inline constexpr std::string_view kSessionCookie = "webvpn";
// How our client names itself. The beginning is what ocserv looks for before it hands out IPv6
// routes and name servers; it keeps 63 bytes.
inline constexpr std::string_view kUserAgent =
    "Open AnyConnect VPN Agent v9.12 Culvert/" CULVERT_VERSION;

// Where the list in X-DTLS-CipherSuite has PSK-NEGOTIATE. GnuTLS builds of openconnect put it
// first, OpenSSL builds last; those export the key once per process, so that DTLS is lost to them
// at every reconnect.
enum class PskPosition : uint8_t { kNone, kOnly, kFirst, kMiddle, kLast };

// What a client sends with CONNECT.
struct ConnectOffer {
  std::string cookie;      // the session credential: never log it
  std::string hostname;    // the client's own name: letters, digits, ".-_", at most 63; else empty
  std::string user_agent;  // at most 128 bytes, no control characters
  std::optional<uint16_t> base_mtu;  // path MTU of its TCP connection, 576..65535
  std::optional<uint16_t> mtu;       // tunnel MTU it would like, 576..65535
  bool want_ipv4 = true;
  bool want_ipv6 = true;
  bool full_ipv6 = false;  // understands X-CSTP-Address-IP6 and IPv6 routes
  PskPosition psk = PskPosition::kNone;
  std::vector<IpAddress> previous;  // on reconnect: the addresses it had, at most 2
  // Nothing of these two: a stock client, or one that does not want more.
  CulvertFeatures features;
  AttachMode attach = AttachMode::kNone;  // only what `features` allows
};

// Server. Fails (kAuthRefused) without a cookie: answer 401, which makes stock clients stop.
// Fails (kFailure) if method or target are wrong: answer 404. Hints that make no sense are dropped.
Result<ConnectOffer> parse_connect_request(const HttpRequest& request);

// Client. `host` goes into Host as it is ("vpn.example.com" or "[2001:db8::1]:4443"). Only
// X-DTLS-CipherSuite of the X-DTLS headers is sent, and only if offer.psk is not kNone.
[[nodiscard]] HttpRequest write_connect_request(const ConnectOffer& offer, std::string_view host);

// Client. Fails with kAuthRefused on 401 (the cookie is over or refused: log in again), kNetwork
// on 503 (come again later), kFailure on any other status and on an answer without a usable
// address or MTU, or with compression, which we never asked for. X-Reason is in the message.
// Features are what the server says: only those that were offered too may be used.
Result<TunnelParams> parse_connect_response(const HttpResponse& response);

// Server: the headers of the 200 answer. Only what the offer allows: IPv4 if wanted; IPv6 address,
// routes and name servers if wanted and in full form; X-DTLS-* if params.dtls is set and
// PSK-NEGOTIATE was listed; no rekey time to clients that would lose DTLS by it; X-Culvert-* as far
// as offered.
// REQUIRES: grants_address(params, offer), params.mtu is set.
[[nodiscard]] std::vector<HttpHeader> write_connect_response(const TunnelParams& params,
                                                             const ConnectOffer& offer);
// False if nothing of what `params` has is wanted: refuse the CONNECT with 503 and a reason.
[[nodiscard]] bool grants_address(const TunnelParams& params, const ConnectOffer& offer);

}  // namespace culvert::wire
