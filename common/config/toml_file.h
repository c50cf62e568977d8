// Configuration files and profiles: TOML in, typed values out, and errors that name file, line, key
// and remedy. Which keys exist, and what they mean, is known to the callers alone; toml++ stays
// inside this folder's .cc files.
//
//   auto file = TomlFile::load("/etc/culvert/culvertd.toml");
//   TomlReader reader(*file);
//   const auto dpd = reader.duration("session.dpd", 1s, 1h).value_or(15s);
//   if (auto status = reader.finish(); !status) …  // the first problem; problems() has all
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/address.h"
#include "common/base/clock.h"
#include "common/base/result.h"

namespace culvert::config {

inline constexpr size_t kMaxTomlBytes = 1024 * 1024;

// A parsed file, immutable. Moves; readers refer to it and must not outlive it.
class TomlFile {
 public:
  // Fails with kUsage (syntax: "FILE:LINE", no such file) or kPermission.
  static Result<TomlFile> load(const std::filesystem::path& path);
  // `file_name` is for messages, and its folder is what relative paths in the file start from.
  static Result<TomlFile> parse(std::string_view text, std::string file_name);

  TomlFile(TomlFile&&) noexcept;
  TomlFile& operator=(TomlFile&&) noexcept;
  ~TomlFile();

  [[nodiscard]] const std::string& file_name() const { return file_name_; }

 private:
  friend class TomlReader;
  struct Document;
  TomlFile(std::unique_ptr<Document> document, std::string file_name);

  std::unique_ptr<Document> document_;
  std::string file_name_;
};

// Reads values by dotted key ("session.dpd"; a part with other characters than A-Za-z0-9_- is
// quoted: join_key() does it). A reader function gives nothing if the key is absent; if its value
// is wrong, too, and a problem is recorded. Whatever was asked for is a known key.
class TomlReader {
 public:
  // `file` must outlive the reader.
  explicit TomlReader(const TomlFile& file);
  TomlReader(const TomlReader&) = delete;
  TomlReader& operator=(const TomlReader&) = delete;
  ~TomlReader();

  [[nodiscard]] bool has(std::string_view key);
  // Of the keys that take more than one type.
  [[nodiscard]] bool is_string(std::string_view key);

  std::optional<std::string> string(std::string_view key);
  // Absent or empty is a problem; then returns "".
  std::string required_string(std::string_view key, std::string_view hint = {});
  // One of `words`.
  std::optional<std::string> choice(std::string_view key,
                                    std::initializer_list<std::string_view> words);
  std::optional<bool> boolean(std::string_view key);
  // REQUIRES for all ranges: min <= max; both ends are allowed values.
  std::optional<int64_t> integer(std::string_view key, int64_t min, int64_t max);
  std::optional<Duration> duration(std::string_view key, Duration min, Duration max);
  std::optional<IpAddress> address(std::string_view key);
  std::optional<Prefix> prefix(std::string_view key);  // host bits are kept
  std::optional<Endpoint> endpoint(std::string_view key);
  // A relative path starts at the folder of the file.
  std::optional<std::filesystem::path> path(std::string_view key);

  // Absent is an empty list. A single value is not a list.
  std::vector<std::string> string_list(std::string_view key);
  std::vector<IpAddress> address_list(std::string_view key);
  std::vector<Prefix> prefix_list(std::string_view key);

  // The names in the table at `key` ("group" to {"engineering", …}), in the file's sorted order;
  // the caller is expected to read what is in them. "" is the top level.
  std::vector<std::string> table_keys(std::string_view key);

  // Records a problem that only the caller can see ("pool too small"), at the key's line.
  void problem(std::string_view key, std::string what, std::string hint = {});
  // "FILE:LINE: key", for messages about a value that was fine in itself. The line is left out if
  // the key is absent.
  [[nodiscard]] std::string where(std::string_view key) const;

  // Adds a problem for each key that was not asked for; then the first problem, if any. Its message
  // counts the others.
  Status finish();
  // All of them, after finish() in the order of the file; `where` is "FILE:LINE: key".
  [[nodiscard]] const std::vector<Error>& problems() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// "group" and "a b" to group."a b".
[[nodiscard]] std::string join_key(std::string_view table, std::string_view name);

}  // namespace culvert::config
