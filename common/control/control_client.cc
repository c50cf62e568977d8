#include "common/control/control_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>

#include "common/base/unique_fd.h"
#include "common/control/protocol.h"

namespace culvert::control {
namespace {

// One exchange with the program at `path`, all of it before `deadline`.
class Exchange {
 public:
  Exchange(const std::string& path, TimePoint deadline) : path_(path), deadline_(deadline) {}

  Status connect();
  Status send(std::string_view text);
  Result<std::string> receive_line();

 private:
  [[nodiscard]] Status wait_for(short events) const;
  void limit_connecting() const;
  [[nodiscard]] Error failed(std::string_view what) const {
    return fail_errno(ErrorCode::kFailure, errno, what, path_);
  }
  [[nodiscard]] Error late() const {
    return fail(ErrorCode::kFailure, "no answer within the time limit", path_);
  }
  [[nodiscard]] Error not_connected() const;

  const std::string& path_;
  TimePoint deadline_;
  UniqueFd fd_;
};

Status Exchange::connect() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.empty() || path_.size() >= sizeof address.sun_path)
    return fail(ErrorCode::kUsage, "a socket path has 1 to 107 bytes", path_);
  std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
  fd_ = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd_.valid()) return failed("cannot make a socket");
  limit_connecting();
  while (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    if (errno != EINTR) return not_connected();
  return {};
}

// The socket is a blocking one while it connects: SO_SNDTIMEO waits for room in a full backlog
// (unix(7)), poll(2) would not.
void Exchange::limit_connecting() const {
  const auto left = std::chrono::ceil<std::chrono::microseconds>(
      std::max<Duration>(deadline_ - BootClock::now(), std::chrono::milliseconds(1)));
  timeval limit{};
  limit.tv_sec = static_cast<time_t>(left.count() / 1'000'000);
  limit.tv_usec = static_cast<suseconds_t>(left.count() % 1'000'000);
  setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

Error Exchange::not_connected() const {
  switch (errno) {
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED:
      return fail(ErrorCode::kNotRunning, "nothing is running there", path_);
    case EACCES:
    case EPERM:
      return fail_errno(ErrorCode::kPermission, errno, "cannot connect to the control socket",
                        path_, "run it as root");
    case EAGAIN:
      return late();
    default:
      return failed("cannot connect to the control socket");
  }
}

Status Exchange::wait_for(short events) const {
  constexpr int64_t kLongestPoll = 3'600'000;
  for (;;) {
    const int64_t left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline_ - BootClock::now()).count();
    pollfd entry{fd_.get(), events, 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::clamp<int64_t>(left, 0, kLongestPoll)));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return failed("cannot wait for the control socket");
    if (ready == 0 && left <= kLongestPoll) return late();
  }
}

Status Exchange::send(std::string_view text) {
  while (!text.empty()) {
    if (auto ready = wait_for(POLLOUT); !ready) return ready;
    const ssize_t size = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size >= 0)
      text.remove_prefix(static_cast<size_t>(size));
    else if (errno == EPIPE || errno == ECONNRESET)
      return {};  // it may have answered before it closed: reading tells
    else if (errno != EAGAIN && errno != EINTR)
      return failed("cannot send the request");
  }
  return {};
}

Result<std::string> Exchange::receive_line() {
  std::string line;
  std::array<char, 16384> buffer;
  for (;;) {
    if (auto ready = wait_for(POLLIN); !ready) return ready.error();
    const ssize_t size = recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (size <= 0)
      return fail(ErrorCode::kFailure, "the connection ended before the answer", path_,
                  "the other program may just be stopping; its log has the reason");
    const std::string_view piece(buffer.data(), static_cast<size_t>(size));
    const size_t end = piece.find('\n');
    line += piece.substr(0, end);
    if (end != std::string_view::npos) return line;
    if (line.size() > kMaxAnswerLine)
      return fail(ErrorCode::kFailure, "the answer is too long", path_);
  }
}

}  // namespace

Result<nlohmann::json> call(const std::string& path, const Request& request, Duration timeout) {
  Exchange exchange(path, BootClock::now() + timeout);
  if (auto connected = exchange.connect(); !connected) return connected.error();
  if (auto sent = exchange.send(encode_request(request) + "\n"); !sent) return sent.error();
  const auto line = exchange.receive_line();
  if (!line) return line.error();
  return parse_answer(*line);
}

}  // namespace culvert::control
