// LocalServer and LocalStream: lines of text over a unix stream socket, for the control socket.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/base/unique_function.h"
#include "common/loop/loop.h"
#include "common/loop/poll.h"

namespace culvert::loop {

inline constexpr size_t kMaxUnsent = size_t{64} << 20;  // bytes

// One connection. The owner may destroy it at any time, also inside its callbacks; what was not
// sent by then is lost. No callback comes from inside one of its methods.
class LocalStream {
 public:
  using OnLine = UniqueFunction<void(std::string_view line)>;

  LocalStream(Loop& loop, UniqueFd socket);
  LocalStream(const LocalStream&) = delete;
  LocalStream& operator=(const LocalStream&) = delete;
  ~LocalStream();

  // Starts reading. `on_line` gets each line without its "\n"; the view is valid during the call.
  // `on_close` comes once, when no more lines will: the peer has closed or reset, a line was longer
  // than `max_line` bytes, or close_after_write() is done. A last line without "\n" is dropped.
  // REQUIRES: called once.
  void on_line(OnLine on_line, Task on_close, size_t max_line);
  // While paused, lines wait in the socket: nothing is read and an end of file goes unnoticed. May
  // be called inside on_line, and the next line then waits already.
  void pause(bool paused);
  // Sends `line` and a "\n", now or as soon as the peer reads. A peer that leaves more than
  // kMaxUnsent unread is closed. REQUIRES: no "\n" in it.
  void write_line(std::string line);
  // Reads no more; sends what is queued, then closes and calls on_close.
  void close_after_write();
  // Effective user of the peer when it connected (SO_PEERCRED); -1 (nobody) if the kernel does not
  // say.
  [[nodiscard]] uid_t peer_uid() const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // callbacks keep it while they run
};

// A listening unix socket in the file system.
class LocalServer {
 public:
  using OnConnection = UniqueFunction<void(std::unique_ptr<LocalStream>)>;

  // Creates the socket file with exactly `mode`. A file left by a process that is gone (nobody
  // accepts on it) is replaced; a live one is kAlreadyUp; anything else that is no socket stays and
  // is kFailure. kPermission where the folder forbids it, kUsage for a path longer than 107 bytes.
  static Result<std::unique_ptr<LocalServer>> listen(Loop& loop, std::string path, mode_t mode,
                                                     OnConnection on_connection);
  LocalServer(const LocalServer&) = delete;
  LocalServer& operator=(const LocalServer&) = delete;
  // Removes the socket file, unless another one has taken its place. Connections live on.
  ~LocalServer();

 private:
  struct State;
  explicit LocalServer(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace culvert::loop
