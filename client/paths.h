// Where things are: run-time files, profiles. Reads the environment once; everybody else is told.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace culvert::client {

struct Paths {
  std::string runtime;                // control sockets, undo journals, logs of background tunnels
  std::vector<std::string> profiles;  // folders of profiles, in the order of search
  std::string import_to;              // the one of them that `import` writes to
  std::string socket_override;        // --socket

  // /run/culvert (CULVERT_RUNTIME_DIR), and for profiles /etc/culvert/client, then
  // ~/.config/culvert; CULVERT_CONFIG_DIR stands in for /etc/culvert and leaves the home out.
  // Everybody but root imports into their home.
  static Paths from_environment();

  [[nodiscard]] std::string socket(std::string_view tunnel) const;
  [[nodiscard]] std::string journal(std::string_view tunnel) const;
  [[nodiscard]] std::string log(std::string_view tunnel) const;
  [[nodiscard]] static std::string profile_in(const std::string& folder, std::string_view tunnel);
};

// Letters, digits, ".", "_" and "-", 1 to 48 of them, the first a letter or digit: the name becomes
// part of file and unit names.
[[nodiscard]] bool is_tunnel_name(std::string_view name);

// Names of the tunnels that have a file `client-NAME<suffix>` in `folder`, sorted.
[[nodiscard]] std::vector<std::string> tunnels_with(const std::string& folder,
                                                    std::string_view suffix);

// Creates the run-time folder if it is missing. kPermission or kFailure.
Status make_runtime_folder(const std::string& folder);

}  // namespace culvert::client
