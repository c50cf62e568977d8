#include "client/answers.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "common/base/text.h"

namespace culvert::client {
namespace {

constexpr Duration kCommandLimit = std::chrono::seconds(60);

// The first line of `text`; what is left of an answer in memory is wiped by the caller.
Result<Secret> first_line(std::string_view text, const std::string& source) {
  text = text.substr(0, text.find('\n'));
  if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
  if (text.empty())
    return fail(ErrorCode::kNeedsInteraction, "no answer for the server's form", source);
  if (text.size() > kMaxAnswer)
    return fail(ErrorCode::kNeedsInteraction, "the answer for the server's form is too long",
                source, "at most " + std::to_string(kMaxAnswer) + " bytes");
  return Secret(as_bytes(text));
}

class FromCommand final : public Answers {
 public:
  FromCommand(loop::Loop& loop, std::string command) : loop_(loop), command_(std::move(command)) {}

  void ask(const Question& question, Done done) override {
    auto child = loop::Child::run(
        loop_, {"/bin/sh", "-c", command_}, question.field + "\n", kCommandLimit,
        [done](Result<loop::ChildResult> result) { done(judge(std::move(result))); });
    if (!child) return done(judge(std::move(child.error())));
    child_ = std::move(*child);
  }

  void cancel() override { child_ = {}; }
  [[nodiscard]] bool can_try_again() const override { return false; }

 private:
  static Result<Secret> judge(Result<loop::ChildResult> result) {
    const std::string where = "password_command";
    if (!result) return fail(ErrorCode::kNeedsInteraction, result.error().what, where);
    auto answer =
        result->succeeded()
            ? first_line(result->out, where)
            : Result<Secret>(fail(
                  ErrorCode::kNeedsInteraction,
                  "the command failed: " + escape_for_display(trim(result->err).substr(0, 200)),
                  where));
    wipe(std::as_writable_bytes(std::span(result->out)));
    return answer;
  }

  loop::Loop& loop_;
  std::string command_;
  loop::Child child_;
};

class FromLine final : public Answers {
 public:
  FromLine(loop::Loop& loop, UniqueFd fd, std::function<void(const Question&)> put,
           std::function<void()> taken)
      : fd_(std::move(fd)),
        poll_(loop, fd_.get()),
        put_(std::move(put)),
        taken_(std::move(taken)) {}
  ~FromLine() override { cancel(); }
  FromLine(const FromLine&) = delete;
  FromLine& operator=(const FromLine&) = delete;

  void ask(const Question& question, Done done) override {
    done_ = std::move(done);
    wipe(line_);
    line_.clear();
    line_.reserve(kMaxAnswer + 2);  // it never moves
    const Status watching = poll_.start([this](unsigned, int) { on_readable(); }, loop::kReadable);
    if (!watching) return conclude(gone());
    put_(question);  // if it reaches nobody, the read says so
  }

  void cancel() override {
    poll_.stop();
    wipe(line_);
    line_.clear();
    if (std::exchange(done_, nullptr)) taken_();
  }
  [[nodiscard]] bool can_try_again() const override { return true; }

 private:
  void on_readable() {
    std::array<std::byte, kMaxAnswer> chunk{};
    const ssize_t size = ::read(fd_.get(), chunk.data(), chunk.size());
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    const auto end = chunk.begin() + std::max<ssize_t>(size, 0);
    const bool whole = std::find(chunk.begin(), end, std::byte{'\n'}) != end;
    const auto room = static_cast<ptrdiff_t>(kMaxAnswer + 2 - line_.size());
    line_.insert(line_.end(), chunk.begin(), std::min(end, chunk.begin() + room));
    wipe(chunk);
    if (!whole && size > 0 && line_.size() <= kMaxAnswer) return;
    conclude(size > 0 ? first_line(as_text(Bytes(line_)), {}) : Result<Secret>(gone()));
  }

  void conclude(Result<Secret> answer) {
    const Done done = done_;
    cancel();
    done(std::move(answer));
  }

  static Error gone() {
    return fail(ErrorCode::kNeedsInteraction, "nobody is there to answer the server's form", {},
                "connect from a terminal, or let password_command in the profile answer");
  }

  UniqueFd fd_;
  loop::Poll poll_;
  std::function<void(const Question&)> put_;
  std::function<void()> taken_;
  Done done_;
  std::vector<std::byte> line_;
};

}  // namespace

std::unique_ptr<Answers> answers_from_command(loop::Loop& loop, std::string command) {
  return std::make_unique<FromCommand>(loop, std::move(command));
}

std::unique_ptr<Answers> answers_from_line(loop::Loop& loop, UniqueFd fd,
                                           std::function<void(const Question&)> put,
                                           std::function<void()> taken) {
  return std::make_unique<FromLine>(loop, std::move(fd), std::move(put), std::move(taken));
}

}  // namespace culvert::client
