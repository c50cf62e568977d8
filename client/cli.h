// The command line of `culvert`, parsed: culvert(1) describes it for people. The only client file
// besides main.cc that may know the command line library.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "client/profile.h"
#include "common/base/log.h"

namespace culvert::client {

struct Command {
  enum class Kind { kImport, kList, kRemove, kConnect, kRun, kStatus, kDisconnect, kCleanup };
  Kind kind = Kind::kStatus;
  std::string target;  // NAME, FILE or URL; empty: the only one there is
  std::string name;    // import --name
  UrlFiles files;      // connect and run with a URL
  std::string socket;
  bool json = false;
  bool watch = false;
  bool persist = false;
  bool replace = false;
  std::chrono::nanoseconds timeout = std::chrono::seconds(30);
  std::optional<log::Level> log_level;  // absent: the command's own
  log::Format log_format = log::Format::kText;
};

struct ParsedCommandLine {
  std::optional<Command> command;  // absent: everything is said; leave with
  int exit_code = 0;               // this
};

// Prints help, version and errors itself. Errors are exit code 2.
ParsedCommandLine parse_command_line(int argc, const char* const* argv);

}  // namespace culvert::client
