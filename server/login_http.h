// What the login phase says in HTTP: which request means what, and the answers. Pure.
// The documents are those that stock clients understand (config-auth XML, CONNECT headers); the
// codecs themselves are in common/wire.
#pragma once

#include <string>
#include <string_view>

#include "common/wire/connect_headers.h"
#include "common/wire/http_exchange.h"
#include "server/gate.h"

namespace culvert::server {

enum class LoginStep {
  kLogin,     // wants in: with a good certificate, that is all there is to it
  kConnect,   // wants its tunnel
  kNotFound,  // neither
};

// A POST to one of the paths that clients use, or a GET of "/" (old clients' way of asking), is a
// login. Query strings don't matter.
[[nodiscard]] LoginStep step_of(const wire::HttpRequest& request);

// The whole of the login: "you are in", and the cookie.
[[nodiscard]] wire::HttpResponse complete_response(std::string_view cookie);
// The final refusal of a login. Status 200, because stock clients show the texts of no other.
[[nodiscard]] wire::HttpResponse failure_response(const Refusal& refusal);
// 401 for a cookie or certificate that is no good (clients give up), 503 else (they try again).
[[nodiscard]] wire::HttpResponse connect_refused(const Refusal& refusal);
[[nodiscard]] wire::HttpResponse connect_granted(const wire::TunnelParams& params,
                                                 const wire::ConnectOffer& offer);
[[nodiscard]] wire::HttpResponse not_found();
[[nodiscard]] wire::HttpResponse bad_request();

// The one answer to somebody whose certificate was refused, chosen by the first bytes of what he
// sent and nothing else: his words never reach a parser.
// `first`: up to kFirstBytes bytes.
inline constexpr size_t kFirstBytes = 8;
[[nodiscard]] wire::HttpResponse turned_away(std::string_view first, const Refusal& refusal);

}  // namespace culvert::server
