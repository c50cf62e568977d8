// culvertd's command line: words in, one of the option structs of commands.h out. Runs nothing.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

#include "server/commands.h"

namespace culvert::server {

struct Invocation {
  // What to do. Empty if `text` is all there is to say: help, version, a usage error.
  std::function<Status(std::ostream& out)> run;
  std::string text;
  int exit_code = 0;  // for `text`; errors are 2 and go to standard error

  std::optional<log::Level> level;
  std::optional<log::Format> format;
  bool is_run = false;  // `culvertd run` sets logging up itself, from its configuration
};

// `arguments` without the program's name.
[[nodiscard]] Invocation parse_command_line(const std::vector<std::string>& arguments);

}  // namespace culvert::server
