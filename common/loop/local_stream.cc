#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <utility>

#include "common/loop/deferred.h"
#include "common/loop/handle_close.h"
#include "common/loop/local_socket.h"

namespace culvert::loop {

// Everything happens in callbacks of the loop: what a method of LocalStream finds out (a failed
// write, lines that a pause held back) is left to `later`, so that no owner is called back, and
// perhaps destroyed, from inside its own call.
struct LocalStream::State : std::enable_shared_from_this<State> {
  State(Loop& loop, UniqueFd socket);

  void on_ready(unsigned ready, int error);
  void receive();
  void deliver_lines();
  void flush();
  void run_later();
  void finish();
  void update_interest();
  [[nodiscard]] bool has_unsent() const { return sent < out.size(); }

  UniqueFd fd;  // closed once finished; before the poll here, so that it outlives it
  Poll poll;
  Deferred later;
  uid_t peer_uid = static_cast<uid_t>(-1);

  CallbackSlot<void(std::string_view)> on_line;
  CallbackSlot<void()> on_close;
  size_t max_line = 0;

  std::string in;  // no complete line in it, unless paused
  size_t scanned = 0;
  std::string out;
  size_t sent = 0;

  bool paused = true;     // until on_line()
  bool ending = false;    // no more reading: close once all is sent
  bool failed = false;    // close as soon as possible
  bool finished = false;  // closed, or abandoned by the owner
};

LocalStream::State::State(Loop& loop, UniqueFd socket)
    : fd(std::move(socket)), poll(loop, fd.get()), later(loop, [this] { run_later(); }) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0)
    peer_uid = credentials.uid;
  const auto watched = poll.start([this](unsigned ready, int error) { on_ready(ready, error); }, 0);
  if (!watched) {
    failed = true;
    later.arm();
  }
}

void LocalStream::State::on_ready(unsigned ready, int error) {
  const auto keep = shared_from_this();
  if (error != 0) failed = true;
  if ((ready & kWritable) != 0) flush();
  if ((ready & kReadable) != 0 && !ending) receive();
  if (!finished && (failed || (ending && !has_unsent()))) finish();
  if (!finished) update_interest();
}

void LocalStream::State::receive() {
  std::array<char, 16384> buffer;
  const ssize_t size = recv(fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (size > 0) {
    in.append(buffer.data(), static_cast<size_t>(size));
    deliver_lines();
  } else if (size == 0 || (errno != EAGAIN && errno != EINTR)) {
    failed = true;
  }
}

void LocalStream::State::deliver_lines() {
  size_t start = 0;
  while (!paused && !ending && !finished) {
    const size_t end = in.find('\n', std::max(start, scanned));
    const size_t length = (end == std::string::npos ? in.size() : end) - start;
    if (length > max_line) failed = true;
    if (failed || end == std::string::npos) {
      scanned = in.size();
      break;
    }
    const std::string_view line = std::string_view(in).substr(start, length);
    start = end + 1;
    on_line.call(line);
  }
  in.erase(0, start);
  scanned = scanned > start ? scanned - start : 0;
}

void LocalStream::State::flush() {
  while (has_unsent()) {
    const ssize_t size =
        send(fd.get(), out.data() + sent, out.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (size >= 0) {
      sent += static_cast<size_t>(size);
    } else if (errno != EINTR) {
      if (errno != EAGAIN) failed = true;
      break;
    }
  }
  if (!has_unsent()) {
    out.clear();
    sent = 0;
  } else if (sent > out.size() / 2) {
    out.erase(0, sent);
    sent = 0;
  }
}

void LocalStream::State::run_later() {
  const auto keep = shared_from_this();
  if (finished) return;
  if (!failed) deliver_lines();
  if (!finished && (failed || (ending && !has_unsent()))) finish();
  if (!finished) update_interest();
}

void LocalStream::State::finish() {
  finished = true;
  poll.stop();
  fd.reset();
  on_line.clear();
  on_close.call_once();
}

void LocalStream::State::update_interest() {
  const bool reading = !paused && !ending;
  poll.set_interest((reading ? unsigned{kReadable} : 0U) |
                    (has_unsent() ? unsigned{kWritable} : 0U));
}

LocalStream::LocalStream(Loop& loop, UniqueFd socket)
    : state_(std::make_shared<State>(loop, std::move(socket))) {}

LocalStream::~LocalStream() {
  state_->finished = true;
  state_->poll.stop();
  state_->later.disarm();
  state_->fd.reset();
  state_->on_line.clear();
  state_->on_close.clear();
}

void LocalStream::on_line(OnLine on_line, Task on_close, size_t max_line) {
  assert(state_->max_line == 0 && max_line > 0);
  state_->on_line.set(std::move(on_line));
  state_->on_close.set(std::move(on_close));
  state_->max_line = max_line;
  pause(false);
}

void LocalStream::pause(bool paused) {
  state_->paused = paused;
  state_->later.arm();
}

void LocalStream::write_line(std::string line) {
  assert(line.find('\n') == std::string::npos);
  if (state_->finished || state_->ending) return;
  if (state_->out.size() - state_->sent + line.size() > kMaxUnsent) state_->failed = true;
  line += '\n';
  const bool idle = !state_->has_unsent();
  if (idle)
    state_->out = std::move(line);
  else
    state_->out += line;
  if (idle && !state_->failed) state_->flush();
  if (state_->failed || state_->has_unsent()) state_->later.arm();
}

void LocalStream::close_after_write() {
  state_->ending = true;
  state_->later.arm();
}

uid_t LocalStream::peer_uid() const {
  return state_->peer_uid;
}

}  // namespace culvert::loop
