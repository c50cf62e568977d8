// culvertd run: configuration and logging, then the daemon.
#include "common/base/log.h"
#include "server/commands.h"
#include "server/config.h"
#include "server/daemon.h"
#include "server/paths.h"

namespace culvert::server {

Status run_command(const RunCommandOptions& options) {
  auto config = load_config(options.place.config_file());
  if (!config) return config.error();
  log::init("culvertd", options.level.value_or(config->log.level),
            options.format.value_or(config->log.format));
  RunOptions run;
  run.config = std::move(*config);
  run.control_socket = options.place.control_socket();
  run.state_file = state_file(run.control_socket);
  return run_daemon(run);
}

}  // namespace culvert::server
