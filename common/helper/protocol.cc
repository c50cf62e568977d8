#include "common/helper/protocol.h"

#include <array>
#include <cassert>
#include <utility>

#include "common/base/text.h"
#include "common/net/request_line.h"
#include "common/net/tun_device.h"

namespace culvert::helper {
namespace {

constexpr size_t kHeader = 5;  // length, kind

Error senseless(std::string what, std::string_view where = {}) {
  return fail(ErrorCode::kUsage, std::move(what), escape_for_display(where.substr(0, 80)));
}

template <typename Value>
std::string to_lines(const std::vector<Value>& values) {
  std::string text;
  for (const Value& value : values)
    text.append(to_text(value)).append("\n");
  return text;
}

template <typename Value>
Result<std::vector<Value>> parse_lines(std::string_view text,
                                       Result<Value> (*parse)(std::string_view)) {
  std::vector<Value> values;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return senseless("the last line is not complete", text);
    auto value = parse(text.substr(0, end));
    if (!value) return std::move(value.error());
    values.push_back(std::move(*value));
    text.remove_prefix(end + 1);
  }
  return values;
}

}  // namespace

std::string write_frame(const Frame& frame) {
  assert(frame.text.size() <= kMaxFrame);
  std::array<std::byte, kHeader> header{};
  store_be32(header, static_cast<uint32_t>(frame.text.size()));
  header[4] = static_cast<std::byte>(frame.kind);
  return std::string(as_text(header)) + frame.text;
}

void FrameBuffer::feed(Bytes bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

Result<std::optional<Frame>> FrameBuffer::next() {
  if (bytes_.size() < kHeader) return std::optional<Frame>();
  const size_t size = load_be32(bytes_);
  const auto kind = std::to_integer<uint8_t>(bytes_[4]);
  if (size > kMaxFrame) return senseless("a frame is too large");
  if (kind < static_cast<uint8_t>(FrameKind::kBegin) ||
      kind > static_cast<uint8_t>(FrameKind::kAnswers)) {
    return senseless("a frame of an unknown kind");
  }
  if (bytes_.size() < kHeader + size) return std::optional<Frame>();
  Frame frame{static_cast<FrameKind>(kind),
              std::string(as_text(Bytes(bytes_).subspan(kHeader, size)))};
  bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<ptrdiff_t>(kHeader + size));
  return std::optional(std::move(frame));
}

std::string to_text(const Begin& begin) {
  const bool server = begin.scope.role == net::SystemScope::Role::kServer;
  net::LineWriter line("begin");
  line.text("journal", begin.journal)
      .text_unless_empty("control_socket", begin.control_socket)
      .text("role", server ? "server" : "client")
      .text("device", begin.scope.device);
  if (!server)
    line.number("first_table", begin.scope.first_table)
        .number("last_table", begin.scope.last_table);
  return line.take();
}

Result<Begin> parse_begin(std::string_view text) {
  net::LineReader line(text);
  Begin begin;
  if (line.verb() != "begin") line.note("not a beginning", line.verb());
  begin.journal = line.text("journal");
  begin.control_socket = line.optional_text("control_socket").value_or("");
  if (!begin.journal.starts_with('/')) line.note("not an absolute path", begin.journal);
  if (!begin.control_socket.empty() && !begin.control_socket.starts_with('/'))
    line.note("not an absolute path", begin.control_socket);
  const std::string role = line.text("role");
  if (role != "server" && role != "client") line.note("unknown role", role);
  begin.scope.device = line.text("device");
  if (!net::is_interface_name(begin.scope.device))
    line.note("not the name of a network interface", begin.scope.device);
  if (role == "client") {
    begin.scope.role = net::SystemScope::Role::kClient;
    begin.scope.first_table = line.required_number("first_table");
    begin.scope.last_table = line.required_number("last_table");
  }
  if (Status good = line.finish(); !good) return std::move(good.error());
  if (to_text(begin) != text) return senseless("not as we write it", text);
  return begin;
}

std::string to_text(const SocketRequest& request) {
  return net::LineWriter("socket")
      .text("family", request.family == Family::kV4 ? "ipv4" : "ipv6")
      .text("type", request.stream ? "stream" : "datagram")
      .number("mark", request.mark)
      .take();
}

Result<SocketRequest> parse_socket_request(std::string_view text) {
  net::LineReader line(text);
  if (line.verb() != "socket") line.note("not a request for a socket", line.verb());
  SocketRequest request;
  const std::string family = line.text("family");
  const std::string type = line.text("type");
  request.family = family == "ipv6" ? Family::kV6 : Family::kV4;
  request.stream = type == "stream";
  request.mark = line.required_number("mark");
  if (Status good = line.finish(); !good) return std::move(good.error());
  if (to_text(request) != text) return senseless("not as we write it", text);
  return request;
}

std::string to_text(const std::vector<net::SystemRequest>& requests) {
  return to_lines(requests);
}

Result<std::vector<net::SystemRequest>> parse_requests(std::string_view text) {
  return parse_lines<net::SystemRequest>(text, net::parse_request);
}

std::string to_text(const std::vector<net::SystemAnswer>& answers) {
  return to_lines(answers);
}

Result<std::vector<net::SystemAnswer>> parse_answers(std::string_view text) {
  return parse_lines<net::SystemAnswer>(text, net::parse_answer);
}

}  // namespace culvert::helper
