#include "common/net/program_runner.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "common/base/unique_fd.h"

namespace culvert::net {
namespace {

constexpr int kSilenceMs = 10'000;
constexpr size_t kMaxOutput = 64 * 1024;
constexpr std::array kFolders = {"/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/"};

// The text as a file that is open at its beginning: no pipe to fill, no SIGPIPE.
Result<UniqueFd> as_file(std::string_view text) {
  UniqueFd fd(memfd_create("input", MFD_CLOEXEC));
  while (fd.valid() && !text.empty()) {
    const ssize_t written = write(fd.get(), text.data(), text.size());
    if (written < 0)
      return fail_errno(ErrorCode::kFailure, errno, "cannot keep a program's input in memory");
    text.remove_prefix(static_cast<size_t>(written));
  }
  if (!fd.valid() || lseek(fd.get(), 0, SEEK_SET) != 0) {
    return fail_errno(ErrorCode::kFailure, errno, "cannot keep a program's input in memory");
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
int spawn(const std::vector<std::string>& argv, int input, int output, pid_t& child) {
  const SpawnOptions options(input, output);
  std::vector<std::string> texts = argv;
  std::vector<char*> arguments;
  arguments.reserve(texts.size() + 1);
  for (std::string& text : texts)
    arguments.push_back(text.data());
  arguments.push_back(nullptr);
  char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  char locale[] = "LC_ALL=C";
  char* const environment[] = {path, locale, nullptr};
  int error = ENOENT;
  for (const char* folder : kFolders) {
    const std::string program = folder + argv.front();
    error = posix_spawn(&child, program.c_str(), &options.actions, &options.attributes,
                        arguments.data(), environment);
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

}  // namespace

bool is_installed(std::string_view program) {
  return std::any_of(kFolders.begin(), kFolders.end(), [&](const char* folder) {
    return ::access((std::string(folder) + std::string(program)).c_str(), X_OK) == 0;
  });
}

Result<ProgramResult> run_program(const std::vector<std::string>& argv, std::string_view input,
                                  std::string_view package) {
  const std::string& program = argv.front();
  auto file = as_file(input);
  if (!file) return file.error();
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return fail_errno(ErrorCode::kFailure, errno, "cannot make a pipe", program);
  }
  const UniqueFd output_read(ends[0]);
  UniqueFd output_write(ends[1]);

  pid_t child = -1;
  if (const int error = spawn(argv, file->get(), output_write.get(), child); error != 0) {
    return fail_errno(ErrorCode::kFailure, error, "cannot start the program", program,
                      error == ENOENT ? "install the package " + std::string(package) : "");
  }
  output_write.reset();  // or the end of the output would never come
  ProgramResult result;
  const bool finished = read_output(output_read.get(), child, result.output);
  const int status = wait_for(child);
  if (!finished)
    return fail(ErrorCode::kFailure, "the program did not finish and was ended", program);
  result.succeeded = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  return result;
}

}  // namespace culvert::net
