#include "server/service_user.h"

#include <pwd.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <vector>

#include "common/base/file.h"

namespace culvert::server {
namespace {

// useradd(8): the name is taken already.
constexpr int kUseraddNameInUse = 9;

std::optional<std::string> find_useradd() {
  for (const char* path : {"/usr/sbin/useradd", "/sbin/useradd", "/usr/bin/useradd"}) {
    if (::access(path, X_OK) == 0) return path;
  }
  return std::nullopt;
}

// Runs a program with a clean environment and waits for it. Its messages go to our standard error.
Result<int> run_and_wait(std::vector<std::string> argv) {
  std::vector<char*> arguments;
  arguments.reserve(argv.size() + 1);
  for (auto& argument : argv)
    arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  std::string path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  std::string locale = "LC_ALL=C";
  std::array<char*, 3> environment{path.data(), locale.data(), nullptr};

  pid_t child = -1;
  const int error =
      ::posix_spawn(&child, arguments[0], nullptr, nullptr, arguments.data(), environment.data());
  if (error != 0) return fail_errno(ErrorCode::kFailure, error, "cannot start", argv[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return fail_errno(ErrorCode::kFailure, errno, "cannot wait for", argv[0]);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

enum Wanted : unsigned { kRead = 04, kSearch = 01 };

bool allows(const struct stat& info, const Account& account, unsigned wanted) {
  if (account.uid == 0) return true;
  if (info.st_uid == account.uid) return (info.st_mode >> 6 & wanted) == wanted;
  if (info.st_gid == account.gid) return (info.st_mode >> 3 & wanted) == wanted;
  return (info.st_mode & wanted) == wanted;
}

Status check_step(const Account& account, const std::string& path, unsigned wanted) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    return fail_errno(ErrorCode::kUsage, errno, "cannot look at it", path);
  }
  if (allows(info, account, wanted)) return {};
  if (wanted == kSearch) {
    return fail(ErrorCode::kPermission, "the user '" + account.name + "' may not enter this folder",
                path,
                "chmod o+x " + path + " lets it through, or keep the configuration elsewhere");
  }
  return fail(ErrorCode::kPermission, "the user '" + account.name + "' may not read this file",
              path, "chown " + account.name + " " + path);
}

}  // namespace

Result<std::optional<Account>> find_account(const std::string& name) {
  std::vector<char> buffer(16384);
  passwd entry{};
  passwd* found = nullptr;
  int error = 0;
  do {
    error = ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  } while (error == EINTR);
  // Not finding the name is 0 or, as getpwnam_r(3) lists them, one of these.
  const bool absent = error == 0 || error == ENOENT || error == ESRCH;
  if (found == nullptr && !absent) {
    return fail_errno(ErrorCode::kFailure, error, "cannot look up the user", name);
  }
  if (found == nullptr) return std::optional<Account>();
  return std::optional<Account>(Account{name, entry.pw_uid, entry.pw_gid});
}

Result<EnsuredAccount> ensure_account(const std::string& name) {
  auto account = find_account(name);
  if (!account) return account.error();
  if (*account) return EnsuredAccount{**account, false};

  const auto program = find_useradd();
  if (!program) {
    return fail(ErrorCode::kFailure,
                "the user '" + name + "' that the server runs as is missing, and so is useradd", {},
                "create a system user of that name without password, home and shell (with "
                "BusyBox: adduser -S -D -H -s /sbin/nologin " +
                    name + "), then run this again");
  }
  const auto status =
      run_and_wait({*program, "--system", "--user-group", "--no-create-home", "--home-dir",
                    "/nonexistent", "--shell", "/usr/sbin/nologin", name});
  if (!status) return status.error();
  if (*status != 0 && *status != kUseraddNameInUse) {
    return fail(ErrorCode::kFailure, "useradd ended with status " + std::to_string(*status), name,
                "create the system user by hand, then run this again");
  }
  account = find_account(name);
  if (!account) return account.error();
  if (!*account) return fail(ErrorCode::kFailure, "useradd made no such user", name);
  return EnsuredAccount{**account, *status == 0};
}

Status check_readable(const Account& account, const std::string& path) {
  for (size_t slash = path.find('/'); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    const std::string folder = slash == 0 ? "/" : path.substr(0, slash);
    if (auto status = check_step(account, folder, kSearch); !status) return status;
  }
  return check_step(account, path, kRead);
}

}  // namespace culvert::server
