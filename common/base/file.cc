#include "common/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "common/base/bytes.h"
#include "common/base/scope_exit.h"
#include "common/base/unique_fd.h"

namespace culvert {
namespace {

ErrorCode code_of(int error) {
  return error == EACCES || error == EPERM || error == EROFS ? ErrorCode::kPermission
                                                             : ErrorCode::kFailure;
}

Error open_error(int error, const std::string& path) {
  if (error == ENOENT || error == ENOTDIR) {
    return fail(ErrorCode::kUsage, "there is no such file", path);
  }
  return fail_errno(code_of(error), error, "cannot open the file", path);
}

Status write_all(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_errno(code_of(errno), errno, "cannot write", path);
    content.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

// Owner before mode: chown(2) may clear mode bits.
Status fill(int fd, std::string_view content, const FileAttributes& attributes,
            const std::string& path) {
  if (attributes.owner && ::fchown(fd, attributes.owner->uid, attributes.owner->gid) != 0) {
    return fail_errno(code_of(errno), errno, "cannot set the owner", path);
  }
  if (::fchmod(fd, attributes.mode) != 0) {
    return fail_errno(code_of(errno), errno, "cannot set the mode", path);
  }
  if (auto status = write_all(fd, content, path); !status) return status;
  if (::fsync(fd) != 0) return fail_errno(ErrorCode::kFailure, errno, "cannot write", path);
  return {};
}

// Makes a rename or a new name in the folder last. Some file systems cannot: not an error.
void sync_folder_of(const std::string& path) {
  const UniqueFd folder(::open(parent_path(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.valid()) ::fsync(folder.get());
}

FileAttributes attributes_of_existing(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return {};
  return {.mode = info.st_mode & 07777, .owner = FileOwner{info.st_uid, info.st_gid}};
}

}  // namespace

std::string parent_path(std::string_view path) {
  const auto slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(slash == 0 ? "/" : path.substr(0, slash));
}

Result<std::string> read_file(const std::string& path, size_t limit) {
  const auto content = read_secret_file(path, limit);
  if (!content) return content.error();
  return std::string(as_text(content->bytes()));
}

Result<Secret> read_secret_file(const std::string& path, size_t limit) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return open_error(errno, path);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return fail(ErrorCode::kUsage, "not a regular file", path);
  }
  if (static_cast<size_t>(info.st_size) > limit) {
    return fail(ErrorCode::kUsage, "larger than " + std::to_string(limit) + " bytes", path);
  }
  Secret content(static_cast<size_t>(info.st_size));
  for (size_t filled = 0; filled < content.bytes().size();) {
    const MutableBytes room = content.bytes().subspan(filled);
    const ssize_t got = ::read(fd.get(), room.data(), room.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(ErrorCode::kFailure, errno, "cannot read", path);
    if (got == 0) return fail(ErrorCode::kFailure, "changed while it was read", path);
    filled += static_cast<size_t>(got);
  }
  return content;
}

Status create_file(const std::string& path, std::string_view content,
                   const FileAttributes& attributes) {
  const UniqueFd fd(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid() && errno == EEXIST) {
    return fail(ErrorCode::kUsage, "the file exists already and is never overwritten", path,
                "move it away or choose another place");
  }
  if (!fd.valid()) return fail_errno(code_of(errno), errno, "cannot create the file", path);
  ScopeExit remove([&] { ::unlink(path.c_str()); });
  if (auto status = fill(fd.get(), content, attributes, path); !status) return status;
  remove.dismiss();
  sync_folder_of(path);
  return {};
}

Status replace_file(const std::string& path, std::string_view content,
                    const std::optional<FileAttributes>& attributes) {
  const FileAttributes wanted = attributes ? *attributes : attributes_of_existing(path);
  std::string temporary = path + ".XXXXXX";
  const UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd.valid()) return fail_errno(code_of(errno), errno, "cannot create a file beside", path);
  ScopeExit remove([&] { ::unlink(temporary.c_str()); });
  if (auto status = fill(fd.get(), content, wanted, path); !status) return status;
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    return fail_errno(code_of(errno), errno, "cannot replace the file", path);
  }
  remove.dismiss();
  sync_folder_of(path);
  return {};
}

}  // namespace culvert
