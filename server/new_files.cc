#include "server/new_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace culvert::server {
namespace {

Error folder_error(int error, const std::string& path) {
  return fail_errno(
      error == EACCES || error == EPERM ? ErrorCode::kPermission : ErrorCode::kFailure, error,
      "cannot make the folder", path);
}

bool is_folder(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

}  // namespace

NewFiles::~NewFiles() {
  for (auto made = made_.rbegin(); made != made_.rend(); ++made) {
    made->is_folder ? ::rmdir(made->path.c_str()) : ::unlink(made->path.c_str());
  }
}

Result<bool> NewFiles::folder(const std::string& path, const FileAttributes& attributes) {
  if (::mkdir(path.c_str(), 0700) != 0) {
    const int error = errno;
    if (error == EEXIST && is_folder(path)) return false;
    return folder_error(error, path);
  }
  made_.push_back({path, true});
  const auto& owner = attributes.owner;
  if (owner && ::chown(path.c_str(), owner->uid, owner->gid) != 0) {
    return folder_error(errno, path);
  }
  if (::chmod(path.c_str(), attributes.mode) != 0) return folder_error(errno, path);
  return true;
}

Status NewFiles::parents_of(const std::string& path) {
  const std::string parent = parent_path(path);
  if (parent == path || is_folder(parent)) return {};
  if (auto status = parents_of(parent); !status) return status;
  const auto made = folder(parent, {.mode = 0755, .owner = std::nullopt});
  if (!made) return made.error();
  return {};
}

Status NewFiles::file(const std::string& path, std::string_view content,
                      const FileAttributes& attributes) {
  if (auto status = create_file(path, content, attributes); !status) return status;
  made_.push_back({path, false});
  return {};
}

}  // namespace culvert::server
