// Child: runs a program, feeds it, collects what it says. No shell.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/unique_function.h"
#include "common/loop/loop.h"

namespace culvert::loop {

struct ChildResult {
  int exit_status = 0;  // 0..255; meaningless if `signal` is set
  int signal = 0;       // what ended it, or 0
  std::string out;      // standard output and error, each up to kMaxChildOutput
  std::string err;

  [[nodiscard]] bool succeeded() const { return exit_status == 0 && signal == 0; }
};

inline constexpr size_t kMaxChildOutput = size_t{4} << 20;

// One running program. Destroying it kills the program and forgets the result.
class [[nodiscard]] Child {
 public:
  using OnExit = UniqueFunction<void(Result<ChildResult>)>;

  // Starts argv[0] (looked up in /usr/sbin:/usr/bin:/sbin:/bin unless it has a slash) in a session
  // of its own, with an environment of PATH and LC_ALL=C only, signals as by default, and those
  // descriptors that are not close-on-exec (there should be none). Fails if it cannot be started
  // (kFailure, `where` is the program). Later calls `on_exit` once, on the loop's thread, when the
  // program has ended and closed its output; fails if that took longer than `limit` or it said more
  // than kMaxChildOutput (it is then killed with its whole process group). REQUIRES: argv is not
  // empty; limit > 0.
  static Result<Child> run(Loop& loop, std::vector<std::string> argv, std::string stdin_text,
                           Duration limit, OnExit on_exit);

  Child();  // of nothing, to be assigned to
  Child(Child&&) noexcept;
  Child& operator=(Child&&) noexcept;
  ~Child();

 private:
  struct Process;
  struct Abandon {
    void operator()(Process* process) const noexcept;
  };
  explicit Child(Process* process);
  std::unique_ptr<Process, Abandon> process_;
};

}  // namespace culvert::loop
