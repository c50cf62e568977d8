#include "server/listener.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "common/base/log.h"
#include "common/tunnel/path_mtu.h"

namespace culvert::server {
namespace {

constexpr int kBacklog = 1024;  // the kernel cuts it to net.core.somaxconn
// Accepting costs little, what follows does not: other events get their turn in between.
constexpr int kAcceptsPerTurn = 32;
constexpr std::chrono::milliseconds kPause{100};

Error listen_error(int error, const Endpoint& endpoint) {
  const std::string where = endpoint.to_string();
  switch (error) {
    case EACCES:
      return fail(ErrorCode::kPermission, "ports below 1024 need privileges", where,
                  "start as root, or give the service CAP_NET_BIND_SERVICE");
    case EADDRINUSE:
      return fail(ErrorCode::kFailure, "the port is taken by another program", where,
                  "ss -ltnp shows by which; listen.address chooses another");
    case EADDRNOTAVAIL:
      return fail(ErrorCode::kFailure, "this machine does not have the address", where,
                  "ip address shows what there is; [::] listens on all");
    default:
      return fail_errno(ErrorCode::kFailure, error, "cannot listen", where);
  }
}

void set_option(int fd, int level, int option, int value) {
  ::setsockopt(fd, level, option, &value, sizeof value);
}

}  // namespace

Result<UniqueFd> open_listener(const Endpoint& endpoint) {
  const bool v6 = endpoint.address.is_v6();
  UniqueFd fd(
      ::socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!fd.valid()) return listen_error(errno, endpoint);
  // Connections of an earlier run may linger in TIME_WAIT.
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  set_option(fd.get(), IPPROTO_TCP, TCP_MAXSEG, tunnel::kOuterSegment);  // of those it accepts
  if (v6) {
    set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, endpoint.address.is_unspecified() ? 0 : 1);
  }
  sockaddr_storage storage{};
  const socklen_t size = endpoint.to_sockaddr(storage);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), size) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    return listen_error(errno, endpoint);
  }
  return fd;
}

Result<Endpoint> local_endpoint(int socket) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&storage), &size) != 0) {
    return fail_errno(ErrorCode::kFailure, errno, "cannot ask where a socket is bound");
  }
  return Endpoint::from_sockaddr(storage);
}

Listener::Listener(loop::Loop& loop, UniqueFd socket, OnConnection on_connection)
    : socket_(std::move(socket)),
      on_connection_(std::move(on_connection)),
      poll_(loop, socket_.get()),
      pause_(loop) {}

Status Listener::start() {
  return poll_.start([this](unsigned, int) { accept_some(); }, loop::kReadable);
}

void Listener::accept_some() {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    UniqueFd fd(::accept4(socket_.get(), reinterpret_cast<sockaddr*>(&storage), &size,
                          SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) {
      set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
      on_connection_(std::move(fd), Endpoint::from_sockaddr(storage));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      return pause(errno);
    } else if (errno == EAGAIN) {
      return;
    }  // else: this connection died before it was ours (accept(2), ERRORS); the next one
  }
}

// Out of descriptors: the connection would be reported again at once, so look away for a while.
void Listener::pause(int error) {
  if (!std::exchange(complained_, true)) {
    log::error("login", "cannot accept connections",
               {{"error", fail_errno(ErrorCode::kFailure, error, "accept").what}});
  }
  poll_.set_interest(0);
  pause_.start(kPause, [this] { poll_.set_interest(loop::kReadable); });
}

}  // namespace culvert::server
