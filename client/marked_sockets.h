// MarkedSockets: sockets whose packets carry our mark, so that they are routed beside the tunnel.
// To mark them takes a privilege that this process has given up: the helper opens them, and a few
// of each kind are kept here, so that nobody has to wait for one.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <optional>

#include "common/base/address.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/helper/remote_system_ops.h"

namespace culvert::client {

class MarkedSockets {
 public:
  enum class Kind : uint8_t { kStream, kDatagram };

  // Asks for the first ones. `helper` must outlive this, and no answer of it may come afterwards.
  MarkedSockets(helper::RemoteSystemOps& helper, uint32_t mark);
  MarkedSockets(const MarkedSockets&) = delete;
  MarkedSockets& operator=(const MarkedSockets&) = delete;

  // Calls `done` when the helper has answered all that it was asked for so far, also with refusals.
  void when_filled(std::function<void()> done);

  // A fresh, non-blocking one. kNetwork: of this family there is none (a kernel without IPv6), or
  // none at the moment; kPermission: they cannot be marked.
  Result<UniqueFd> take(Kind kind, Family family);

 private:
  struct Shelf {
    helper::SocketRequest request;
    std::deque<UniqueFd> sockets;
    size_t asked = 0;
    std::optional<Error> error;
  };
  Shelf& shelf(Kind kind, Family family);
  void fill(Shelf& shelf);

  helper::RemoteSystemOps& helper_;
  std::array<Shelf, 4> shelves_;
  std::function<void()> when_filled_;
};

}  // namespace culvert::client
