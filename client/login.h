// Login: the HTTP messages of the certificate login and of CONNECT, and what the answers mean.
// Pure: requests out, responses in; transport.h carries them.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "client/profile.h"
#include "common/base/address.h"
#include "common/base/result.h"
#include "common/wire/http_exchange.h"
#include "common/wire/tunnel_params.h"

namespace culvert::client {

// POST with the init document; the certificate was shown in the TLS handshake.
[[nodiscard]] wire::HttpRequest login_request(const Profile& profile);

struct LoginSuccess {
  std::string cookie;
  std::string banner;     // as sent: escape before showing
  bool reusable = false;  // the connection takes another request
};

// kAuthRefused with the server's words; kNeedsInteraction when it wants a password or another
// answer; kNetwork when it asks to come back later; kFailure when it is no such server.
Result<LoginSuccess> judge_login(const wire::HttpResponse& response);

struct AttachOffer {
  std::string_view cookie;
  std::optional<uint16_t> base_mtu;  // path MTU of the connection
  std::optional<uint16_t> mtu;       // wanted
  std::span<const IpAddress> previous;
  bool udp = false;  // ask for a UDP channel
  wire::AttachMode attach = wire::AttachMode::kNone;
};
[[nodiscard]] wire::HttpRequest attach_request(const Profile& profile, const AttachOffer& offer);

// The parameters, or kAuthRefused (the cookie is not good), kNetwork, kFailure.
Result<wire::TunnelParams> judge_attach(const wire::HttpResponse& response);

}  // namespace culvert::client
