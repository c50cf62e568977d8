#include "server/login_http.h"

#include <algorithm>
#include <array>
#include <utility>

#include "common/base/text.h"
#include "common/wire/auth_xml.h"

namespace culvert::server {
namespace {

wire::HttpResponse document(std::string body) {
  wire::HttpResponse response;
  response.headers = {{"Content-Type", "text/xml; charset=utf-8"}, {"X-Transcend-Version", "1"}};
  response.body = std::move(body);
  return response;
}

wire::HttpResponse error_response(int status, std::string reason) {
  wire::HttpResponse response;
  response.status = status;
  response.reason = std::move(reason);
  response.keep_alive = false;
  return response;
}

}  // namespace

LoginStep step_of(const wire::HttpRequest& request) {
  static constexpr std::array<std::string_view, 3> kLoginPaths = {"/", "/auth", "/VPN"};
  const std::string_view target = request.target;
  const std::string_view path = target.substr(0, target.find('?'));
  if (request.method == "CONNECT") {
    return target == wire::kConnectTarget ? LoginStep::kConnect : LoginStep::kNotFound;
  }
  if (request.method == "GET" && path == "/") return LoginStep::kLogin;
  const bool known = std::find(kLoginPaths.begin(), kLoginPaths.end(), path) != kLoginPaths.end();
  return request.method == "POST" && known ? LoginStep::kLogin : LoginStep::kNotFound;
}

wire::HttpResponse complete_response(std::string_view cookie) {
  wire::HttpResponse response = document(wire::write_complete());
  response.headers.push_back({"Set-Cookie", std::string(wire::kSessionCookie) + "=" +
                                                std::string(cookie) + "; Secure; HttpOnly"});
  return response;
}

wire::HttpResponse failure_response(const Refusal& refusal) {
  wire::HttpResponse response = document(wire::write_failure("Login refused", refusal.text));
  response.keep_alive = false;
  return response;
}

wire::HttpResponse connect_refused(const Refusal& refusal) {
  wire::HttpResponse response = refusal.final ? error_response(401, "Unauthorized")
                                              : error_response(503, "Service Unavailable");
  response.headers.push_back({"X-Reason", escape_for_display(refusal.text)});
  return response;
}

wire::HttpResponse connect_granted(const wire::TunnelParams& params,
                                   const wire::ConnectOffer& offer) {
  wire::HttpResponse response;
  response.reason = "CONNECTED";
  response.headers = wire::write_connect_response(params, offer);
  response.opens_tunnel = true;
  return response;
}

wire::HttpResponse not_found() {
  return error_response(404, "Not Found");
}
wire::HttpResponse bad_request() {
  return error_response(400, "Bad Request");
}

wire::HttpResponse turned_away(std::string_view first, const Refusal& refusal) {
  return first == "CONNECT " ? connect_refused(refusal) : failure_response(refusal);
}

}  // namespace culvert::server
