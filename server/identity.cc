#include "server/identity.h"

#include "common/base/text.h"

namespace culvert::server {

Answer<User> identify(const tls::CertificateInfo& certificate, const Users& users,
                      UnknownUsers unknown_users) {
  const std::string& name = certificate.common_name;
  if (!is_user_name(name)) {
    return Answer<User>::no({.reason = "bad_name",
                             .text = "the certificate's common name \"" + escape_for_display(name) +
                                     "\" is no user name"});
  }
  const auto found = users.find(name);
  if (found == users.end() && unknown_users == UnknownUsers::kRefuse) {
    return Answer<User>::no(
        {.reason = "unknown_user", .text = "the user " + name + " is not known here"});
  }
  User user;
  if (found != users.end()) user = found->second;
  user.name = name;
  if (user.group.empty() && is_user_name(certificate.organizational_unit)) {
    user.group = certificate.organizational_unit;
  }
  return Answer<User>::yes(std::move(user));
}

}  // namespace culvert::server
