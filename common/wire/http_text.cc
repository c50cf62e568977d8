// The rest of http_exchange.h that needs no parser: finding headers, writing messages, cookies.
#include <algorithm>

#include "common/base/text.h"
#include "common/wire/http_exchange.h"

namespace culvert::wire {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// RFC 9110 section 5.6.2.
bool is_token(std::string_view text) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') ||
           kOthers.find(c) != std::string_view::npos;
  });
}

bool is_target(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

Error unsendable(std::string what) {
  return fail(ErrorCode::kFailure, std::move(what), "HTTP");
}

Status append_headers(std::string& out, const std::vector<HttpHeader>& headers) {
  for (const HttpHeader& header : headers) {
    const std::string name = "header \"" + escape_for_display(header.name) + "\"";
    if (!is_token(header.name)) return unsendable(name + " is not a header name");
    if (!has_no_control_characters(header.value))
      return unsendable(name + " has control characters in its value");
    if (iequals(header.name, "Content-Length") || iequals(header.name, "Transfer-Encoding"))
      return unsendable(name + " is not the caller's to set");
    out += header.name + ": " + header.value + "\r\n";
  }
  return {};
}

// Headers, the lines that are ours, and the body.
Result<std::string> finish(std::string out, const std::vector<HttpHeader>& headers,
                           const std::string& body, bool with_length, bool keep_alive) {
  if (auto status = append_headers(out, headers); !status) return status.error();
  if (with_length) out += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  if (!keep_alive) out += "Connection: close\r\n";
  out += "\r\n";
  out += body;
  return out;
}

// The value of `name` in "a=b; c=d".
std::optional<std::string_view> find_pair(std::string_view pairs, std::string_view name) {
  for (const std::string_view part : split(pairs, ';')) {
    const std::string_view pair = trim(part);
    const size_t equals = pair.find('=');
    if (equals != std::string_view::npos && pair.substr(0, equals) == name)
      return pair.substr(equals + 1);
  }
  return std::nullopt;
}

}  // namespace

bool iequals(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

std::optional<std::string_view> find_header(const std::vector<HttpHeader>& headers,
                                            std::string_view name) {
  for (const HttpHeader& header : headers)
    if (iequals(header.name, name)) return header.value;
  return std::nullopt;
}

std::vector<std::string_view> find_headers(const std::vector<HttpHeader>& headers,
                                           std::string_view name) {
  std::vector<std::string_view> values;
  for (const HttpHeader& header : headers)
    if (iequals(header.name, name)) values.push_back(header.value);
  return values;
}

Result<std::string> serialize(const HttpRequest& request) {
  if (!is_token(request.method) || !is_target(request.target))
    return unsendable("\"" + escape_for_display(request.method + " " + request.target) +
                      "\" is not a request line");
  const bool connect = request.method == "CONNECT";
  if (connect && !request.body.empty()) return unsendable("a CONNECT has no body");
  return finish(request.method + " " + request.target + " HTTP/1.1\r\n", request.headers,
                request.body, !connect, request.keep_alive);
}

Result<std::string> serialize(const HttpResponse& response) {
  if (response.status < 200 || response.status > 599 || !has_no_control_characters(response.reason))
    return unsendable("\"" + std::to_string(response.status) + " " +
                      escape_for_display(response.reason) + "\" is not a status line");
  if (response.opens_tunnel && (response.status != 200 || !response.body.empty()))
    return unsendable("only a 200 without body opens a tunnel");
  return finish("HTTP/1.1 " + std::to_string(response.status) + " " + response.reason + "\r\n",
                response.headers, response.body, !response.opens_tunnel,
                response.keep_alive || response.opens_tunnel);
}

std::optional<std::string> request_cookie(const HttpRequest& request, std::string_view name) {
  for (const std::string_view pairs : find_headers(request.headers, "Cookie")) {
    const auto value = find_pair(pairs, name);
    if (value && !value->empty()) return std::string(*value);
  }
  return std::nullopt;
}

std::optional<std::string> response_cookie(const HttpResponse& response, std::string_view name) {
  std::optional<std::string> found;
  for (const std::string_view line : find_headers(response.headers, "Set-Cookie")) {
    const auto value = find_pair(line.substr(0, line.find(';')), name);
    if (value && value->empty()) found.reset();
    if (value && !value->empty()) found = std::string(*value);
  }
  return found;
}

}  // namespace culvert::wire
