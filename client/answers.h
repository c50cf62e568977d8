// Answers to what a server asks beyond the certificate: from a command that the profile names, or
// from the person at the terminal.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/base/secret.h"
#include "common/base/unique_fd.h"
#include "common/loop/child.h"
#include "common/loop/loop.h"
#include "common/loop/poll.h"

namespace culvert::client {

constexpr size_t kMaxAnswer = 1024;  // bytes

struct Question {
  std::string field;   // its name in the form
  std::string prompt;  // escaped for display
};

class Answers {
 public:
  using Done = std::function<void(Result<Secret>)>;

  virtual ~Answers() = default;
  // Calls `done` once with 1 to kMaxAnswer bytes on one line, or with kNeedsInteraction and why
  // there is none; it may come at once, and may ask the next. One question at a time.
  virtual void ask(const Question& question, Done done) = 0;
  // No call comes any more for what is being asked.
  virtual void cancel() = 0;
  // An answer that was wrong may be replaced by a better one.
  [[nodiscard]] virtual bool can_try_again() const = 0;
};

// Runs `command` with /bin/sh for each question, the field's name as a line on its standard input;
// the first line of its standard output is the answer. It has a minute. `loop` must outlive it.
[[nodiscard]] std::unique_ptr<Answers> answers_from_command(loop::Loop& loop, std::string command);

// A line from a descriptor for each question that `put` asks on its other side: a terminal, or the
// command that waits for us; `taken` comes when no more is read for it. End of file: there is
// nobody any more. `loop` must outlive it.
[[nodiscard]] std::unique_ptr<Answers> answers_from_line(loop::Loop& loop, UniqueFd fd,
                                                         std::function<void(const Question&)> put,
                                                         std::function<void()> taken);

}  // namespace culvert::client
