#include "client/completion.h"

#include "client/paths.h"
#include "client/targets.h"

namespace culvert::client {

std::vector<std::string> names_for(const cli::NameQuestion& question) {
  const Paths paths = Paths::from_environment();
  if (question.value.find("NAME") == std::string::npos) return {};
  if (question.command == "status" || question.command == "disconnect")
    return running_tunnels(paths);
  if (question.command == "cleanup") return tunnels_with(paths.runtime, ".undo");
  std::vector<std::string> names;
  for (const StoredProfile& profile : stored_profiles(paths))
    names.push_back(profile.name);
  return names;
}

}  // namespace culvert::client
