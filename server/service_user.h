// The account the server runs as: looking it up, creating it, and asking what it may read.
// Giving up privileges is not here.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "common/base/result.h"

namespace culvert::server {

struct Account {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;
};

// Nothing if there is no such account.
[[nodiscard]] Result<std::optional<Account>> find_account(const std::string& name);

struct EnsuredAccount {
  Account account;
  bool created = false;
};
// Finds the account or creates it as a system user without home and shell, by useradd(8).
// REQUIRES: root. The error says how to create it by hand if useradd is missing.
[[nodiscard]] Result<EnsuredAccount> ensure_account(const std::string& name);

// Success if the account can open the file for reading, judged by owner, group and mode of the file
// and of each folder above it. The error names the first obstacle. Access control lists and
// supplementary groups are not considered.
[[nodiscard]] Status check_readable(const Account& account, const std::string& path);

}  // namespace culvert::server
