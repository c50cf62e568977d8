#include "client/commands.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "client/paths.h"
#include "client/profile.h"
#include "client/progress.h"
#include "client/runner.h"
#include "client/status_view.h"
#include "client/targets.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/control/control_client.h"
#include "common/control/protocol.h"
#include "common/tls/certificate.h"

namespace culvert::client {
namespace {

using control::Json;

constexpr Duration kStatusLimit = std::chrono::seconds(5);
// Undoing is quick, but a child that sets the resolver back may take its ten seconds.
constexpr Duration kDisconnectLimit = std::chrono::seconds(40);
constexpr int kGoneLimitMs = 10'000;

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void print_line(const std::string& text) {
  print(text + "\n");
}

// Errors carry texts that were escaped where they came in; this is for what slipped through.
std::string on_one_line(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return text;
}

int say(const Error& error, bool json) {
  if (json) print_line(control::pretty(to_json(error)));
  std::fprintf(stderr, "culvert: %s\n", on_one_line(error.message()).c_str());
  return exit_code(error);
}

int finish(const Status& status, bool json = false) {
  return status ? 0 : say(status.error(), json);
}

Paths paths_for(const Command& command) {
  Paths paths = Paths::from_environment();
  if (!command.socket.empty())
    paths.socket_override = std::filesystem::absolute(command.socket).string();
  return paths;
}

// ---- profiles -----------------------------------------------------------------------------------

Status make_profile_folder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (!error) return {};
  const bool denied = error == std::errc::permission_denied;
  return fail(denied ? ErrorCode::kPermission : ErrorCode::kFailure,
              "cannot create the folder for profiles: " + error.message(), folder);
}

// Reads everything that connect would, so that a broken profile is refused here.
Status check_profile(const std::string& text, const std::string& file, const std::string& name) {
  auto profile = parse_profile(text, file, name);
  if (!profile) return std::move(profile.error());
  if (!profile->password_command.empty())
    return fail(ErrorCode::kUsage, "a profile that names a command to run is not imported", file,
                "import it without password_command, and add that to the stored profile by hand");
  auto tls = tls::TlsConfig::build(profile->tls_options());
  if (tls) return {};
  tls.error().where = file + ": " + tls.error().where;
  return std::move(tls.error());
}

Status import_profile(const Command& command, const Paths& paths) {
  auto name = command.name.empty() ? tunnel_name_of_file(command.target)
                                   : Result<std::string>(command.name);
  if (!name) return std::move(name.error());
  if (!is_tunnel_name(*name))
    return fail(ErrorCode::kUsage, "not a name for a tunnel", escape_for_display(*name),
                "use letters, digits, '.', '_' and '-', at most 48");
  auto text = read_secret_file(command.target);
  if (!text) return std::move(text.error());
  const std::string content(as_text(std::as_const(*text).bytes()));
  if (auto good = check_profile(content, command.target, *name); !good) return good;
  if (auto made = make_profile_folder(paths.import_to); !made) return made;
  const std::string path = Paths::profile_in(paths.import_to, *name);
  auto written =
      command.replace ? replace_file(path, content, FileAttributes{}) : create_file(path, content);
  if (!written) {
    if (written.error().code == ErrorCode::kUsage) written.error().hint = "use --name or --replace";
    return written;
  }
  print_line("imported " + *name + " (" + path + ")");
  print_line("connect with: culvert connect " + *name);
  return {};
}

struct ListEntry {
  std::string name, path, server, user, expires, state, problem;
};

ListEntry entry_for(const StoredProfile& stored, const std::vector<std::string>& running) {
  ListEntry entry{stored.name, stored.path, {}, {}, {}, "down", {}};
  for (const std::string& name : running)
    if (name == stored.name) entry.state = "up";
  const auto profile = load_profile(stored.path, stored.name);
  if (!profile) {
    entry.problem = profile.error().message();
    return entry;
  }
  entry.server = profile->url();
  entry.user = profile->user;
  const auto certificate = tls::read_certificate(profile->certificate_pem);
  if (certificate) entry.expires = to_iso8601(certificate->not_after);
  return entry;
}

Json to_json(const ListEntry& entry) {
  return {{"name", entry.name},      {"file", entry.path},       {"server", entry.server},
          {"user", entry.user},      {"expires", entry.expires}, {"state", entry.state},
          {"problem", entry.problem}};
}

Status list_profiles(const Command& command, const Paths& paths) {
  const auto running = running_tunnels(paths);
  Json all = Json::array();
  std::string text;
  for (const StoredProfile& stored : stored_profiles(paths)) {
    const ListEntry entry = entry_for(stored, running);
    all.push_back(to_json(entry));
    text += entry.name + "  " + entry.state + "  ";
    text += entry.problem.empty() ? entry.server + "  " + escape_for_display(entry.user) +
                                        "  certificate until " + entry.expires
                                  : on_one_line(entry.problem);
    text += "\n";
  }
  if (text.empty()) text = "no profiles; culvert import FILE takes one\n";
  print(command.json ? control::pretty(all) + "\n" : text);
  return {};
}

Status remove_profile(const Command& command, const Paths& paths) {
  auto stored = find_profile(paths, command.target);
  if (!stored) return std::move(stored.error());
  for (const std::string& running : running_tunnels(paths))
    if (running == stored->name)
      return fail(ErrorCode::kAlreadyUp, "the tunnel is up", stored->name,
                  "culvert disconnect " + stored->name);
  if (::unlink(stored->path.c_str()) != 0)
    return fail_errno(errno == EACCES ? ErrorCode::kPermission : ErrorCode::kFailure, errno,
                      "cannot remove the profile", stored->path);
  print_line("removed " + stored->name);
  return {};
}

// ---- status and end -----------------------------------------------------------------------------

Error not_running(const std::string& tunnel) {
  return fail(ErrorCode::kNotRunning, tunnel + " is not running", {}, "culvert connect " + tunnel);
}

Result<Json> ask(const Paths& paths, const std::string& tunnel, const std::string& what,
                 Duration limit) {
  control::Request request;
  request.command = what;
  auto answer = control::call(paths.socket(tunnel), request, limit);
  if (!answer && answer.error().code == ErrorCode::kNotRunning) return not_running(tunnel);
  return answer;
}

Status show_status(const Command& command, const Paths& paths) {
  auto tunnel = running_tunnel(command.target, paths);
  if (!tunnel) return std::move(tunnel.error());
  while (true) {
    auto status = ask(paths, *tunnel, "status", kStatusLimit);
    if (!status) return std::move(status.error());
    print(command.json ? control::pretty(*status) + "\n"
                       : to_text(status_from_json(*status), wall_now()));
    if (!command.watch) return {};
    const timespec second{1, 0};
    ::nanosleep(&second, nullptr);
  }
}

// Until the process is gone, and with it its device and its control socket.
void wait_until_gone(pid_t pid) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process.valid()) return;
  pollfd wait{process.get(), POLLIN, 0};
  while (::poll(&wait, 1, kGoneLimitMs) < 0 && errno == EINTR) {
  }
}

