// A folder that goes away with the test. Beside the tests that need it; no test itself.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace culvert::server {

class TemporaryDir {
 public:
  TemporaryDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "culvert-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  TemporaryDir(const TemporaryDir&) = delete;
  TemporaryDir& operator=(const TemporaryDir&) = delete;
  ~TemporaryDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace culvert::server
