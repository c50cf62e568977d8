// culvert: the VPN client.
#include "client/cli.h"
#include "client/commands.h"
#include "common/base/log.h"

namespace {

// What runs a tunnel tells its story; the others speak up when something is wrong.
culvert::log::Level default_level(culvert::client::Command::Kind kind) {
  using Kind = culvert::client::Command::Kind;
  const bool runs = kind == Kind::kConnect || kind == Kind::kRun;
  return runs ? culvert::log::Level::kInfo : culvert::log::Level::kWarning;
}

}  // namespace

int main(int argc, char** argv) {
  const auto parsed = culvert::client::parse_command_line(argc, argv);
  if (!parsed.command) return parsed.exit_code;
  const auto& command = *parsed.command;
  culvert::log::init("culvert", command.log_level.value_or(default_level(command.kind)),
                     command.log_format);
  return culvert::client::execute(command);
}
