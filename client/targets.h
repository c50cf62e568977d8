// Targets: what the user means by NAME, FILE or URL, or by saying nothing.
#pragma once

#include <string>
#include <vector>

#include "client/paths.h"
#include "client/profile.h"
#include "common/base/result.h"

namespace culvert::client {

struct StoredProfile {
  std::string name;
  std::string path;
};

// All profiles in the folders of `paths`, by name; of two with one name the first folder's counts.
[[nodiscard]] std::vector<StoredProfile> stored_profiles(const Paths& paths);
// kUsage with the names that are there.
Result<StoredProfile> find_profile(const Paths& paths, const std::string& name);

// A URL, a file, the name of a stored profile, or (empty) the only stored profile.
Result<Profile> profile_for(const std::string& target, const UrlFiles& files, const Paths& paths);

// "/tmp/alice.toml" is "alice". kUsage if that makes no name.
Result<std::string> tunnel_name_of_file(const std::string& path);

// Names of the tunnels that answer on their control sockets.
[[nodiscard]] std::vector<std::string> running_tunnels(const Paths& paths);
// `name`, or the only running tunnel. kNotRunning if there is none, kUsage if there are several or
// the name is none.
Result<std::string> running_tunnel(const std::string& name, const Paths& paths);

}  // namespace culvert::client
