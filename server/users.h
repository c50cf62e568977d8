// Users: one small TOML file each, users/NAME.toml beside the configuration, with what belongs to
// the person and not to the certificate: group, fixed addresses, networks behind the client.
// The file's name is the user's name, which is the common name of the user's certificates.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/address.h"
#include "common/base/result.h"
#include "server/service_user.h"

namespace culvert::server {

inline constexpr size_t kMaxUserName = 64;

struct User {
  std::string name;
  std::string group;  // may be empty
  // Fixed addresses inside the tunnel.
  std::optional<IpAddress> ipv4;
  std::optional<IpAddress> ipv6;
  // Networks behind the client that the server routes to it; host bits are clear.
  std::vector<Prefix> networks;

  friend bool operator==(const User&, const User&) = default;
};

// Letters, digits, '.', '_', '@' and '-', not starting with '.' or '-', at most 64: safe as a file
// name, a header value and in a log. Groups follow the same rule.
[[nodiscard]] bool is_user_name(std::string_view name);
// The same as an error (kUsage) that says what is allowed. `what` is "user name" or "group".
[[nodiscard]] Status check_user_name(std::string_view name, std::string_view what = "user name");

// The text of a user's file, and back. `file` is for errors only; the name is not in the text.
[[nodiscard]] std::string to_toml(const User& user);
[[nodiscard]] Result<User> parse_user(std::string_view text, std::string name,
                                      const std::string& file);

// users/NAME.toml; nothing if there is no such file. A name that is_user_name() refuses is never
// looked up and gives nothing, so that certificates of foreign CAs may carry any name.
[[nodiscard]] Result<std::optional<User>> read_user(const std::string& users_dir,
                                                    std::string_view name);
// All of them, by name. Files that don't end in .toml are ignored; the first bad one is an error.
// A folder that isn't there holds no users.
[[nodiscard]] Result<std::map<std::string, User, std::less<>>> read_users(
    const std::string& users_dir);

// Writes users/NAME.toml, mode 0600, for `owner` if given; an existing file is replaced atomically.
[[nodiscard]] Status write_user(const std::string& users_dir, const User& user,
                                const std::optional<Account>& owner);
// A file that isn't there is a success.
[[nodiscard]] Status remove_user(const std::string& users_dir, std::string_view name);

// Fixed addresses and networks that two users share, or that don't fit the pools: an error that
// names both. `users` includes the user in question.
struct Pools {
  std::optional<Prefix> ipv4;
  std::optional<Prefix> ipv6;
};
[[nodiscard]] Status check_user_networks(const User& user,
                                         const std::map<std::string, User, std::less<>>& users,
                                         const Pools& pools);

}  // namespace culvert::server
