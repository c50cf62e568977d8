#include "common/helper/guard.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "common/base/log.h"
#include "common/helper/helper_process.h"
#include "common/net/netlink.h"
#include "common/net/undo_journal.h"

namespace culvert::helper {
namespace {

// How long the helper may take to put everything back once its program is gone.
constexpr int kPutBackLimitMs = 60'000;

UniqueFd open_process(pid_t pid) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

// False: not within the limit.
bool wait_for_end(const UniqueFd& process, int limit_ms) {
  pollfd ready{process.get(), POLLIN, 0};
  int result = 0;
  while ((result = ::poll(&ready, 1, limit_ms)) < 0 && errno == EINTR) {
  }
  return result == 1;
}

// Whoever wants an end tells the program: these two have work to do when it is gone.
void overlook_signals() {
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE})
    std::signal(number, SIG_IGN);
}

Status put_back(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0) return {};
  auto journal = net::UndoJournal::open(path);
  if (!journal) return std::move(journal.error());
  if (!journal->empty()) {
    log::warning("guard", "putting back what a killed helper has left",
                 {{"changes", journal->pending().size()}});
    auto netlink = net::Netlink::open();
    if (!netlink) return std::move(netlink.error());
    if (Status undone = journal->undo_all(*netlink); !undone) return undone;
  }
  journal->remove();
  return {};
}

// kAlreadyUp: somebody has begun anew, and has done it.
[[noreturn]] void guard(const UniqueFd& program, pid_t helper, const std::string& journal) {
  const UniqueFd process = open_process(helper);
  wait_for_end(program, -1);
  if (!wait_for_end(process, kPutBackLimitMs)) ::kill(helper, SIGKILL);
  while (::waitpid(helper, nullptr, 0) < 0 && errno == EINTR) {
  }
  const Status done = put_back(journal);
  const bool good = done || done.error().code == ErrorCode::kAlreadyUp;
  if (!good)
    log::error("guard", "not everything could be put back", {{"why", done.error().message()}});
  std::exit(good ? EXIT_SUCCESS : EXIT_FAILURE);
}

}  // namespace

Result<UniqueFd> split_process(const SplitOptions& options) {
  const auto failed = [](std::string_view what) {
    return fail_errno(ErrorCode::kFailure, errno, what);
  };
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return failed("cannot open a pair of sockets");
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  const UniqueFd program = open_process(::getpid());
  if (!program.valid()) return failed("cannot watch this process (pidfd_open)");
  std::fflush(nullptr);  // or each of them would print it again
  const pid_t first = ::fork();
  if (first < 0) return failed("cannot start a process");
  if (first > 0) return ours;

  overlook_signals();
  ours.reset();
  for (const int descriptor : options.of_the_program)
    ::close(descriptor);
  ::prctl(PR_SET_NAME, "culvert-guard");
  const pid_t second = ::fork();
  if (second < 0) std::exit(EXIT_FAILURE);  // the program finds nobody at the other end
  if (second > 0) {
    theirs.reset();
    guard(program, second, options.journal);
  }
  ::prctl(PR_SET_NAME, "culvert-helper");
  std::exit(serve(std::move(theirs), options.reduce));
}

}  // namespace culvert::helper
