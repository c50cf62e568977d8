#include "server/login_http.h"

#include <gtest/gtest.h>

#include "common/wire/auth_xml.h"
#include "server/login_limits.h"

namespace culvert::server {
namespace {

const Refusal kRevoked{.reason = "revoked", .text = "the certificate <x> was revoked"};

TEST(LoginHttp, KnowsTheStepsOfALogin) {
  const struct {
    const char *method, *target;
    LoginStep step;
  } cases[] = {
      {"POST", "/", LoginStep::kLogin},
      {"POST", "/auth", LoginStep::kLogin},
      {"POST", "/VPN", LoginStep::kLogin},
      {"POST", "/?query", LoginStep::kLogin},
      {"GET", "/", LoginStep::kLogin},
      {"GET", "/auth", LoginStep::kNotFound},
      {"GET", "/favicon.ico", LoginStep::kNotFound},
      {"POST", "/unknown", LoginStep::kNotFound},
      {"PUT", "/", LoginStep::kNotFound},
      {"CONNECT", "/CSCOSSLC/tunnel", LoginStep::kConnect},
      {"CONNECT", "/CSCOSSLC/tunnel?x", LoginStep::kNotFound},
      {"CONNECT", "/", LoginStep::kNotFound},
      {"connect", "/CSCOSSLC/tunnel", LoginStep::kNotFound},
  };
  for (const auto& c : cases) {
    wire::HttpRequest request;
    request.method = c.method;
    request.target = c.target;
    EXPECT_EQ(step_of(request), c.step) << c.method << " " << c.target;
  }
}

TEST(LoginHttp, CompletionCarriesTheCookieForTheTunnelOnly) {
  const auto response = complete_response("c0ffee");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.find("Set-Cookie"), "webvpn=c0ffee; Secure; HttpOnly");
  const auto parsed = wire::parse_login_response(response.body);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->kind, wire::LoginResponse::Kind::kSuccess);
}

TEST(LoginHttp, RefusedLoginIsADocumentThatStockClientsShow) {
  const auto response = failure_response(kRevoked);
  EXPECT_EQ(response.status, 200);
  EXPECT_FALSE(response.keep_alive);
  const auto parsed = wire::parse_login_response(response.body);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->kind, wire::LoginResponse::Kind::kFailure);
  EXPECT_EQ(parsed->error, kRevoked.text);
}

TEST(LoginHttp, FinalRefusalOfATunnelMakesClientsGiveUp) {
  EXPECT_EQ(connect_refused(kRevoked).status, 401);
  EXPECT_EQ(connect_refused(kRevoked).find("X-Reason"), kRevoked.text);
  Refusal later = kRevoked;
  later.final = false;
  EXPECT_EQ(connect_refused(later).status, 503);
}

TEST(LoginHttp, ReasonCannotBreakOutOfItsHeader) {
  Refusal refusal = kRevoked;
  refusal.text = "a\r\nX-CSTP-Address: 1.2.3.4";
  EXPECT_TRUE(wire::serialize(connect_refused(refusal)));
}

TEST(LoginHttp, TurnedAwayAnswerDependsOnTheFirstEightBytesAlone) {
  const struct {
    const char* first;
    int status;
  } cases[] = {{"CONNECT ", 401}, {"POST / H", 200}, {"connect ", 200}, {"\0\0\0", 200}, {"", 200}};
  for (const auto& c : cases)
    EXPECT_EQ(turned_away(c.first, kRevoked).status, c.status) << c.first;
}

TEST(LoginLimits, OneSourceCannotTakeAllPlaces) {
  LoginLimits limits({.total = 10, .per_source = 3});
  const IpAddress flood = IpAddress::parse("192.0.2.1").value();
  const IpAddress other = IpAddress::parse("192.0.2.2").value();
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(limits.judge(flood), LoginLimits::Verdict::kAdmit);
    limits.enter(flood);
  }
  EXPECT_EQ(limits.judge(flood), LoginLimits::Verdict::kSourceFull);
  EXPECT_EQ(limits.judge(other), LoginLimits::Verdict::kAdmit);
  limits.leave(flood);
  EXPECT_EQ(limits.judge(flood), LoginLimits::Verdict::kAdmit);
}

TEST(LoginLimits, AnIpv6NetworkIsOneSource) {
  LoginLimits limits({.total = 10, .per_source = 1});
  limits.enter(IpAddress::parse("2001:db8::1").value());
  EXPECT_EQ(limits.judge(IpAddress::parse("2001:db8::ffff:2").value()),
            LoginLimits::Verdict::kSourceFull);
  EXPECT_EQ(limits.judge(IpAddress::parse("2001:db8:0:1::1").value()),
            LoginLimits::Verdict::kAdmit);
}

TEST(LoginLimits, TotalIsBounded) {
  LoginLimits limits({.total = 2, .per_source = 2});
  limits.enter(IpAddress::parse("192.0.2.1").value());
  limits.enter(IpAddress::parse("192.0.2.2").value());
  EXPECT_EQ(limits.judge(IpAddress::parse("192.0.2.3").value()), LoginLimits::Verdict::kTotalFull);
}

}  // namespace
}  // namespace culvert::server
