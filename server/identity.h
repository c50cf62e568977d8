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

// The user is the certificate's common name, which must be one that we would issue (is_user_name).
// The group is that of users/NAME.toml, else the certificate's organizational unit if it can be a
// group's name. Refusals: "bad_name", "unknown_user".
[[nodiscard]] Answer<User> identify(const tls::CertificateInfo& certificate, const Users& users,
                                    UnknownUsers unknown_users);

}  // namespace culvert::server
