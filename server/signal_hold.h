// SignalHold: keeps the signals that end a program waiting while a command changes files, so that
// it can put things back first. When the hold ends, a waiting signal does what it always does.
#pragma once

#include <csignal>

namespace culvert::server {

class SignalHold {
 public:
  SignalHold() {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT})
      sigaddset(&held_, signal);
    sigprocmask(SIG_BLOCK, &held_, &before_);
  }
  SignalHold(const SignalHold&) = delete;
  SignalHold& operator=(const SignalHold&) = delete;
  ~SignalHold() { sigprocmask(SIG_SETMASK, &before_, nullptr); }

  // True if one of them has come.
  [[nodiscard]] bool pending() const {
    sigset_t waiting{};
    sigpending(&waiting);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
      if (sigismember(&waiting, signal) == 1) return true;
    }
    return false;
  }

 private:
  sigset_t held_{};
  sigset_t before_{};
};

}  // namespace culvert::server
