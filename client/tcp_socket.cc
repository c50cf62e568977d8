#include "client/tcp_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

#include "common/tunnel/path_mtu.h"

namespace culvert::client {

Status start_connecting(int socket, const Endpoint& endpoint) {
  const int on = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(socket, IPPROTO_TCP, TCP_MAXSEG, &tunnel::kOuterSegment,
               sizeof tunnel::kOuterSegment);
  sockaddr_storage address{};
  const socklen_t length = endpoint.to_sockaddr(address);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  if (::connect(socket, generic, length) != 0 && errno != EINPROGRESS)
    return fail_errno(ErrorCode::kNetwork, errno, "cannot connect", endpoint.to_string());
  return {};
}

}  // namespace culvert::client
