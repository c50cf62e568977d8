// What the commands about users and their certificates have in common.
#pragma once

#include <iosfwd>
#include <map>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "server/client_profile.h"
#include "server/commands.h"
#include "server/config.h"
#include "server/pki_store.h"
#include "server/running_server.h"
#include "server/users.h"

namespace culvert::server {

// "2026-03-01"
[[nodiscard]] std::string date_of(WallTime time);

[[nodiscard]] ClientProfile profile_for(const ServerConfig& config, const PkiStore& store,
                                        const UserCredentials& credentials);

// kUsage unless the server trusts the store's CA.
[[nodiscard]] Status check_store_is_used(const ServerConfig& config, const PkiStore& store);
// kUsage if the server would not call the holder of a certificate of ours by its common name: he
// would be shut out, or be somebody else.
[[nodiscard]] Status check_name_is_found(const ServerConfig& config, const std::string& name);
// kUsage unless the list that the server reads is the one that the store writes: a revocation would
// change nothing.
[[nodiscard]] Status check_crl_is_used(const ServerConfig& config, const PkiStore& store);

[[nodiscard]] Error no_such_user(const std::string& name,
                                 const std::map<std::string, User, std::less<>>& users);

// Tells the running server, and `out` what came of it. After something was given.
void report_reload(const Place& place, std::ostream& out);
// The same after something was taken away from `who`: an error if the server could not be told.
[[nodiscard]] Result<Reloaded> reload_after_revocation(const Place& place, const std::string& who);
void report_revoked(const std::string& name, const std::vector<IssuedCertificate>& revoked,
                    const Reloaded& reloaded, std::ostream& out);

}  // namespace culvert::server