Status disconnect(const Command& command, const Paths& paths) {
  auto tunnel = running_tunnel(command.target, paths);
  if (!tunnel) return std::move(tunnel.error());
  auto answer = ask(paths, *tunnel, "disconnect", kDisconnectLimit);
  if (!answer) return std::move(answer.error());
  const auto pid = answer->find("pid");
  if (pid != answer->end() && pid->is_number_integer() && pid->get<int64_t>() > 0)
    wait_until_gone(static_cast<pid_t>(pid->get<int64_t>()));
  print_line(answer->value("name", *tunnel) + " is down, everything is put back");
  return {};
}

Status clean_up(const Command& command, const Paths& paths) {
  std::vector<std::string> names = tunnels_with(paths.runtime, ".undo");
  if (!command.target.empty()) {
    if (!is_tunnel_name(command.target))
      return fail(ErrorCode::kUsage, "not the name of a tunnel",
                  escape_for_display(command.target));
    names = {command.target};
  }
  Status first;  // one that cannot be put back is no reason to leave the others
  for (const std::string& name : names) {
    auto undone = undo_leftovers(paths, name);
    if (undone) {
      print_line(name + (*undone ? ": put back" : ": nothing was left"));
    } else if (undone.error().code == ErrorCode::kAlreadyUp && command.target.empty()) {
      print_line(name + ": is running, left alone");
    } else if (first) {
      first = std::move(undone.error());
    }
  }
  return first;
}

// ---- tunnels ------------------------------------------------------------------------------------

