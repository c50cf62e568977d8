#include "client/login.h"

#include <gtest/gtest.h>

namespace culvert::client {
namespace {

wire::HttpResponse answer(int status, std::string body,
                          std::vector<wire::HttpHeader> headers = {}) {
  wire::HttpResponse response;
  response.status = status;
  response.body = std::move(body);
  response.headers = std::move(headers);
  return response;
}

std::string document(const std::string& inside) {
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<config-auth client=\"vpn\">" + inside +
         "</config-auth>";
}

const std::string kSuccess = document("<auth id=\"success\"><title>x</title></auth>");

TEST(Login, TakesTheCookieFromHeaderOrToken) {
  auto login = judge_login(answer(200, kSuccess, {{"Set-Cookie", "webvpn=abc; Secure"}}));
  ASSERT_TRUE(login) << login.error().message();
  EXPECT_EQ(std::get<LoginSuccess>(*login).cookie, "abc");
  login = judge_login(
      answer(200, document("<session-token>tok</session-token><auth id=\"success\"></auth>"),
             {{"Set-Cookie", "webvpn=abc; Secure"}}));
  ASSERT_TRUE(login);
  EXPECT_EQ(std::get<LoginSuccess>(*login).cookie, "tok");
}

struct Refusal {
  const char* name;
  wire::HttpResponse response;
  ErrorCode code;
  const char* words;
};

TEST(Login, EachRefusalHasItsCodeAndTheServersWords) {
  const std::vector<Refusal> cases = {
      {"failure document",
       answer(200, document("<auth id=\"failure\"><message>Login failed</message>"
                            "<error>certificate revoked</error></auth>")),
       ErrorCode::kAuthRefused, "certificate revoked"},
      {"401 with reason", answer(401, "", {{"X-Reason", "no certificate"}}),
       ErrorCode::kAuthRefused, "no certificate"},
      {"403", answer(403, ""), ErrorCode::kAuthRefused, "refused"},
      {"503", answer(503, "", {{"X-Reason", "full"}}), ErrorCode::kNetwork, "full"},
      {"redirect", answer(302, "", {{"Location", "https://other/"}}), ErrorCode::kFailure,
       "https://other/"},
      {"not a VPN server", answer(404, ""), ErrorCode::kFailure, "404"},
      {"a web page", answer(200, "<html>hi</html>"), ErrorCode::kFailure, "VPN server"},
      {"no cookie", answer(200, kSuccess), ErrorCode::kFailure, "cookie"},
  };
  for (const Refusal& c : cases) {
    const auto login = judge_login(c.response);
    ASSERT_FALSE(login) << c.name;
    EXPECT_EQ(login.error().code, c.code) << c.name << ": " << login.error().message();
    EXPECT_NE(login.error().message().find(c.words), std::string::npos)
        << c.name << ": " << login.error().message();
  }
}

TEST(Login, TheServersWordsAreEscaped) {
  const auto login = judge_login(answer(401, "", {{"X-Reason", "bad\x1b[2J"}}));
  ASSERT_FALSE(login);
  EXPECT_EQ(login.error().message().find('\x1b'), std::string::npos);
}

TEST(Login, CarriesThePathOfTheUrlAndTheName) {
  Profile profile;
  profile.server_name = "vpn.example.com";
  profile.port = 4443;
  profile.path = "/grp?x";
  const auto request = login_request(profile);
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.target, "/grp?x");
  EXPECT_EQ(*request.find("Host"), "vpn.example.com:4443");
  EXPECT_NE(request.body.find("https://vpn.example.com:4443/grp?x"), std::string::npos);
}

TEST(Attach, TakesOnlyWhatWasOfferedToo) {
  wire::HttpResponse response{200,
                              "CONNECTED",
                              {{"X-CSTP-Address", "10.7.0.2"},
                               {"X-CSTP-MTU", "1400"},
                               {"X-Culvert-Version", "1"},
                               {"X-Culvert-Features", "nonsense packed superpacket"},
                               {"X-Culvert-Attach", "rekey"}},
                              {},
                              true,
                              true};
  const auto params = judge_attach(response);
  ASSERT_TRUE(params);
  EXPECT_EQ(wire::write_features(params->features), "superpacket packed");
  EXPECT_EQ(params->attach, wire::AttachMode::kNone) << "the feature was not granted";
}

TEST(Attach, AsksForWhatItIsTold) {
  const auto asked = [](wire::AttachMode mode) {
    const auto request = attach_request({}, {.cookie = "c", .attach = mode});
    return std::string(request.find("X-Culvert-Attach").value_or(""));
  };
  EXPECT_EQ(asked(wire::AttachMode::kRekey), "rekey");
  EXPECT_EQ(asked(wire::AttachMode::kRoam), "roam");
  EXPECT_EQ(asked(wire::AttachMode::kNone), "");
}

}  // namespace
}  // namespace culvert::client
