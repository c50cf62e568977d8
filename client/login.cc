#include "client/login.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "common/base/text.h"
#include "common/wire/connect_headers.h"

namespace culvert::client {
namespace {

// Of the extension between Culvert peers.
constexpr wire::CulvertFeatures kWantedFeatures{.superpacket = true,
                                                .packed = true,
                                                .unsummed = true,
                                                .cid = true,
                                                .roam = true,
                                                .rekey = true};

// Stock servers send 44 characters; anything near a server's limit for headers is no cookie.
constexpr size_t kMaxCookie = 4096;

std::string local_hostname() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return {};
  const std::string text(name.data());
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
  };
  return text.size() <= 63 && std::all_of(text.begin(), text.end(), allowed) ? text : "";
}

// What the server says about a refusal, escaped: its own header first, else the status line.
std::string reason_of(const wire::HttpResponse& response) {
  const auto reason = response.find("X-Reason");
  const std::string text = escape_for_display(trim(reason ? *reason : response.reason));
  return text.empty() ? "HTTP status " + std::to_string(response.status) : text;
}

Error judge_status(const wire::HttpResponse& response) {
  const std::string reason = reason_of(response);
  if (response.status == 401 || response.status == 403)
    return fail(ErrorCode::kAuthRefused, "the server refused the login: " + reason);
  if (response.status == 503)
    return fail(ErrorCode::kNetwork, "the server is not available: " + reason, {},
                "try again later");
  if (response.status >= 300 && response.status < 400) {
    const auto location = response.find("Location");
    return fail(ErrorCode::kFailure,
                "the server sends us elsewhere: " + escape_for_display(location.value_or("?")), {},
                "connect to that address if you trust it");
  }
  return fail(ErrorCode::kFailure,
              "the answer to the login is not a VPN server's: HTTP status " +
                  std::to_string(response.status) + ", " + reason,
              {}, "check address, port and path");
}

Error refused(const wire::LoginResponse& response) {
  std::string words = words_of(response);
  if (words.empty()) words = "no reason given";
  return fail(ErrorCode::kAuthRefused, "the server refused the login: " + words, {},
              "ask the administrator; a renewed certificate needs a new profile");
}

Result<LoginOutcome> succeeded(const wire::HttpResponse& http, const wire::LoginResponse& login) {
  LoginSuccess success;
  success.banner = login.banner;
  success.reusable = http.keep_alive;
  success.cookie = login.session_token;
  if (success.cookie.empty())
    success.cookie = wire::response_cookie(http, wire::kSessionCookie).value_or("");
  if (success.cookie.empty())
    return fail(ErrorCode::kFailure, "the server accepted the login but sent no session cookie", {},
                "ask the administrator");
  if (success.cookie.size() > kMaxCookie || !has_no_control_characters(success.cookie))
    return fail(ErrorCode::kFailure,
                "the server accepted the login but sent a session cookie that cannot be used", {},
                "ask the administrator");
  return LoginOutcome(std::move(success));
}

LoginQuestion asked(const wire::HttpResponse& http, wire::LoginResponse login) {
  return {std::move(login), wire::response_cookie(http, "webvpncontext"), http.keep_alive};
}

}  // namespace

std::string words_of(const wire::LoginResponse& response) {
  std::string text;
  for (const std::string* part : {&response.message, &response.error}) {
    const std::string words = escape_for_display(trim(*part));
    if (words.empty() || text.find(words) != std::string::npos) continue;
    text += (text.empty() ? "" : ": ") + words;
  }
  return text;
}

wire::HttpRequest login_request(const Profile& profile) {
  return login_post(profile, profile.path, wire::write_init(profile.url(), CULVERT_VERSION));
}

wire::HttpRequest login_post(const Profile& profile, std::string target, std::string body,
                             const std::string& context) {
  wire::HttpRequest request;
  request.method = "POST";
  request.target = std::move(target);
  request.headers = {{"Host", profile.authority()},
                     {"User-Agent", std::string(wire::kUserAgent)},
                     {"Accept", "*/*"},
                     {"Accept-Encoding", "identity"},
                     {"X-Transcend-Version", "1"},
                     {"X-Aggregate-Auth", "1"},
                     {"Content-Type", "application/xml; charset=utf-8"}};
  if (!context.empty()) request.headers.push_back({"Cookie", "webvpncontext=" + context});
  request.body = std::move(body);
  return request;
}

Result<LoginOutcome> judge_login(const wire::HttpResponse& response) {
  if (response.status != 200) return judge_status(response);
  auto login = wire::parse_login_response(response.body);
  if (!login)
    return fail(ErrorCode::kFailure,
                "the answer to the login is not a VPN server's: " + login.error().what, {},
                "check address, port and path");
  switch (login->kind) {
    case wire::LoginResponse::Kind::kSuccess:
      return succeeded(response, *login);
    case wire::LoginResponse::Kind::kForm:
      return LoginOutcome(asked(response, std::move(*login)));
    case wire::LoginResponse::Kind::kFailure:
      return refused(*login);
    case wire::LoginResponse::Kind::kCertificateRequested:
      return fail(ErrorCode::kAuthRefused,
                  "the server asks for a client certificate although it was shown ours");
  }
  return refused(*login);
}

wire::HttpRequest attach_request(const Profile& profile, const AttachOffer& offer) {
  wire::ConnectOffer connect;
  connect.cookie = std::string(offer.cookie);
  connect.hostname = local_hostname();
  connect.user_agent = std::string(wire::kUserAgent);
  connect.base_mtu = offer.base_mtu;
  connect.mtu = offer.mtu;
  connect.full_ipv6 = true;
  connect.psk = offer.udp ? wire::PskPosition::kOnly : wire::PskPosition::kNone;
  connect.features = kWantedFeatures;
  connect.attach = offer.attach;
  connect.previous.assign(offer.previous.begin(), offer.previous.end());
  return wire::write_connect_request(connect, profile.authority());
}

Result<wire::TunnelParams> judge_attach(const wire::HttpResponse& response) {
  auto params = wire::parse_connect_response(response);
  // A server that says more than it was asked for has not understood.
  if (!params) return params;
  params->features = wire::common_to(params->features, kWantedFeatures);
  if (!wire::allows(params->features, params->attach)) params->attach = wire::AttachMode::kNone;
  return params;
}

}  // namespace culvert::client
