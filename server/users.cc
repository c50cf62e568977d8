#include "server/users.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "common/base/file.h"
#include "common/config/toml_file.h"
#include "common/config/toml_text.h"

namespace culvert::server {
namespace {

constexpr std::string_view kSuffix = ".toml";

std::string path_of(const std::string& users_dir, std::string_view name) {
  return users_dir + "/" + std::string(name) + std::string(kSuffix);
}

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '@' || c == '-';
}

// `address`: one address, or one of each family as a list.
void read_addresses(config::TomlReader& reader, User& user) {
  for (const IpAddress& address : reader.address_list("addresses")) {
    auto& slot = address.is_v4() ? user.ipv4 : user.ipv6;
    if (slot) reader.problem("addresses", "more than one address of a family");
    slot = address;
  }
}

void read_networks(config::TomlReader& reader, User& user) {
  user.networks = reader.prefix_list("networks");
  for (const Prefix& network : user.networks) {
    if (network == network.network()) continue;
    reader.problem("networks", network.to_string() + " has bits set behind its length",
                   "the network is " + network.network().to_string());
  }
}

Error clash(const User& user, const std::string& what) {
  return fail(ErrorCode::kUsage, what, "user '" + user.name + "'");
}

// One fixed address against its pool.
Status check_fixed(const User& user, const std::optional<IpAddress>& address,
                   const std::optional<Prefix>& pool) {
  if (!address) return {};
  if (!pool || !pool->contains(*address)) {
    return fail(ErrorCode::kUsage,
                "the address " + address->to_string() + " is not in the server's network",
                "user '" + user.name + "'",
                pool ? "it is " + pool->to_string() : "it has none of this family");
  }
  const IpAddress own = pool->address.plus(1);
  // The last address of an IPv4 network is its broadcast address.
  const bool last = address->is_v4() && !pool->contains(address->plus(1));
  if (*address == pool->address || *address == own || last) {
    return clash(user, "the address " + address->to_string() +
                           (*address == own ? " is the server's own" : " cannot be given away"));
  }
  return {};
}

Status check_pair(const User& user, const User& other) {
  if (user.ipv4 && user.ipv4 == other.ipv4) {
    return clash(user, "the address " + user.ipv4->to_string() + " is '" + other.name + "'s");
  }
  if (user.ipv6 && user.ipv6 == other.ipv6) {
    return clash(user, "the address " + user.ipv6->to_string() + " is '" + other.name + "'s");
  }
  for (const Prefix& mine : user.networks) {
    for (const Prefix& theirs : other.networks) {
      if (!mine.overlaps(theirs)) continue;
      return clash(user, "the network " + mine.to_string() + " overlaps " + theirs.to_string() +
                             " of '" + other.name + "'");
    }
  }
  return {};
}

}  // namespace

bool is_user_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxUserName && name.front() != '.' &&
         name.front() != '-' && std::all_of(name.begin(), name.end(), is_name_character);
}

Status check_user_name(std::string_view name, std::string_view what) {
  if (is_user_name(name)) return {};
  return fail(ErrorCode::kUsage, "not a valid " + std::string(what), std::string(name),
              "letters, digits, '.', '_', '@' and '-', at most 64, not starting with '.' or '-'");
}

std::string to_toml(const User& user) {
  std::string out = "# Culvert user; see culvertd.toml(5).\n";
  if (!user.group.empty()) out += "group = " + config::toml_quote(user.group) + "\n";
  std::vector<std::string> addresses;
  if (user.ipv4) addresses.push_back(user.ipv4->to_string());
  if (user.ipv6) addresses.push_back(user.ipv6->to_string());
  if (!addresses.empty()) out += "addresses = " + config::toml_list(addresses) + "\n";
  std::vector<std::string> networks;
  for (const Prefix& network : user.networks)
    networks.push_back(network.to_string());
  if (!networks.empty()) out += "networks = " + config::toml_list(networks) + "\n";
  return out;
}

Result<User> parse_user(std::string_view text, std::string name, const std::string& file) {
  const auto toml = config::TomlFile::parse(text, file);
  if (!toml) return toml.error();
  User user;
  user.name = std::move(name);
  config::TomlReader reader(*toml);
  user.group = reader.string("group").value_or("");
  if (!user.group.empty() && !is_user_name(user.group)) {
    reader.problem("group", "not a valid group name");
  }
  read_addresses(reader, user);
  read_networks(reader, user);
  if (auto status = reader.finish(); !status) return status.error();
  return user;
}

Result<std::optional<User>> read_user(const std::string& users_dir, std::string_view name) {
  if (!is_user_name(name)) return std::optional<User>();
  const std::string path = path_of(users_dir, name);
  if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) return std::optional<User>();
  const auto text = read_file(path);
  if (!text) return text.error();
  auto user = parse_user(*text, std::string(name), path);
  if (!user) return user.error();
  return std::optional<User>(std::move(*user));
}

Result<std::map<std::string, User, std::less<>>> read_users(const std::string& users_dir) {
  std::map<std::string, User, std::less<>> users;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(users_dir.c_str()), ::closedir);
  if (!folder && errno == ENOENT) return users;
  if (!folder) {
    return fail_errno(errno == EACCES ? ErrorCode::kPermission : ErrorCode::kFailure, errno,
                      "cannot read the folder", users_dir);
  }
  while (const dirent* entry = ::readdir(folder.get())) {
    std::string_view name = entry->d_name;
    if (name.size() <= kSuffix.size() || !name.ends_with(kSuffix)) continue;
    name.remove_suffix(kSuffix.size());
    if (name.front() == '.') continue;  // an editor's
    if (auto status = check_user_name(name); !status) {
      Error error = status.error();
      error.where = path_of(users_dir, name);
      return error;
    }
    auto user = read_user(users_dir, name);
    if (!user) return user.error();
    if (*user) users.emplace(std::string(name), std::move(**user));
  }
  return users;
}

Status write_user(const std::string& users_dir, const User& user,
                  const std::optional<Account>& owner) {
  if (auto status = check_user_name(user.name); !status) return status;
  FileAttributes attributes;
  if (owner) attributes.owner = FileOwner{owner->uid, owner->gid};
  return replace_file(path_of(users_dir, user.name), to_toml(user), attributes);
}

Status remove_user(const std::string& users_dir, std::string_view name) {
  if (auto status = check_user_name(name); !status) return status;
  const std::string path = path_of(users_dir, name);
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return fail_errno(errno == EACCES ? ErrorCode::kPermission : ErrorCode::kFailure, errno,
                    "cannot remove the file", path);
}

Status check_user_networks(const User& user, const std::map<std::string, User, std::less<>>& users,
                           const Pools& pools) {
  if (auto status = check_fixed(user, user.ipv4, pools.ipv4); !status) return status;
  if (auto status = check_fixed(user, user.ipv6, pools.ipv6); !status) return status;
  for (const Prefix& network : user.networks) {
    for (const auto& pool : {pools.ipv4, pools.ipv6}) {
      if (!pool || !network.overlaps(*pool)) continue;
      return clash(user, "the network " + network.to_string() + " overlaps the server's " +
                             pool->to_string());
    }
  }
  for (const auto& entry : users) {
    if (entry.first == user.name) continue;
    if (auto status = check_pair(user, entry.second); !status) return status;
  }
  return {};
}

}  // namespace culvert::server
