#include "server/completion.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "server/commands.h"
#include "server/users.h"

namespace culvert::server {
namespace {

namespace fs = std::filesystem;

std::string given(const cli::NameQuestion& question, const char* option) {
  const auto found = question.options.find(option);
  return found == question.options.end() ? std::string() : found->second;
}

}  // namespace

// The names of the files are enough: a file that cannot be read is a user all the same, and the
// configuration may be one that does not work yet.
std::vector<std::string> names_for(const cli::NameQuestion& question) {
  Place place;
  place.dir = given(question, "dir");
  place.config = given(question, "config");
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry :
       fs::directory_iterator(fs::path(place.config_file()).parent_path() / "users", ignored)) {
    const std::string name = entry.path().stem().string();
    if (entry.path().extension() == ".toml" && is_user_name(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace culvert::server
