// Terminal: asks the person at the keyboard for one line that is not shown.
#pragma once

#include <termios.h>

#include <string>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace culvert::client {

class Terminal {
 public:
  // The terminal that controls this process. kNeedsInteraction if there is none.
  static Result<Terminal> open();

  Terminal(Terminal&&) noexcept = default;
  Terminal& operator=(Terminal&&) = delete;
  // Puts the terminal back as after done().
  ~Terminal();

  // Readable when a line, or an end of file, is there.
  [[nodiscard]] int fd() const { return fd_.get(); }
  // Shows `prompt` and stops showing what is typed. What was typed before is thrown away: nobody
  // could see where it went.
  void ask(const std::string& prompt);
  // Shows again what is typed. Harmless if nothing was asked.
  void done();

 private:
  explicit Terminal(UniqueFd fd) : fd_(std::move(fd)) {}
  void write(const std::string& text);

  UniqueFd fd_;
  termios before_{};
  bool asking_ = false;
};

}  // namespace culvert::client
