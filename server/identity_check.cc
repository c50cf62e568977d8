// culvertd check: the section [identity].
#include "server/checks.h"
#include "server/identity.h"
#include "server/users.h"

namespace culvert::server {

Findings check_identity(const ServerConfig& config) {
  const std::string subject = "identity";
  Findings out{
      {Grade::kGood, subject, describe(config.identity), std::string(), ErrorCode::kFailure}};
  if (!config.identity.strip_domain) return out;
  const auto users = read_users(config.users_dir());
  if (!users) return out;  // check_users() says so
  for (const auto& entry : *users) {
    const size_t at = entry.first.find('@');
    if (at == std::string::npos) continue;
    out.push_back({Grade::kWarning, subject,
                   config.users_dir() + "/" + entry.first +
                       ".toml is nobody's: names lose their domain (identity.strip_domain)",
                   at == 0 ? "remove it" : "rename it to " + entry.first.substr(0, at) + ".toml",
                   ErrorCode::kFailure});
  }
  return out;
}

}  // namespace culvert::server
