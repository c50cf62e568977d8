#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "common/base/file.h"
#include "common/loop/handle_close.h"
#include "common/loop/local_socket.h"
#include "common/loop/timer.h"

namespace culvert::loop {
namespace {

constexpr int kBacklog = 64;
constexpr int kAcceptsPerTurn = 16;
constexpr Duration kPauseWithoutDescriptors = std::chrono::milliseconds(100);

Error failed(std::string_view what, const std::string& path) {
  const int error = errno;
  const bool forbidden = error == EACCES || error == EPERM;
  return fail_errno(forbidden ? ErrorCode::kPermission : ErrorCode::kFailure, error, what, path);
}

UniqueFd make_socket() {
  return UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

const sockaddr* as_sockaddr(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return fail(ErrorCode::kUsage, "a socket path has 1 to 107 bytes", path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

// Two programs that start at once would each find the other's fresh socket dead (bound, not yet
// listening) and remove it: only one at a time may look and act. Held until the descriptor closes.
Result<UniqueFd> lock_folder_of(const std::string& path) {
  const std::string folder = parent_path(path);
  UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return failed("cannot open the socket's folder", folder);
  while (flock(fd.get(), LOCK_EX) != 0)
    if (errno != EINTR) return failed("cannot lock the socket's folder", folder);
  return fd;
}

// Removes what a program that is gone has left. REQUIRES: the folder is locked.
Status remove_if_stale(const sockaddr_un& address, const std::string& path) {
  struct stat found {};
  if (lstat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return {};
    return failed("cannot look at the socket", path);
  }
  if (!S_ISSOCK(found.st_mode))
    return fail(ErrorCode::kFailure, "there is something else where the socket should be", path);
  const UniqueFd probe = make_socket();
  if (!probe.valid()) return failed("cannot make a socket", path);
  if (connect(probe.get(), as_sockaddr(address), sizeof address) == 0 || errno == EAGAIN)
    return fail(ErrorCode::kAlreadyUp, "another process is listening already", path);
  if (errno == ECONNREFUSED && unlink(path.c_str()) == 0) return {};
  if (errno == ENOENT) return {};
  return failed("cannot replace the old socket", path);
}

Result<UniqueFd> bind_and_listen(const sockaddr_un& address, const std::string& path, mode_t mode) {
  UniqueFd fd = make_socket();
  if (!fd.valid()) return failed("cannot make a socket", path);
  // Before bind(), so that the file never has more rights than asked for; bind() takes the umask
  // off, chmod() puts back what it took.
  if (fchmod(fd.get(), mode) != 0) return failed("cannot set the socket's mode", path);
  if (bind(fd.get(), as_sockaddr(address), sizeof address) != 0)
    return failed("cannot create the socket", path);
  if (chmod(path.c_str(), mode) != 0 || listen(fd.get(), kBacklog) != 0) {
    Error error = failed("cannot listen on the socket", path);
    unlink(path.c_str());
    return error;
  }
  return fd;
}

}  // namespace

struct LocalServer::State : std::enable_shared_from_this<State> {
  State(Loop& loop, UniqueFd listening, std::string socket_path);

  Status start(OnConnection handler);
  void accept_some();
  void close() noexcept;

  Loop& loop;
  UniqueFd fd;
  Poll poll;
  Timer retry;
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;
  CallbackSlot<void(std::unique_ptr<LocalStream>)> on_connection;
};

LocalServer::State::State(Loop& on, UniqueFd listening, std::string socket_path)
    : loop(on),
      fd(std::move(listening)),
      poll(on, fd.get()),
      retry(on),
      path(std::move(socket_path)) {
  struct stat own {};
  if (lstat(path.c_str(), &own) != 0) return;
  device = own.st_dev;
  inode = own.st_ino;
}

Status LocalServer::State::start(OnConnection handler) {
  on_connection.set(std::move(handler));
  return poll.start([this](unsigned, int) { accept_some(); }, kReadable);
}

void LocalServer::State::accept_some() {
  const auto keep = shared_from_this();
  for (int i = 0; i < kAcceptsPerTurn && fd.valid(); ++i) {
    UniqueFd accepted(accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (accepted.valid()) {
      on_connection.call(std::make_unique<LocalStream>(loop, std::move(accepted)));
      continue;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      // The connection stays in the queue, and the poll would say so without end.
      poll.set_interest(0);
      retry.start(kPauseWithoutDescriptors, [this] { poll.set_interest(kReadable); });
    }
    return;
  }
}

void LocalServer::State::close() noexcept {
  if (!fd.valid()) return;
  poll.stop();
  retry.stop();
  on_connection.clear();
  struct stat found {};
  if (lstat(path.c_str(), &found) == 0 && found.st_dev == device && found.st_ino == inode)
    unlink(path.c_str());
  fd.reset();
}

LocalServer::LocalServer(std::shared_ptr<State> state) : state_(std::move(state)) {}

LocalServer::~LocalServer() {
  state_->close();
}

Result<std::unique_ptr<LocalServer>> LocalServer::listen(Loop& loop, std::string path, mode_t mode,
                                                         OnConnection on_connection) {
  const auto address = address_of(path);
  if (!address) return address.error();
  const auto lock = lock_folder_of(path);
  if (!lock) return lock.error();
  if (auto removed = remove_if_stale(*address, path); !removed) return removed.error();
  auto fd = bind_and_listen(*address, path, mode);
  if (!fd) return fd.error();

  auto state = std::make_shared<State>(loop, std::move(*fd), std::move(path));
  std::unique_ptr<LocalServer> server(new LocalServer(state));
  if (auto started = state->start(std::move(on_connection)); !started) return started.error();
  return server;
}

}  // namespace culvert::loop
