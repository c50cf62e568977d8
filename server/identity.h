// From a certificate to a user of ours: name, group, fixed addresses, networks. Pure.
// Whether the certificate is good is tls::judge_client's question and was answered before.
#pragma once

#include <map>
#include <string>

#include "common/tls/certificate.h"
#include "server/config.h"
#include "server/gate.h"
#include "server/users.h"

namespace culvert::server {

using Users = std::map<std::string, User, std::less<>>;

// The name that the rules find in the certificate, whether or not it is one that we would issue
// (is_user_name). Empty: none.
[[nodiscard]] std::string name_in(const tls::CertificateInfo& certificate,
                                  const IdentityRules& rules);

// The user is the certificate's name_in(), which must be one that we would issue. The group is that
// of users/NAME.toml, else what the rules find in the certificate if it can be a group's name.
// Refusals: "bad_name", "unknown_user".
[[nodiscard]] Answer<User> identify(const tls::CertificateInfo& certificate,
                                    const IdentityRules& rules, const Users& users,
                                    UnknownUsers unknown_users);

}  // namespace culvert::server
