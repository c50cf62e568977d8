#include "client/terminal.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace culvert::client {

Result<Terminal> Terminal::open() {
  UniqueFd fd(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY));
  if (fd.valid() && ::isatty(fd.get()) == 1) return Terminal(std::move(fd));
  return fail(ErrorCode::kNeedsInteraction, "there is no terminal");
}

Terminal::~Terminal() {
  if (fd_.valid()) done();
}

void Terminal::ask(const std::string& prompt) {
  if (!asking_ && ::tcgetattr(fd_.get(), &before_) == 0) {
    termios silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    silent.c_lflag |= ICANON | ISIG;
    asking_ = ::tcsetattr(fd_.get(), TCSAFLUSH, &silent) == 0;
  }
  write(prompt);
}

void Terminal::done() {
  if (!std::exchange(asking_, false)) return;
  ::tcsetattr(fd_.get(), TCSADRAIN, &before_);
  write("\n");  // the one that was typed was not shown
}

void Terminal::write(const std::string& text) {
  if (::write(fd_.get(), text.data(), text.size()) < 0) return;  // nobody is there to see it
}

}  // namespace culvert::client
