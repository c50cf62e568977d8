// The TCP listener: opened while the process is still privileged, served on the login thread.
#pragma once

#include "common/base/address.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/base/unique_function.h"
#include "common/loop/loop.h"
#include "common/loop/poll.h"
#include "common/loop/timer.h"

namespace culvert::server {

// Binds and listens; an address of [::] takes IPv4 as well. kPermission for a port below 1024
// without the right to it, kFailure if the address is not ours or taken.
[[nodiscard]] Result<UniqueFd> open_listener(const Endpoint& endpoint);

// Where a listening (or connected) socket is bound: a port of 0 has become a real one.
[[nodiscard]] Result<Endpoint> local_endpoint(int socket);

class Listener {
 public:
  // Sockets are non-blocking, with TCP_NODELAY.
  using OnConnection = UniqueFunction<void(UniqueFd socket, Endpoint remote)>;

  Listener(loop::Loop& loop, UniqueFd socket, OnConnection on_connection);
  Status start();

 private:
  void accept_some();
  void pause(int error);

  UniqueFd socket_;
  OnConnection on_connection_;
  loop::Poll poll_;
  loop::Timer pause_;
  bool complained_ = false;
};

}  // namespace culvert::server
