#include "common/wire/http_exchange.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>

#include "common/base/text.h"
#include "common/wire/chunked.h"

namespace culvert::wire {
namespace {

namespace beast = boost::beast;

struct Head {
  std::string method, target;  // of a request
  int status = 0;              // of a response
  std::string reason;
  bool http11 = false;
  bool keep_alive = false;
  std::vector<HttpHeader> headers;
};

// Collects what Beast's parser reports of one complete head. The body never reaches it.
template <bool kIsRequest>
class HeadParser final : public beast::http::basic_parser<kIsRequest> {
 public:
  Head head;

 private:
  using Code = beast::error_code;
  using Text = beast::string_view;

  void on_request_impl(beast::http::verb, Text method, Text target, int version, Code&) override {
    head.method.assign(method.data(), method.size());
    head.target.assign(target.data(), target.size());
    head.http11 = version == 11;
  }
  void on_response_impl(int code, Text reason, int version, Code&) override {
    head.status = code;
    head.reason.assign(reason.data(), reason.size());
    head.http11 = version == 11;
  }
  void on_field_impl(beast::http::field, Text name, Text value, Code&) override {
    head.headers.push_back({std::string(name.data(), name.size()),  //
                            std::string(value.data(), value.size())});
  }
  void on_header_impl(Code&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, Code&) override {}
  std::size_t on_body_impl(Text body, Code&) override { return body.size(); }
  void on_chunk_header_impl(std::uint64_t, Text, Code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, Text body, Code&) override { return body.size(); }
  void on_finish_impl(Code&) override {}
};

Error refused(std::string what) {
  return fail(ErrorCode::kFailure, std::move(what), "HTTP");
}

template <bool kIsRequest>
Result<Head> parse_head(std::string_view text) {
  HeadParser<kIsRequest> parser;
  parser.header_limit(static_cast<uint32_t>(text.size()) + 1);
  parser.skip(true);  // the message ends with its head: framing is ours
  beast::error_code error;
  const size_t taken = parser.put(boost::asio::buffer(text.data(), text.size()), error);
  if (error) return refused("malformed message: " + error.message());
  if (taken != text.size() || !parser.is_done()) return refused("malformed message");
  parser.head.keep_alive = parser.keep_alive();
  return std::move(parser.head);
}

// Follows a head byte by byte to its empty line and refuses what two parsers might read in two
// ways.
class HeadScanner {
 public:
  enum class Verdict { kMore, kEnd, kBad };

  Verdict next(char c) {
    const char before = std::exchange(before_, c);
    if (before == '\r') return c == '\n' ? end_of_line() : Verdict::kBad;
    if (c == '\r') return Verdict::kMore;
    const bool folded = line_length_ == 0 && (c == ' ' || c == '\t');
    if (c == '\n' || c == '\0' || folded) return Verdict::kBad;
    ++line_length_;
    return Verdict::kMore;
  }

 private:
  Verdict end_of_line() {
    return std::exchange(line_length_, 0) == 0 ? Verdict::kEnd : Verdict::kMore;
  }

  char before_ = 0;
  size_t line_length_ = 0;
};

// How the body is delimited (RFC 9112 section 6.3).
enum class Framing { kNone, kLength, kChunked, kUntilClose };
struct BodyPlan {
  Framing framing = Framing::kNone;
  size_t length = 0;
};

// What the headers say; without any, `otherwise`.
Result<BodyPlan> plan_body(const Head& head, Framing otherwise, size_t max_body) {
  const auto lengths = find_headers(head.headers, "Content-Length");
  const auto codings = find_headers(head.headers, "Transfer-Encoding");
  if (lengths.size() + codings.size() > 1)
    return refused("the length of the body is said more than once");
  if (!codings.empty()) {
    if (!iequals(codings[0], "chunked") || !head.http11)
      return refused("unsupported Transfer-Encoding");
    return BodyPlan{Framing::kChunked};
  }
  if (lengths.empty()) return BodyPlan{otherwise};
  const auto length = parse_decimal(lengths[0], 0, UINT64_MAX);
  if (!length) return refused("Content-Length is not a number");
  if (*length > max_body) return refused("the body is too long");
  return BodyPlan{Framing::kLength, *length};
}

}  // namespace

// The state of one message, request or response: its head is gathered whole and parsed at once, its
// body decoded as it comes.
class HttpReaderImpl {
 public:
  enum class Role { kRequest, kResponse, kConnectResponse };

  HttpReaderImpl(Role role, HttpLimits limits)
      : role_(role), limits_(limits), chunked_(limits.body_bytes) {}

  Result<size_t> feed(Bytes in) {
    const size_t offered = in.size();
    started_ = started_ || offered > 0;
    while (state_ != State::kComplete && !in.empty()) {
      const Status status = state_ == State::kHead ? take_head(in) : take_body(in);
      if (!status) {
        state_ = State::kFailed;
        return status.error();
      }
    }
    return offered - in.size();
  }

  Status feed_eof() {
    if (state_ == State::kComplete) return {};
    const bool whole = state_ == State::kBody && plan_.framing == Framing::kUntilClose;
    state_ = whole ? State::kComplete : State::kFailed;
    if (!whole) return fail(ErrorCode::kNetwork, "the connection was closed in the middle", "HTTP");
    return {};
  }

  [[nodiscard]] bool complete() const { return state_ == State::kComplete; }
  [[nodiscard]] bool started() const { return started_; }
  [[nodiscard]] bool opens_tunnel() const {
    return role_ == Role::kConnectResponse && head_.status == 200;
  }
  Head head_;
  std::string body_;

