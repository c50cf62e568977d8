#include "client/targets.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "common/base/text.h"
#include "common/control/control_client.h"
#include "common/control/protocol.h"

namespace culvert::client {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".toml";

bool is_url(std::string_view text) {
  return text.find("://") != std::string_view::npos;
}

bool is_file(const std::string& target) {
  std::error_code ignored;
  return target.find('/') != std::string::npos || fs::is_regular_file(target, ignored);
}

std::string joined(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items)
    text += (text.empty() ? "" : ", ") + item;
  return text;
}

std::vector<std::string> names_of(const std::vector<StoredProfile>& profiles) {
  std::vector<std::string> names;
  names.reserve(profiles.size());
  for (const StoredProfile& profile : profiles)
    names.push_back(profile.name);
  return names;
}

Result<Profile> only_profile(const Paths& paths) {
  const auto profiles = stored_profiles(paths);
  if (profiles.size() == 1) return load_profile(profiles[0].path, profiles[0].name);
  if (profiles.empty())
    return fail(ErrorCode::kUsage, "there is no profile", {},
                "culvert import FILE, or culvert connect FILE");
  return fail(ErrorCode::kUsage, "which profile?", {}, joined(names_of(profiles)));
}

bool answers(const std::string& socket) {
  const auto status = control::call(socket, {.command = "status"}, std::chrono::seconds(2));
  // Whoever says no is there all the same.
  return status || status.error().code != ErrorCode::kNotRunning;
}

}  // namespace

std::vector<StoredProfile> stored_profiles(const Paths& paths) {
  std::vector<StoredProfile> found;
  for (const std::string& folder : paths.profiles) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
      const std::string file = entry.path().filename().string();
      if (entry.path().extension() != kSuffix) continue;
      const std::string name = file.substr(0, file.size() - kSuffix.size());
      const bool known = std::any_of(found.begin(), found.end(),
                                     [&](const StoredProfile& p) { return p.name == name; });
      if (is_tunnel_name(name) && !known) found.push_back({name, entry.path().string()});
    }
  }
  std::sort(found.begin(), found.end(),
            [](const StoredProfile& a, const StoredProfile& b) { return a.name < b.name; });
  return found;
}

Result<StoredProfile> find_profile(const Paths& paths, const std::string& name) {
  const auto profiles = stored_profiles(paths);
  for (const StoredProfile& profile : profiles)
    if (profile.name == name) return profile;
  std::string hint = "there is none; culvert import FILE takes one";
  if (!profiles.empty()) hint = "there is " + joined(names_of(profiles));
  return fail(ErrorCode::kUsage, "no profile of this name", escape_for_display(name), hint);
}

Result<Profile> profile_for(const std::string& target, const UrlFiles& files, const Paths& paths) {
  if (is_url(target)) return profile_from_url(target, files);
  if (!files.ca.empty() || !files.certificate.empty() || !files.key.empty() || !files.crl.empty())
    return fail(ErrorCode::kUsage, "--ca, --cert, --key and --crl go with a URL", target,
                "a profile has all of them inside");
  if (target.empty()) return only_profile(paths);
  if (is_file(target)) {
    auto name = tunnel_name_of_file(target);
    if (!name) return std::move(name.error());
    return load_profile(target, std::move(*name));
  }
  auto stored = find_profile(paths, target);
  if (!stored) return std::move(stored.error());
  return load_profile(stored->path, stored->name);
}

Result<std::string> tunnel_name_of_file(const std::string& path) {
  std::string name = fs::path(path).filename().string();
  if (fs::path(path).extension() == kSuffix) name.resize(name.size() - kSuffix.size());
  if (is_tunnel_name(name)) return name;
  return fail(ErrorCode::kUsage, "the file's name makes no name for a tunnel", path,
              "use letters, digits, '.', '_' and '-', at most 48; or import it with --name");
}

std::vector<std::string> running_tunnels(const Paths& paths) {
  std::vector<std::string> names;
  for (std::string& name : tunnels_with(paths.runtime, ".sock"))
    if (answers(paths.socket(name))) names.push_back(std::move(name));
  return names;
}

Result<std::string> running_tunnel(const std::string& name, const Paths& paths) {
  if (!paths.socket_override.empty()) return name.empty() ? std::string("tunnel") : name;
  if (!name.empty()) {
    if (is_tunnel_name(name)) return name;
    return fail(ErrorCode::kUsage, "not the name of a tunnel", escape_for_display(name));
  }
  const auto running = running_tunnels(paths);
  if (running.size() == 1) return running[0];
  if (running.empty())
    return fail(ErrorCode::kNotRunning, "no tunnel is running", {}, "culvert connect NAME");
  return fail(ErrorCode::kUsage, "which tunnel?", {}, joined(running));
}

}  // namespace culvert::client
