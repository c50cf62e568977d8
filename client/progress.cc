#include "client/progress.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <optional>
#include <string_view>
#include <utility>

#include "common/base/scope_exit.h"
#include "common/control/protocol.h"

namespace culvert::client {
namespace {

constexpr size_t kMaxUnfinishedLine = control::kMaxRequestLine;

// Nothing for a progress line, which goes to `on_line`; else the end of the story.
std::optional<Status> take_line(std::string_view line,
                                const std::function<void(const std::string&)>& on_line) {
  const auto json = control::Json::parse(line, nullptr, false);
  if (json.is_object() && json.contains("progress") && json["progress"].is_string()) {
    on_line(json["progress"].get<std::string>());
    return std::nullopt;
  }
  auto answer = control::parse_answer(line);
  if (!answer) return Status(std::move(answer.error()));
  return Status();
}

sigset_t interrupts() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

void ProgressWriter::line(const std::string& text) {
  const control::Json json = {{"progress", text}};
  write_line(json.dump(-1, ' ', true, control::Json::error_handler_t::replace));
}

void ProgressWriter::up() {
  write_line(control::encode_result(control::Json::object()));
  pipe_.reset();
}

void ProgressWriter::failed(const Error& error) {
  write_line(control::encode_error(error));
  pipe_.reset();
}

// A pipe takes far more than the few lines of a connect: a write that does not fit is lost.
void ProgressWriter::write_line(std::string text) {
  if (!pipe_.valid()) return;
  text += '\n';
  if (::write(pipe_.get(), text.data(), text.size()) < 0 && errno == EPIPE) pipe_.reset();
}

Status follow_progress(UniqueFd pipe, pid_t background,
                       const std::function<void(const std::string&)>& on_line) {
  const sigset_t set = interrupts();
  sigset_t before;
  ::sigprocmask(SIG_BLOCK, &set, &before);
  const ScopeExit restore([&] { ::sigprocmask(SIG_SETMASK, &before, nullptr); });
  const UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  std::string unfinished;
  while (true) {
    std::array<pollfd, 2> wait = {pollfd{pipe.get(), POLLIN, 0}, {signals.get(), POLLIN, 0}};
    if (::poll(wait.data(), wait.size(), -1) < 0 && errno != EINTR)
      return fail_errno(ErrorCode::kFailure, errno, "cannot wait for the background process");
    signalfd_siginfo signal{};
    if (::read(signals.get(), &signal, sizeof signal) == sizeof signal) ::kill(background, SIGTERM);
    if (wait[0].revents == 0) continue;
    std::array<char, 4096> chunk{};
    const ssize_t size = ::read(pipe.get(), chunk.data(), chunk.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0 || unfinished.size() > kMaxUnfinishedLine)
      return fail(ErrorCode::kFailure, "the background process ended without a word");
    unfinished.append(chunk.data(), static_cast<size_t>(size));
    for (size_t end; (end = unfinished.find('\n')) != std::string::npos;) {
      if (auto outcome = take_line(std::string_view(unfinished).substr(0, end), on_line))
        return std::move(*outcome);
      unfinished.erase(0, end + 1);
    }
  }
}

}  // namespace culvert::client
