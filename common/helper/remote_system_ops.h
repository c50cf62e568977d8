// RemoteSystemOps: the seam for privileged work with the helper behind it, and the sockets that
// only the helper can open. All calls and callbacks on the loop's thread; must not be destroyed in
// one.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/base/unique_fd.h"
#include "common/base/unique_function.h"
#include "common/helper/protocol.h"
#include "common/loop/loop.h"
#include "common/loop/poll.h"
#include "common/net/system_ops.h"

namespace culvert::helper {

// Blocks until the helper is ready. Errors: its own (the journal, kAlreadyUp, kPermission), or
// kFailure if it is gone. `socket`: as split_process() gave it.
Status begin(const UniqueFd& socket, const Begin& begin);

class RemoteSystemOps final : public net::SystemOps {
 public:
  // What was asked for before is answered with an error first; called once, from the loop.
  using OnLost = UniqueFunction<void(Error)>;
  using Opened = UniqueFunction<void(Result<UniqueFd>)>;

  // Takes over the socket after begin(). The loop must outlive this.
  static Result<std::unique_ptr<RemoteSystemOps>> create(loop::Loop& loop, UniqueFd socket,
                                                         OnLost on_lost);
  ~RemoteSystemOps() override;
  RemoteSystemOps(const RemoteSystemOps&) = delete;
  RemoteSystemOps& operator=(const RemoteSystemOps&) = delete;

  void submit(std::vector<net::SystemRequest> requests, Answers done) override;
  void undo_all(Finished done) override;
  // As undo_all(), and the program's control socket is removed: for its end.
  void leave(Finished done);
  // A non-blocking socket with the mark; one for datagrams has large buffers.
  void open_socket(const SocketRequest& request, Opened done);

 private:
  // Somebody who waits. Gets the answers, which are as many as `expected`, and a descriptor if one
  // came with them.
  struct Waiting {
    size_t expected = 1;
    UniqueFunction<void(Result<std::vector<net::SystemAnswer>>, UniqueFd)> done;
  };

  RemoteSystemOps(loop::Loop& loop, UniqueFd socket, OnLost on_lost);
  void send_for_status(FrameKind kind, Finished done);
  void send(Frame frame, Waiting waiting);
  void on_ready(unsigned ready);
  void flush();
  void receive();
  void take(const Frame& frame);
  void lose(std::string why);

  loop::Loop& loop_;
  UniqueFd socket_;
  loop::Poll poll_;
  OnLost on_lost_;
  FrameBuffer buffer_;
  std::string output_;
  std::deque<Waiting> waiting_;
  std::deque<UniqueFd> descriptors_;  // that came, and whose answers have not been read yet
  std::optional<Error> lost_;
};

}  // namespace culvert::helper
