// Progress: how a tunnel that goes into the background tells the command that started it how far it
// is. JSON lines over a pipe: {"progress":"…"}, then one answer as on the control socket.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace culvert::client {

// The background's end. All calls are harmless after the first up() or failed(), and when nobody
// listens any more.
class ProgressWriter {
 public:
  ProgressWriter() = default;  // tells nobody
  explicit ProgressWriter(UniqueFd pipe) : pipe_(std::move(pipe)) {}

  void line(const std::string& text);
  void up();
  void failed(const Error& error);
  // For a process that starts others; negative: none.
  [[nodiscard]] int descriptor() const { return pipe_.get(); }

 private:
  void write_line(std::string text);
  UniqueFd pipe_;
};

// The command's end: calls `on_line` for each line until the tunnel is up or has failed. SIGINT and
// SIGTERM of the caller go to `background` as SIGTERM, which then puts everything back and reports.
// REQUIRES: no other threads, because the two signals are blocked meanwhile.
Status follow_progress(UniqueFd pipe, pid_t background,
                       const std::function<void(const std::string&)>& on_line);

}  // namespace culvert::client
