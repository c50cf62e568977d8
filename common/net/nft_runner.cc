#include "common/net/nft_runner.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "common/base/text.h"
#include "common/base/unique_fd.h"

namespace culvert::net {
namespace {

constexpr int kSilenceMs = 10'000;
constexpr size_t kMaxOutput = 64 * 1024;
constexpr std::array kPrograms = {"/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"};

// The text as a file that is open at its beginning: no pipe to fill, no SIGPIPE.
Result<UniqueFd> as_file(std::string_view text) {
  UniqueFd fd(memfd_create("nft", MFD_CLOEXEC));
  while (fd.valid() && !text.empty()) {
    const ssize_t written = write(fd.get(), text.data(), text.size());
    if (written < 0)
      return fail_errno(ErrorCode::kFailure, errno, "cannot keep it in memory", "nft");
    text.remove_prefix(static_cast<size_t>(written));
  }
  if (!fd.valid() || lseek(fd.get(), 0, SEEK_SET) != 0) {
    return fail_errno(ErrorCode::kFailure, errno, "cannot keep it in memory", "nft");
  }
  return fd;
}

// posix_spawn(3)'s two option objects, with a life of their own.
struct SpawnOptions {
  SpawnOptions(int input, int output) {
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    // The parent may block or ignore signals that the child expects to work.
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  SpawnOptions(const SpawnOptions&) = delete;
  SpawnOptions& operator=(const SpawnOptions&) = delete;
  ~SpawnOptions() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }

  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
};

// The errno of posix_spawn(3), or 0.
int spawn_nft(int input, int output, pid_t& child) {
  const SpawnOptions options(input, output);
  char name[] = "nft";
  char json[] = "-j";
  char file[] = "-f";
  char standard_input[] = "-";
  char* const arguments[] = {name, json, file, standard_input, nullptr};
  char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  char locale[] = "LC_ALL=C";
  char* const environment[] = {path, locale, nullptr};
  int error = ENOENT;
  for (const char* program : kPrograms) {
    error =
        posix_spawn(&child, program, &options.actions, &options.attributes, arguments, environment);
    if (error != ENOENT) break;
  }
  return error;
}

// Reads to the end of file; kills the child and says false when it falls silent.
bool read_output(int fd, pid_t child, std::string& output) {
  for (;;) {
    pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = poll(&waiting, 1, kSilenceMs);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      kill(child, SIGKILL);
      return false;
    }
    std::array<char, 4096> buffer{};
    const ssize_t count = read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return true;
    const size_t room = kMaxOutput - output.size();
    output.append(buffer.data(), std::min(room, static_cast<size_t>(count)));
  }
}

int wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

// nft names an operation that the kernel refuses, errno text included.
Error refused(const std::string& output) {
  const bool denied = output.find("Operation not permitted") != std::string::npos;
  return fail(denied ? ErrorCode::kPermission : ErrorCode::kFailure,
              "nft refused the rules: " + escape_for_display(trim(output)), "nft",
              denied ? "run as root or with CAP_NET_ADMIN" : "");
}

}  // namespace

Result<std::string> run_nft(std::string_view json) {
  auto input = as_file(json);
  if (!input) return input.error();
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return fail_errno(ErrorCode::kFailure, errno, "cannot make a pipe", "nft");
  }
  const UniqueFd output_read(ends[0]);
  UniqueFd output_write(ends[1]);

  pid_t child = -1;
  if (const int error = spawn_nft(input->get(), output_write.get(), child); error != 0) {
    return fail_errno(ErrorCode::kFailure, error, "cannot start the program", "nft",
                      error == ENOENT ? "install the package nftables" : "");
  }
  output_write.reset();  // or the end of the output would never come
  std::string output;
  const bool finished = read_output(output_read.get(), child, output);
  const int status = wait_for(child);
  if (!finished) return fail(ErrorCode::kFailure, "nft did not finish and was ended", "nft");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return refused(output);
  return output;
}

}  // namespace culvert::net
