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

// Whether both are the same attribute's short name: "UID" and "uid" are.
[[nodiscard]] bool is_same_attribute(std::string_view a, std::string_view b);

// For a person: "users by common name, groups: organizational unit".
[[nodiscard]] std::string describe(const IdentityRules& rules);

// The name that the rules find in the certificate, whether or not it is one that we would issue
// (is_user_name). Empty: none.
[[nodiscard]] std::string name_in(const tls::CertificateInfo& certificate,
                                  const IdentityRules& rules);

// What the rules find in a certificate that our own commands make for `name`: it has a common name
// and nothing else to call anybody by.
[[nodiscard]] std::string name_in_own(const std::string& name, const IdentityRules& rules);

// The user is the certificate's name_in(), which must be one that we would issue. The group is that
// of users/NAME.toml, else what the rules find in the certificate if it can be a group's name.
// Refusals: "bad_name", "unknown_user".
[[nodiscard]] Answer<User> identify(const tls::CertificateInfo& certificate,
                                    const IdentityRules& rules, const Users& users,
                                    UnknownUsers unknown_users);

}  // namespace culvert::server
