#include "server/paths.h"

#include <cstdlib>
#include <filesystem>

#include "server/commands.h"
#include "server/config.h"

namespace culvert::server {

std::string absolute_path(std::string_view path) {
  std::string out = std::filesystem::absolute(path).lexically_normal().string();
  while (out.size() > 1 && out.back() == '/')
    out.pop_back();
  return out;
}

std::string config_dir(std::string_view dir) {
  return absolute_path(dir.empty() ? kDefaultDir : dir);
}

std::string default_control_socket() {
  const char* folder = std::getenv("CULVERT_RUNTIME_DIR");
  return absolute_path(folder != nullptr && *folder != '\0' ? folder : "/run/culvert") +
         "/culvertd.sock";
}

std::string state_file(std::string_view control_socket) {
  const char* folder = std::getenv("CULVERT_STATE_DIR");
  const auto name = std::filesystem::path(control_socket).stem().string();
  return absolute_path(folder != nullptr && *folder != '\0' ? folder : "/var/lib/culvert") + "/" +
         name + ".db";
}

std::string Place::config_file() const {
  if (!config.empty()) return absolute_path(config);
  return config_dir(dir) + "/" + std::string(kConfigFileName);
}

std::string Place::control_socket() const {
  return socket.empty() ? default_control_socket() : absolute_path(socket);
}

}  // namespace culvert::server
