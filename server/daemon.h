// The life of culvertd: start, serve, reload, stop. What `culvertd run` calls.
#pragma once

#include <string>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "server/config.h"
#include "server/service_user.h"

namespace culvert::server {

struct RunOptions {
  // Who the server becomes, see plan_privileges().
  Account account;
  // As load_config() gave it; read again from config.file at each reload.
  ServerConfig config;
  // Absolute path of the control socket; its folder is created if it is missing. Beside it lies
  // "<socket>.undo": what is put back should all processes of this run be killed together.
  std::string control_socket;
  // Absolute path of the database of sessions; its folder is created if it is missing. Without it
  // (no rights, a broken disk) the server serves, and says that sessions will not survive it.
  std::string state_file;
};

// The path of the journal that belongs to a control socket.
[[nodiscard]] std::string undo_journal(const std::string& control_socket);

// Serves until SIGTERM or SIGINT, then puts everything back and returns. SIGHUP reloads.
// REQUIRES: log::init() was called and no other thread is running; the process gives up its
// privileges and does not get them back.
// Errors: kUsage (configuration, certificates), kPermission, kAlreadyUp (another server on the same
// control socket), kFailure (port, address or TUN unavailable).
// `helper`: the socket to the process that changes the system, see helper::split_process().
[[nodiscard]] Status run_daemon(const RunOptions& options, UniqueFd helper);

}  // namespace culvert::server
