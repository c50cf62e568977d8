// culvertd: the command line, and from there to commands.h. Everything that can fail comes back
// here as an Error, which becomes a message and an exit code (culvertd(8), EXIT STATUS).
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "server/cli.h"

namespace culvert::server {
namespace {

void print_error(const Error& error) {
  std::cerr << "culvertd: ";
  if (!error.where.empty()) std::cerr << error.where << ": ";
  std::cerr << error.what << "\n";
  if (!error.hint.empty()) std::cerr << "          " << error.hint << "\n";
}

int run_program(const std::vector<std::string>& arguments) {
  const Invocation invocation = parse_command_line(arguments);
  if (!invocation.run) {
    (invocation.exit_code == 0 ? std::cout : std::cerr) << invocation.text;
    return invocation.exit_code;
  }
  if (!invocation.is_run) {
    log::init("culvertd", invocation.level.value_or(log::Level::kWarning),
              invocation.format.value_or(log::Format::kText));
  }
  const Status status = invocation.run(std::cout);
  std::cout.flush();
  if (status) return 0;
  print_error(status.error());
  return exit_code(status.error());
}

}  // namespace
}  // namespace culvert::server

int main(int argc, char** argv) {
  try {
    return culvert::server::run_program(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& exception) {
    std::cerr << "culvertd: unexpected: " << exception.what() << "\n";
    return 1;
  }
}
