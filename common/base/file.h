// Small files: read whole, created without overwriting, replaced atomically. For keys,
// certificates, profiles and configuration; not for anything large or on a busy path (every write
// is synced).
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/base/secret.h"

namespace culvert {

inline constexpr size_t kMaxSmallFile = 1 << 20;  // 1 MiB

struct FileOwner {
  uid_t uid;
  gid_t gid;
};

struct FileAttributes {
  mode_t mode = 0600;  // exactly this, whatever the umask
  std::optional<FileOwner> owner;
};

// The file's content. kUsage if it is not there, not a regular file or larger than `limit` bytes,
// kPermission if it may not be read.
[[nodiscard]] Result<std::string> read_file(const std::string& path, size_t limit = kMaxSmallFile);

// The same for private keys: nothing of the content stays behind in memory.
[[nodiscard]] Result<Secret> read_secret_file(const std::string& path,
                                              size_t limit = kMaxSmallFile);

// Writes a file that must not exist (kUsage, with a hint, if it does); nothing is left on failure.
// A symbolic link in its place counts as existing.
[[nodiscard]] Status create_file(const std::string& path, std::string_view content,
                                 const FileAttributes& attributes = {});

// Puts a complete new file in the place of an old one or of none: readers see the one or the other.
// Without attributes the old file's mode and owner are kept (0600 and the caller's if there is no
// old file).
[[nodiscard]] Status replace_file(const std::string& path, std::string_view content,
                                  const std::optional<FileAttributes>& attributes = std::nullopt);

// Folder of a path: "/a/b" gives "/a", "b" gives ".", "/a" gives "/".
[[nodiscard]] std::string parent_path(std::string_view path);

}  // namespace culvert
