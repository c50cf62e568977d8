// culvert: the VPN client.
#include "client/cli.h"
#include "client/commands.h"
#include "common/base/log.h"

int main(int argc, char** argv) {
  const auto parsed = culvert::client::parse_command_line(argc, argv);
  if (!parsed.command) return parsed.exit_code;
  culvert::log::init("culvert", parsed.command->log_level, parsed.command->log_format);
  return culvert::client::execute(*parsed.command);
}
