#include <gtest/gtest.h>

#include "common/wire/http_exchange.h"

namespace culvert::wire {
namespace {

// Reads `text` in pieces of `step` bytes.
Result<HttpRequest> read(std::string_view text, size_t step = SIZE_MAX) {
  HttpRequestReader reader;
  for (size_t at = 0; at < text.size() && !reader.complete();) {
    const auto taken = reader.feed(as_bytes(text.substr(at, step)));
    if (!taken) return taken.error();
    at += *taken;
  }
  if (!reader.complete()) return fail(ErrorCode::kFailure, "incomplete");
  return reader.take();
}

constexpr std::string_view kPost =
    "POST /auth HTTP/1.1\r\n"
    "Host: server:4443\r\n"
    "User-Agent: Open AnyConnect VPN Agent v9.01\r\n"
    "X-Aggregate-Auth: 1\r\n"
    "Content-Length: 5\r\n"
    "\r\n"
    "hello";

TEST(HttpRequest, ReadsAPostInPiecesOfAnySize) {
  for (const size_t step : {size_t{1}, size_t{2}, size_t{7}, SIZE_MAX}) {
    const auto request = read(kPost, step);
    ASSERT_TRUE(request) << step;
    EXPECT_EQ(request->method, "POST");
    EXPECT_EQ(request->target, "/auth");
    EXPECT_EQ(request->headers.size(), 4U);
    EXPECT_EQ(request->find("user-AGENT"), "Open AnyConnect VPN Agent v9.01");
    EXPECT_EQ(request->body, "hello");
    EXPECT_TRUE(request->keep_alive);
  }
}

TEST(HttpRequest, LeavesWhatFollowsToTheCaller) {
  const std::string text = "CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nCookie: webvpn=x\r\n\r\nSTF";
  HttpRequestReader reader;
  const auto taken = reader.feed(as_bytes(text));
  ASSERT_TRUE(taken);
  EXPECT_EQ(*taken, text.size() - 3);
  EXPECT_TRUE(reader.complete());
}

TEST(HttpRequest, ReadsTheNextOneAfterTake) {
  HttpRequestReader reader;
  EXPECT_FALSE(reader.started());
  ASSERT_TRUE(reader.feed(as_bytes(kPost)));
  (void)reader.take();
  EXPECT_FALSE(reader.started());
  EXPECT_FALSE(reader.complete());
  ASSERT_TRUE(reader.feed(as_bytes(kPost)));
  EXPECT_EQ(reader.take().body, "hello");
}

TEST(HttpRequest, CarriesNothingOverToTheNextOne) {
  HttpRequestReader reader;
  ASSERT_TRUE(reader.feed(as_bytes(kPost)));
  (void)reader.take();
  ASSERT_TRUE(reader.feed(as_bytes("GET / HTTP/1.1\r\n\r\n")));
  const auto request = reader.take();
  EXPECT_TRUE(request.headers.empty());
  EXPECT_TRUE(request.body.empty());
}

TEST(HttpRequest, DecodesChunksAndDropsTrailers) {
  constexpr std::string_view kText =
      "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nCookie: webvpn=evil\r\n\r\n";
  for (const size_t step : {size_t{1}, size_t{3}, SIZE_MAX}) {
    const auto request = read(kText, step);
    ASSERT_TRUE(request);
    EXPECT_EQ(request->body, "hello world");
    EXPECT_FALSE(request_cookie(*request, "webvpn"));
  }
}

TEST(HttpRequest, TakesAnEmptyChunkedBodyByteByByte) {
  const auto request = read("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1);
  ASSERT_TRUE(request);
  EXPECT_TRUE(request->body.empty());
}

TEST(HttpRequest, KnowsWhenTheConnectionEnds) {
  EXPECT_FALSE(read("GET / HTTP/1.1\r\nConnection: close\r\n\r\n")->keep_alive);
  EXPECT_FALSE(read("GET / HTTP/1.0\r\n\r\n")->keep_alive);
  EXPECT_TRUE(read("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")->keep_alive);
}

// Everything that two parsers in a row could read in two ways, and plain nonsense.
constexpr std::string_view kRefused[] = {
    "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 0x3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nX-A: b\r\n folded\r\n\r\n",
    "POST / HTTP/1.1\r\nX-A: b\r\n\tfolded\r\n\r\n",
    "POST / HTTP/1.1\nContent-Length: 0\n\n",
    "POST / HTTP/1.1\r\nX-A: b\rc\r\n\r\n",
    "POST / HTTP/1.1\r\nX-A: b\n\r\n",
    "POST / HTTP/1.1\r\nX-A: \x01\r\n\r\n",
    "POST / HTTP/1.1\r\nno colon\r\n\r\n",
    "POST / HTTP/1.1\r\n: no name\r\n\r\n",
    "POST / HTTP/2.0\r\n\r\n",
    "POST  / HTTP/1.1\r\n\r\n",
    "POST /\r\n\r\n",
    "\r\nPOST / HTTP/1.1\r\n\r\n",
    "\x16\x03\x01\x02\r\n\r\n",
    "CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd",
    "CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n 1\r\nx\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
};

TEST(HttpRequest, RefusesAmbiguousAndMalformedMessages) {
  for (const std::string_view text : kRefused) {
    for (const size_t step : {size_t{1}, SIZE_MAX}) {
      const auto request = read(text, step);
      ASSERT_FALSE(request) << text;
      EXPECT_NE(request.error().what, "incomplete") << text;
    }
  }
  EXPECT_FALSE(read(std::string("POST / HTTP/1.1\r\nX-A: a\0b\r\n\r\n", 30)));
}

TEST(HttpRequest, StaysRefusedAfterAnError) {
  HttpRequestReader reader;
  EXPECT_FALSE(reader.feed(as_bytes("nonsense\n")));
  EXPECT_FALSE(reader.feed(as_bytes(kPost)));
  EXPECT_FALSE(reader.complete());
}

TEST(HttpRequest, LimitsTheHeaderBlockTo16Kib) {
  const std::string start = "GET / HTTP/1.1\r\nX-A: ";
  const std::string end = "\r\n\r\n";
  const size_t room = 16 * 1024 - start.size() - end.size();
  EXPECT_TRUE(read(start + std::string(room, 'a') + end));
  EXPECT_FALSE(read(start + std::string(room + 1, 'a') + end));
  HttpRequestReader endless;
  EXPECT_FALSE(endless.feed(as_bytes(std::string(1 << 20, 'a'))));
}

TEST(HttpRequest, LimitsTheBodyTo64Kib) {
  const auto with_length = [](size_t size) {
    return "POST / HTTP/1.1\r\nContent-Length: " + std::to_string(size) + "\r\n\r\n" +
           std::string(size, 'a');
  };
  EXPECT_TRUE(read(with_length(65536)));
  EXPECT_FALSE(read(with_length(65537)));
  std::string chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 17; ++i)
    chunked += "1000\r\n" + std::string(4096, 'a') + "\r\n";
  EXPECT_FALSE(read(chunked + "0\r\n\r\n"));
}

TEST(HttpRequest, LimitsChunkLinesAndTrailers) {
  const std::string head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_FALSE(read(head + "1;" + std::string(300, 'a') + "\r\nx\r\n0\r\n\r\n"));
  EXPECT_FALSE(read(head + "0\r\nA: " + std::string(5000, 'a') + "\r\n\r\n"));
}

TEST(HttpRequest, FindsCookiesAmongOthers) {
  const auto request = read(
      "POST / HTTP/1.1\r\nCookie: a=b; webvpncontext=cd=\r\ncookie: xwebvpn=no;webvpn=ef; "
      "g=\r\n\r\n");
  ASSERT_TRUE(request);
  EXPECT_EQ(request_cookie(*request, "webvpncontext"), "cd=");
  EXPECT_EQ(request_cookie(*request, "webvpn"), "ef");
  EXPECT_FALSE(request_cookie(*request, "g"));
  EXPECT_FALSE(request_cookie(*request, "vpn"));
}

}  // namespace
}  // namespace culvert::wire
