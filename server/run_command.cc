// culvertd run: configuration and logging, then the daemon.
#include "common/base/log.h"
#include "common/helper/guard.h"
#include "common/helper/privileges.h"
#include "server/commands.h"
#include "server/config.h"
#include "server/daemon.h"
#include "server/paths.h"
#include "server/privileges.h"

namespace culvert::server {

Status run_command(const RunCommandOptions& options) {
  auto config = load_config(options.place.config_file());
  if (!config) return config.error();
  log::init("culvertd", options.level.value_or(config->log.level),
            options.format.value_or(config->log.format));
  auto account = plan_privileges(config->user);
  if (!account) return account.error();
  RunOptions run;
  run.account = std::move(*account);
  run.config = std::move(*config);
  run.control_socket = options.place.control_socket();
  run.state_file = state_file(run.control_socket);
  auto helper = helper::split_process(
      {.journal = undo_journal(run.control_socket), .reduce = [&run] {
         return helper::drop_privileges(run.account.uid, run.account.gid, helper::Keep::kNetAdmin);
       }});
  if (!helper) return helper.error();
  return run_daemon(run, std::move(*helper));
}

}  // namespace culvert::server