 private:
  enum class State { kHead, kBody, kComplete, kFailed };

  Status take_head(Bytes& in) {
    while (!in.empty()) {
      const char c = std::to_integer<char>(in.front());
      in = in.subspan(1);
      if (raw_.size() == limits_.header_bytes) return refused("the header block is too long");
      raw_ += c;
      const auto verdict = scanner_.next(c);
      if (verdict == HeadScanner::Verdict::kBad)
        return refused("malformed message: bad line end, folded line or NUL in the header block");
      if (verdict == HeadScanner::Verdict::kEnd) return finish_head();
    }
    return {};
  }

  Status finish_head() {
    auto head = role_ == Role::kRequest ? parse_head<true>(raw_) : parse_head<false>(raw_);
    if (!head) return head.error();
    raw_.clear();
    scanner_ = {};
    if (role_ != Role::kRequest && head->status / 100 == 1) return {};  // the real one follows
    head_ = std::move(*head);
    const bool request = role_ == Role::kRequest;
    auto plan =
        plan_body(head_, request ? Framing::kNone : Framing::kUntilClose, limits_.body_bytes);
    if (!plan) return plan.error();
    if (request && head_.method == "CONNECT" &&
        (plan->framing == Framing::kChunked || plan->length > 0))
      return refused("a CONNECT with a body");
    if (head_.status == 204 || head_.status == 304 || role_ == Role::kConnectResponse)
      plan = BodyPlan{};
    begin_body(*plan);
    return {};
  }

  void begin_body(const BodyPlan& plan) {
    plan_ = plan;
    const bool empty =
        plan.framing == Framing::kNone || (plan.framing == Framing::kLength && plan.length == 0);
    state_ = empty ? State::kComplete : State::kBody;
    if (plan.framing == Framing::kUntilClose) head_.keep_alive = false;
  }

  Status take_body(Bytes& in) {
    if (state_ == State::kFailed) return refused("used after an error");
    if (plan_.framing == Framing::kChunked) return take_chunked(in);
    const size_t room =
        (plan_.framing == Framing::kLength ? plan_.length : limits_.body_bytes) - body_.size();
    const Bytes part = in.first(std::min(in.size(), room));
    if (part.empty()) return refused("the body is too long");
    body_ += as_text(part);
    in = in.subspan(part.size());
    if (plan_.framing == Framing::kLength && body_.size() == plan_.length)
      state_ = State::kComplete;
    return {};
  }

  Status take_chunked(Bytes& in) {
    switch (chunked_.decode(in, body_)) {
      case ChunkedDecoder::Verdict::kNeedMore:
        return {};
      case ChunkedDecoder::Verdict::kDone:
        state_ = State::kComplete;
        return {};
      case ChunkedDecoder::Verdict::kTooLong:
        return refused("the body is too long");
      case ChunkedDecoder::Verdict::kBad:
        break;
    }
    return refused("malformed chunked body");
  }

  Role role_;
  HttpLimits limits_;
  State state_ = State::kHead;
  bool started_ = false;
  std::string raw_;  // of the head, until it is whole
  HeadScanner scanner_;
  BodyPlan plan_;
  ChunkedDecoder chunked_;
};

namespace {

HttpReaderImpl::Role role_of(HttpResponseReader::Kind kind) {
  return kind == HttpResponseReader::Kind::kConnect ? HttpReaderImpl::Role::kConnectResponse
                                                    : HttpReaderImpl::Role::kResponse;
}

}  // namespace

HttpRequestReader::HttpRequestReader(HttpLimits limits)
    : limits_(limits),
      impl_(std::make_unique<HttpReaderImpl>(HttpReaderImpl::Role::kRequest, limits)) {}
HttpRequestReader::HttpRequestReader(HttpRequestReader&&) noexcept = default;
HttpRequestReader& HttpRequestReader::operator=(HttpRequestReader&&) noexcept = default;
HttpRequestReader::~HttpRequestReader() = default;

Result<size_t> HttpRequestReader::feed(Bytes from_network) {
  return impl_->feed(from_network);
}
bool HttpRequestReader::complete() const {
  return impl_->complete();
}
bool HttpRequestReader::started() const {
  return impl_->started();
}

HttpRequest HttpRequestReader::take() {
  assert(complete());
  Head& head = impl_->head_;
  HttpRequest request{std::move(head.method), std::move(head.target), std::move(head.headers),
                      std::move(impl_->body_), head.keep_alive};
  *this = HttpRequestReader(limits_);
  return request;
}

HttpResponseReader::HttpResponseReader(Kind kind, HttpLimits limits)
    : kind_(kind),
      limits_(limits),
      impl_(std::make_unique<HttpReaderImpl>(role_of(kind), limits)) {}
HttpResponseReader::HttpResponseReader(HttpResponseReader&&) noexcept = default;
HttpResponseReader& HttpResponseReader::operator=(HttpResponseReader&&) noexcept = default;
HttpResponseReader::~HttpResponseReader() = default;

Result<size_t> HttpResponseReader::feed(Bytes from_network) {
  return impl_->feed(from_network);
}
Status HttpResponseReader::feed_eof() {
  return impl_->feed_eof();
}
bool HttpResponseReader::complete() const {
  return impl_->complete();
}

HttpResponse HttpResponseReader::take() {
  assert(complete());
  Head& head = impl_->head_;
  HttpResponse response{
      head.status,     std::move(head.reason), std::move(head.headers), std::move(impl_->body_),
      head.keep_alive, impl_->opens_tunnel()};
  *this = HttpResponseReader(kind_, limits_);
  return response;
}

}  // namespace culvert::wire
