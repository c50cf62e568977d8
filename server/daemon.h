// The life of culvertd: start, serve, reload, stop. What `culvertd run` calls.
#pragma once

#include <string>

#include "common/base/result.h"
#include "server/config.h"

namespace culvert::server {

struct RunOptions {
  // As load_config() gave it; read again from config.file at each reload.
  ServerConfig config;
  // Absolute path of the control socket; its folder is created if it is missing. Beside it lies
  // "<socket>.undo": what the next start puts back should this run be killed. Empty after a clean
  // stop, and removed where the service user may remove it.
  std::string control_socket;
  // Absolute path of the database of sessions; its folder is created if it is missing. Without it
  // (no rights, a broken disk) the server serves, and says that sessions will not survive it.
  std::string state_file;
};

// Serves until SIGTERM or SIGINT, then puts everything back and returns. SIGHUP reloads.
// REQUIRES: log::init() was called and no other thread is running; the process gives up its
// privileges and does not get them back.
// Errors: kUsage (configuration, certificates), kPermission, kAlreadyUp (another server on the same
// control socket), kFailure (port, address or TUN unavailable).
[[nodiscard]] Status run_daemon(const RunOptions& options);

}  // namespace culvert::server
