// NewFiles: files and folders that come into being together or not at all. What was made so far is
// taken away again unless keep() is called.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base/file.h"
#include "common/base/result.h"

namespace culvert::server {

class NewFiles {
 public:
  NewFiles() = default;
  NewFiles(const NewFiles&) = delete;
  NewFiles& operator=(const NewFiles&) = delete;
  ~NewFiles();

  // A folder; one that is there already is taken as it is, and stays whatever happens. Gives true
  // if it was made. Folders above it must exist.
  [[nodiscard]] Result<bool> folder(const std::string& path, const FileAttributes& attributes);
  // The folders above `path` that are missing, with the usual mode.
  [[nodiscard]] Status parents_of(const std::string& path);
  [[nodiscard]] Status file(const std::string& path, std::string_view content,
                            const FileAttributes& attributes);
  void keep() { made_.clear(); }

 private:
  struct Made {
    std::string path;
    bool is_folder;
  };
  std::vector<Made> made_;
};

}  // namespace culvert::server
