// Login: the HTTP messages of the certificate login and of CONNECT, and what the answers mean.
// Pure: requests out, responses in; transport.h carries them.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "client/profile.h"
#include "common/base/address.h"
#include "common/base/result.h"
#include "common/wire/auth_xml.h"
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

// The server wants a form to be filled in (login_dialogue.h).
struct LoginQuestion {
  wire::LoginResponse response;
  std::optional<std::string> context;  // cookie that goes with the reply; empty: none any more
  bool reusable = false;               // the connection takes another request
};

using LoginOutcome = std::variant<LoginSuccess, LoginQuestion>;

// kAuthRefused with the server's words; kNetwork when it asks to come back later; kFailure when it
// is no such server.
Result<LoginOutcome> judge_login(const wire::HttpResponse& response);

// What the server says with a form or a refusal, on one line, escaped; may be empty.
[[nodiscard]] std::string words_of(const wire::LoginResponse& response);

// POST of a login document: of what login_request() makes, and of the replies to forms. `context`:
// the cookie, may be empty.
[[nodiscard]] wire::HttpRequest login_post(const Profile& profile, std::string target,
                                           std::string body, const std::string& context = {});

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
