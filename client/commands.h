// Commands: what each subcommand does, from the parsed command line to the exit code.
#pragma once

#include "client/cli.h"

namespace culvert::client {

// Prints results to standard output and errors to standard error; returns the exit code.
// REQUIRES: log::init() was called, no other threads (connect forks).
int execute(const Command& command);

}  // namespace culvert::client
