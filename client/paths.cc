#include "client/paths.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace culvert::client {
namespace {

constexpr std::string_view kPrefix = "client-";
constexpr size_t kLongestName = 48;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::string in_runtime(const std::string& folder, std::string_view tunnel,
                       std::string_view suffix) {
  return folder + "/" + std::string(kPrefix) + std::string(tunnel) + std::string(suffix);
}

}  // namespace

Paths Paths::from_environment() {
  Paths paths;
  const std::string runtime = environment("CULVERT_RUNTIME_DIR");
  paths.runtime = runtime.empty() ? "/run/culvert" : runtime;
  const std::string config = environment("CULVERT_CONFIG_DIR");
  paths.profiles.push_back((config.empty() ? std::string("/etc/culvert") : config) + "/client");
  const std::string home = environment("HOME");
  if (config.empty() && !home.empty()) paths.profiles.push_back(home + "/.config/culvert");
  paths.import_to = ::geteuid() == 0 ? paths.profiles.front() : paths.profiles.back();
  return paths;
}

std::string Paths::socket(std::string_view tunnel) const {
  return socket_override.empty() ? in_runtime(runtime, tunnel, ".sock") : socket_override;
}
std::string Paths::journal(std::string_view tunnel) const {
  return in_runtime(runtime, tunnel, ".undo");
}
std::string Paths::log(std::string_view tunnel) const {
  return in_runtime(runtime, tunnel, ".log");
}

std::string Paths::profile_in(const std::string& folder, std::string_view tunnel) {
  return folder + "/" + std::string(tunnel) + ".toml";
}

bool is_tunnel_name(std::string_view name) {
  const auto is_word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const auto is_allowed = [&](char c) { return is_word(c) || c == '.' || c == '_' || c == '-'; };
  return !name.empty() && name.size() <= kLongestName && is_word(name.front()) &&
         std::all_of(name.begin(), name.end(), is_allowed);
}

std::vector<std::string> tunnels_with(const std::string& folder, std::string_view suffix) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string file = entry.path().filename().string();
    if (file.size() <= kPrefix.size() + suffix.size() || file.rfind(kPrefix, 0) != 0) continue;
    if (std::string_view(file).substr(file.size() - suffix.size()) != suffix) continue;
    names.push_back(file.substr(kPrefix.size(), file.size() - kPrefix.size() - suffix.size()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

Status make_runtime_folder(const std::string& folder) {
  if (::mkdir(folder.c_str(), 0755) == 0 || errno == EEXIST) return {};
  const ErrorCode code =
      errno == EACCES || errno == EPERM ? ErrorCode::kPermission : ErrorCode::kFailure;
  return fail_errno(code, errno, "cannot create the run-time folder", folder,
                    code == ErrorCode::kPermission ? "run this as root" : "");
}

}  // namespace culvert::client
