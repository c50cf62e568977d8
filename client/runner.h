// Runner: one tunnel's process from start to end — leftovers, TUN, connection, control socket,
// signals — in the foreground (`culvert run`) or as what `culvert connect` leaves running.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "client/connector.h"
#include "client/paths.h"
#include "client/profile.h"
#include "client/progress.h"
#include "client/terminal.h"
#include "common/base/result.h"

namespace culvert::client {

struct RunOptions {
  Connector::Options connector;
  Paths paths;
  ProgressWriter progress;
  // Where what a person answers comes from; neither: nobody can be asked.
  UniqueFd replies;                  // to progress.question()
  std::optional<Terminal> terminal;  // of our own
  // Called once nobody else can be running this tunnel.
  std::function<void()> when_alone = [] {};
};

// Returns when the tunnel has ended and everything is put back. Success: it was asked to end.
// Errors: kAlreadyUp, kPermission, kUsage (certificates, key), what the Connector gave up with.
// REQUIRES: no other threads.
Status run_tunnel(const Profile& profile, RunOptions options);

// Takes back what a killed client of this name left in the system. True if there was something.
// kAlreadyUp if it is alive.
Result<bool> undo_leftovers(const Paths& paths, const std::string& tunnel);

}  // namespace culvert::client
