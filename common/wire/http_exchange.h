// HTTP/1.1 for the login phase: one message at a time out of a byte stream, with limits, over
// Boost.Beast's parser (which stays inside http_exchange.cc). No I/O, no pipelining, no redirects.
//
// Stricter than the RFC where leniency has cost others: bare CR or LF, NUL, folded header lines,
// Transfer-Encoding beside Content-Length, and any coding but "chunked" are refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"

namespace culvert::wire {

struct HttpHeader {
  std::string name;
  std::string value;
  friend bool operator==(const HttpHeader&, const HttpHeader&) = default;
};

// The first value of `name`, any case; valid as long as `headers`.
[[nodiscard]] std::optional<std::string_view> find_header(const std::vector<HttpHeader>& headers,
                                                          std::string_view name);
// All of them, in order.
[[nodiscard]] std::vector<std::string_view> find_headers(const std::vector<HttpHeader>& headers,
                                                         std::string_view name);
// Equal but for the case of ASCII letters.
[[nodiscard]] bool iequals(std::string_view a, std::string_view b);

struct HttpRequest {
  std::string method;
  std::string target;
  std::vector<HttpHeader> headers;
  std::string body;
  bool keep_alive = true;

  [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const {
    return find_header(headers, name);
  }
};

struct HttpResponse {
  int status = 200;
  std::string reason = "OK";
  std::vector<HttpHeader> headers;
  std::string body;
  bool keep_alive = true;
  // The 200 to a CONNECT: no body, and no Content-Length when written.
  bool opens_tunnel = false;

  [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const {
    return find_header(headers, name);
  }
};

struct HttpLimits {
  size_t header_bytes;  // first line, headers and the empty line
  size_t body_bytes;    // after removing the chunked coding
};
inline constexpr HttpLimits kRequestLimits{16 * 1024, 64 * 1024};
// A server may push a thousand routes, one header each.
inline constexpr HttpLimits kResponseLimits{64 * 1024, 256 * 1024};

class HttpReaderImpl;

// Reads one request. feed() says how many bytes of its input belong to the request; what follows
// stays with the caller. After an error the reader is finished: answer 400 and close.
class HttpRequestReader {
 public:
  explicit HttpRequestReader(HttpLimits limits = kRequestLimits);
  HttpRequestReader(HttpRequestReader&&) noexcept;
  HttpRequestReader& operator=(HttpRequestReader&&) noexcept;
  ~HttpRequestReader();

  Result<size_t> feed(Bytes from_network);
  [[nodiscard]] bool complete() const;
  // True once a byte of a request has come: tells a quiet connection from a slow request.
  [[nodiscard]] bool started() const;
  // REQUIRES: complete(). Afterwards the reader is ready for the next request.
  [[nodiscard]] HttpRequest take();

 private:
  HttpLimits limits_;
  std::unique_ptr<HttpReaderImpl> impl_;
};

// Reads one response; 1xx responses are skipped.
class HttpResponseReader {
 public:
  enum class Kind {
    kOrdinary,
    kConnect,  // to a CONNECT: complete after its header, whatever the status; no body is read
  };
  explicit HttpResponseReader(Kind kind, HttpLimits limits = kResponseLimits);
  HttpResponseReader(HttpResponseReader&&) noexcept;
  HttpResponseReader& operator=(HttpResponseReader&&) noexcept;
  ~HttpResponseReader();

  Result<size_t> feed(Bytes from_network);
  // The connection ended. Completes a body that lasts until then; an error if the message is cut.
  Status feed_eof();
  [[nodiscard]] bool complete() const;
  // REQUIRES: complete(). Afterwards the reader is ready for the next response of the same kind.
  [[nodiscard]] HttpResponse take();

 private:
  Kind kind_;
  HttpLimits limits_;
  std::unique_ptr<HttpReaderImpl> impl_;
};

// The bytes to send. Content-Length is added here (also for an empty body, except to CONNECT and in
// the response that opens a tunnel), and "Connection: close" if keep_alive is false. Refuses names
// and values with bytes that could break out of their line, and Content-Length or
// Transfer-Encoding among the headers.
Result<std::string> serialize(const HttpRequest& request);
Result<std::string> serialize(const HttpResponse& response);

// The value of cookie `name` in the Cookie headers of a request; nothing if absent or empty.
[[nodiscard]] std::optional<std::string> request_cookie(const HttpRequest& request,
                                                        std::string_view name);
// The value that the response sets cookie `name` to, attributes dropped. The last one counts, and
// an empty value deletes (RFC 6265 section 5.3).
[[nodiscard]] std::optional<std::string> response_cookie(const HttpResponse& response,
                                                         std::string_view name);

}  // namespace culvert::wire