RunOptions run_options(const Command& command, const Paths& paths) {
  RunOptions options;
  options.connector.first_timeout = command.timeout;
  options.connector.persist = command.persist;
  options.paths = paths;
  return options;
}

Status run(const Command& command, const Paths& paths) {
  auto profile = profile_for(command.target, command.files, paths);
  if (!profile) return std::move(profile.error());
  RunOptions options = run_options(command, paths);
  if (auto terminal = Terminal::open()) options.terminal.emplace(std::move(*terminal));
  return run_tunnel(*profile, std::move(options));
}

Result<UniqueFd> open_log(const std::string& path) {
  UniqueFd log(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (log.valid()) return log;
  return fail_errno(errno == EACCES ? ErrorCode::kPermission : ErrorCode::kFailure, errno,
                    "cannot open the log of the background process", path,
                    errno == EACCES ? "run this as root" : "");
}

// The background's side of the fork: no terminal, log lines into a file of its own.
int run_in_background(const Profile& profile, RunOptions options, UniqueFd log) {
  ::setsid();
  const UniqueFd nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
  ::dup2(nothing.get(), STDIN_FILENO);
  ::dup2(log.get(), STDOUT_FILENO);
  ::dup2(log.get(), STDERR_FILENO);
  if (::chdir("/") != 0) return 1;
  // Only now is it sure that the log of a running tunnel is not at stake.
  options.when_alone = [] { static_cast<void>(::ftruncate(STDERR_FILENO, 0)); };
  const Status status = run_tunnel(profile, std::move(options));
  return status ? 0 : exit_code(status.error());
}

int report_up(const Command& command, const Paths& paths, const Profile& profile) {
  const auto status = ask(paths, profile.tunnel, "status", kStatusLimit);
  if (!status) return say(status.error(), command.json);
  if (command.json) {
    print_line(control::pretty(*status));
  } else {
    print(to_text(status_from_json(*status), wall_now()));
  }
  return 0;
}

int follow_background(const Command& command, const Paths& paths, const Profile& profile,
                      UniqueFd pipe, pid_t child) {
  std::optional<Terminal> terminal;
  if (auto opened = Terminal::open()) terminal.emplace(std::move(*opened));
  const auto outcome =
      follow_progress(std::move(pipe), child, std::move(terminal), [&](const std::string& line) {
        if (!command.json) print_line(profile.tunnel + ": " + on_one_line(line));
      });
  if (outcome) return report_up(command, paths, profile);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return say(outcome.error(), command.json);
}

int connect(const Command& command, const Paths& paths) {
  auto profile = profile_for(command.target, command.files, paths);
  if (!profile) return say(profile.error(), command.json);
  if (auto made = make_runtime_folder(paths.runtime); !made) return say(made.error(), command.json);
  auto log = open_log(paths.log(profile->tunnel));
  if (!log) return say(log.error(), command.json);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return say(fail_errno(ErrorCode::kFailure, errno, "cannot create sockets"), command.json);
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  std::fflush(nullptr);  // or the child would print it again
  const pid_t child = ::fork();
  if (child < 0)
    return say(fail_errno(ErrorCode::kFailure, errno, "cannot start a process"), command.json);
  if (child == 0) {
    reader.reset();
    RunOptions options = run_options(command, paths);
    if (Terminal::open()) options.replies = UniqueFd(::fcntl(writer.get(), F_DUPFD_CLOEXEC, 0));
    options.progress = ProgressWriter(std::move(writer));
    return run_in_background(*profile, std::move(options), std::move(*log));
  }
  writer.reset();
  return follow_background(command, paths, *profile, std::move(reader), child);
}

}  // namespace

int execute(const Command& command) {
  const Paths paths = paths_for(command);
  switch (command.kind) {
    case Command::Kind::kImport:
      return finish(import_profile(command, paths));
    case Command::Kind::kList:
      return finish(list_profiles(command, paths));
    case Command::Kind::kRemove:
      return finish(remove_profile(command, paths));
    case Command::Kind::kConnect:
      return connect(command, paths);
    case Command::Kind::kRun:
      return finish(run(command, paths));
    case Command::Kind::kStatus:
      return finish(show_status(command, paths), command.json);
    case Command::Kind::kDisconnect:
      return finish(disconnect(command, paths));
    case Command::Kind::kCleanup:
      return finish(clean_up(command, paths));
  }
  return static_cast<int>(ErrorCode::kUsage);
}

}  // namespace culvert::client
