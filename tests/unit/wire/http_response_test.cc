#include <gtest/gtest.h>

#include "common/wire/http_exchange.h"

namespace culvert::wire {
namespace {

using Kind = HttpResponseReader::Kind;

// Reads `text` to its end of file; what was not taken goes to `rest`.
Result<HttpResponse> read(Kind kind, std::string_view text, std::string* rest = nullptr) {
  HttpResponseReader reader(kind);
  const auto taken = reader.feed(as_bytes(text));
  if (!taken) return taken.error();
  if (rest != nullptr) *rest = std::string(text.substr(*taken));
  if (auto status = reader.feed_eof(); !status) return status.error();
  return reader.take();
}

TEST(HttpResponse, ReadsABodyByItsLength) {
  std::string rest;
  const auto response =
      read(Kind::kOrdinary, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhixx", &rest);
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 200);
  EXPECT_EQ(response->reason, "OK");
  EXPECT_EQ(response->body, "hi");
  EXPECT_EQ(rest, "xx");
  EXPECT_FALSE(response->opens_tunnel);
}

TEST(HttpResponse, ReadsABodyThatLastsUntilTheEnd) {
  const auto response = read(Kind::kOrdinary, "HTTP/1.0 200 OK\r\n\r\nuntil the end");
  ASSERT_TRUE(response);
  EXPECT_EQ(response->body, "until the end");
  EXPECT_FALSE(response->keep_alive);
}

TEST(HttpResponse, RefusesABodyThatIsCut) {
  const auto response = read(Kind::kOrdinary, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi");
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code, ErrorCode::kNetwork);
  EXPECT_FALSE(
      read(Kind::kOrdinary, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx"));
  EXPECT_FALSE(read(Kind::kOrdinary, "HTTP/1.1 200 O"));
  EXPECT_FALSE(read(Kind::kOrdinary, ""));
}

TEST(HttpResponse, LimitsABodyThatLastsUntilTheEnd) {
  const std::string head = "HTTP/1.1 200 OK\r\n\r\n";
  EXPECT_TRUE(read(Kind::kOrdinary, head + std::string(256 * 1024, 'a')));
  EXPECT_FALSE(read(Kind::kOrdinary, head + std::string(256 * 1024 + 1, 'a')));
}

TEST(HttpResponse, SkipsContinue) {
  const auto response =
      read(Kind::kOrdinary,
           "HTTP/1.1 100 Continue\r\nX-A: b\r\n\r\nHTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 401);
  EXPECT_FALSE(response->find("X-A"));
}

TEST(HttpResponse, FramesAfterAConnectAreNotItsBody) {
  std::string rest;
  const auto response =
      read(Kind::kConnect, "HTTP/1.1 200 CONNECTED\r\nContent-Length: 8\r\n\r\nSTF\1", &rest);
  ASSERT_TRUE(response);
  EXPECT_TRUE(response->opens_tunnel);
  EXPECT_TRUE(response->body.empty());
  EXPECT_EQ(rest, "STF\1");
}

TEST(HttpResponse, RefusedConnectIsCompleteAfterItsHeader) {
  HttpResponseReader reader(Kind::kConnect);
  ASSERT_TRUE(reader.feed(as_bytes("HTTP/1.1 401 Cookie is not acceptable\r\n\r\n")));
  ASSERT_TRUE(reader.complete());
  const auto response = reader.take();
  EXPECT_EQ(response.status, 401);
  EXPECT_EQ(response.reason, "Cookie is not acceptable");
  EXPECT_FALSE(response.opens_tunnel);
}

TEST(HttpResponse, NoContentHasNoBody) {
  HttpResponseReader reader(Kind::kOrdinary);
  ASSERT_TRUE(reader.feed(as_bytes("HTTP/1.1 204 No Content\r\n\r\n")));
  EXPECT_TRUE(reader.complete());
}

TEST(HttpResponse, TakesTheLastCookieAndDropsAttributes) {
  const auto response = read(Kind::kOrdinary,
                             "HTTP/1.1 200 OK\r\n"
                             "Set-Cookie: webvpncontext=; expires=Thu, 01 Jan 1970 22:00:00 GMT\r\n"
                             "Set-Cookie: webvpn=first; Secure; HttpOnly\r\n"
                             "set-cookie: webvpn=c2Vjb25k==; Max-Age=300; Secure\r\n"
                             "Set-Cookie: other=x; webvpncontext=trap\r\n"
                             "Content-Length: 0\r\n\r\n");
  ASSERT_TRUE(response);
  EXPECT_EQ(response_cookie(*response, "webvpn"), "c2Vjb25k==");
  EXPECT_FALSE(response_cookie(*response, "webvpncontext"));
}

TEST(HttpResponse, AnEmptyCookieDeletesAnEarlierOne) {
  const auto response = read(
      Kind::kOrdinary,
      "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: a=; path=/\r\nContent-Length: 0\r\n\r\n");
  ASSERT_TRUE(response);
  EXPECT_FALSE(response_cookie(*response, "a"));
}

TEST(HttpSerialize, WritesARequestWithItsLength) {
  const HttpRequest request{"POST", "/", {{"Host", "vpn.example.com"}}, "body", true};
  EXPECT_EQ(*serialize(request),
            "POST / HTTP/1.1\r\nHost: vpn.example.com\r\nContent-Length: 4\r\n\r\nbody");
  EXPECT_EQ(*serialize(HttpRequest{"GET", "/", {}, {}, false}),
            "GET / HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

TEST(HttpSerialize, ConnectHasNoLengthInEitherDirection) {
  EXPECT_EQ(*serialize(HttpRequest{"CONNECT", "/CSCOSSLC/tunnel", {}, {}, true}),
            "CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\n\r\n");
  EXPECT_EQ(*serialize(HttpResponse{200, "CONNECTED", {{"X-CSTP-Version", "1"}}, {}, true, true}),
            "HTTP/1.1 200 CONNECTED\r\nX-CSTP-Version: 1\r\n\r\n");
}

TEST(HttpSerialize, WritesARefusal) {
  const HttpResponse response{401, "Unauthorized", {{"X-Reason", "expired"}}, {}, false};
  EXPECT_EQ(*serialize(response),
            "HTTP/1.1 401 Unauthorized\r\nX-Reason: expired\r\nContent-Length: 0\r\n"
            "Connection: close\r\n\r\n");
}

TEST(HttpSerialize, RefusesWhatCouldBreakOutOfItsLine) {
  for (const char* value : {"a\r\nX-Evil: 1", "a\nb", "a\rb", "\x01", "\x7f", "a\tb"})
    EXPECT_FALSE(serialize(HttpResponse{200, "OK", {{"X-CSTP-Banner", value}}, {}})) << value;
  EXPECT_FALSE(serialize(HttpResponse{200, "OK", {{"X-A", std::string("a\0b", 3)}}, {}}));
  for (const char* name : {"", "X A", "X:A", "X\r\nA", "Content-Length", "transfer-encoding"})
    EXPECT_FALSE(serialize(HttpResponse{200, "OK", {{name, "1"}}, {}})) << name;
  EXPECT_FALSE(serialize(HttpResponse{200, "OK\r\nX: y", {}, {}}));
  EXPECT_FALSE(serialize(HttpResponse{99, "OK", {}, {}}));
  EXPECT_FALSE(serialize(HttpRequest{"POST", "/ HTTP/1.1\r\nX: y", {}, {}}));
  EXPECT_FALSE(serialize(HttpRequest{"PO ST", "/", {}, {}}));
  EXPECT_FALSE(serialize(HttpRequest{"CONNECT", "/", {}, "body"}));
}

}  // namespace
}  // namespace culvert::wire
