// Progress: how a tunnel that goes into the background tells the command that started it how far it
// is, and asks it what only a person knows. JSON lines over a pair of sockets: {"progress":"…"} and
// {"question":"…"}, then one answer as on the control socket. What a person answers comes back as a
// line; end of file if there is nobody.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>

#include "client/terminal.h"
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
  void question(const std::string& prompt);
  void up();
  void failed(const Error& error);
  // For a process that starts others; negative: none.
  [[nodiscard]] int descriptor() const { return pipe_.get(); }

 private:
  void tell(const char* name, const std::string& text);
  void write_line(std::string text);
  UniqueFd pipe_;
};

// The command's end: calls `on_line` for each line until the tunnel is up or has failed, and asks
// at `terminal` if it is there. SIGINT and SIGTERM of the caller go to `background` as SIGTERM,
// which then puts everything back and reports. REQUIRES: no other threads, because the two signals
// are blocked meanwhile.
Status follow_progress(UniqueFd pipe, pid_t background, std::optional<Terminal> terminal,
                       const std::function<void(const std::string&)>& on_line);

}  // namespace culvert::client
