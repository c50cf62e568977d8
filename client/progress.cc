#include "client/progress.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <optional>
#include <string_view>
#include <utility>

#include "common/base/scope_exit.h"
#include "common/base/secret.h"
#include "common/control/protocol.h"

namespace culvert::client {
namespace {

constexpr size_t kMaxUnfinishedLine = control::kMaxRequestLine;

using OnLine = std::function<void(const std::string&)>;

std::optional<std::string> member(const control::Json& json, const char* name) {
  if (!json.is_object() || !json.contains(name) || !json[name].is_string()) return std::nullopt;
  return json[name].get<std::string>();
}

sigset_t interrupts() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

// The command's end, until the story is over.
class Follower {
 public:
  Follower(UniqueFd pipe, pid_t background, std::optional<Terminal> terminal, OnLine on_line);
  Status follow(const UniqueFd& signals);

 private:
  void pass_answer();
  void nobody();
  std::optional<Status> take_lines();
  std::optional<Status> take_line(std::string_view line);

  UniqueFd pipe_;
  pid_t background_;
  std::optional<Terminal> terminal_;
  OnLine on_line_;
  std::string unfinished_;
  bool asking_ = false;
};

Follower::Follower(UniqueFd pipe, pid_t background, std::optional<Terminal> terminal,
                   OnLine on_line)
    : pipe_(std::move(pipe)),
      background_(background),
      terminal_(std::move(terminal)),
      on_line_(std::move(on_line)) {}

Status Follower::follow(const UniqueFd& signals) {
  while (true) {
    std::array<pollfd, 3> wait = {pollfd{pipe_.get(), POLLIN, 0},
                                  {signals.get(), POLLIN, 0},
                                  {asking_ ? terminal_->fd() : -1, POLLIN, 0}};
    if (::poll(wait.data(), wait.size(), -1) < 0 && errno != EINTR)
      return fail_errno(ErrorCode::kFailure, errno, "cannot wait for the background process");
    signalfd_siginfo signal{};
    if (::read(signals.get(), &signal, sizeof signal) == sizeof signal)
      ::kill(background_, SIGTERM);
    if (wait[2].revents != 0) pass_answer();
    if (wait[0].revents == 0) continue;
    if (auto outcome = take_lines()) return std::move(*outcome);
  }
}

// As it is typed: the other side looks for the end of the line.
void Follower::pass_answer() {
  std::array<std::byte, 1024> typed{};
  const ssize_t size = ::read(terminal_->fd(), typed.data(), typed.size());
  if (size < 0 && errno == EINTR) return;
  const auto end = typed.begin() + std::max<ssize_t>(size, 0);
  if (size > 0 && ::send(pipe_.get(), typed.data(), static_cast<size_t>(size), MSG_NOSIGNAL) < 0)
    asking_ = false;  // nobody waits for it any more, and the next read says so
  if (std::find(typed.begin(), end, std::byte{'\n'}) != end) asking_ = false;
  wipe(typed);
  if (size <= 0) nobody();
  if (!asking_) terminal_->done();
}

void Follower::nobody() {
  asking_ = false;
  ::shutdown(pipe_.get(), SHUT_WR);
}

// Nothing as long as the story goes on; else its end.
std::optional<Status> Follower::take_lines() {
  std::array<char, 4096> chunk{};
  const ssize_t size = ::read(pipe_.get(), chunk.data(), chunk.size());
  if (size < 0 && errno == EINTR) return std::nullopt;
  if (size <= 0 || unfinished_.size() > kMaxUnfinishedLine)
    return fail(ErrorCode::kFailure, "the background process ended without a word");
  unfinished_.append(chunk.data(), static_cast<size_t>(size));
  for (size_t end; (end = unfinished_.find('\n')) != std::string::npos;) {
    auto outcome = take_line(std::string_view(unfinished_).substr(0, end));
    if (outcome) return outcome;
    unfinished_.erase(0, end + 1);
  }
  return std::nullopt;
}

std::optional<Status> Follower::take_line(std::string_view line) {
  const auto json = control::Json::parse(line, nullptr, false);
  if (const auto text = member(json, "progress")) {
    on_line_(*text);
    return std::nullopt;
  }
  if (const auto prompt = member(json, "question")) {
    asking_ = terminal_.has_value();
    if (asking_)
      terminal_->ask(*prompt);
    else
      nobody();
    return std::nullopt;
  }
  auto answer = control::parse_answer(line);
  if (!answer) return Status(std::move(answer.error()));
  return Status();
}

}  // namespace

void ProgressWriter::line(const std::string& text) {
  tell("progress", text);
}

void ProgressWriter::question(const std::string& prompt) {
  tell("question", prompt);
}

void ProgressWriter::tell(const char* name, const std::string& text) {
  const control::Json json = {{name, text}};
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

// A socket takes far more than the few lines of a connect: a write that does not fit is lost.
void ProgressWriter::write_line(std::string text) {
  if (!pipe_.valid()) return;
  text += '\n';
  if (::write(pipe_.get(), text.data(), text.size()) < 0 && errno == EPIPE) pipe_.reset();
}

Status follow_progress(UniqueFd pipe, pid_t background, std::optional<Terminal> terminal,
                       const OnLine& on_line) {
  const sigset_t set = interrupts();
  sigset_t before;
  ::sigprocmask(SIG_BLOCK, &set, &before);
  const ScopeExit restore([&] { ::sigprocmask(SIG_SETMASK, &before, nullptr); });
  const UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  return Follower(std::move(pipe), background, std::move(terminal), on_line).follow(signals);
}

}  // namespace culvert::client
