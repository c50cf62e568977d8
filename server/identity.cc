#include "server/identity.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "common/base/text.h"

namespace culvert::server {
namespace {

using Source = IdentityRules::Source;

// The first one.
std::string attribute_in(const tls::CertificateInfo& certificate, std::string_view attribute) {
  for (const auto& [name, value] : certificate.attributes) {
    if (is_same_attribute(name, attribute)) return value;
  }
  return {};
}

std::string what_is_called(const std::string& attribute) {
  if (is_same_attribute(attribute, "CN")) return "common name";
  return is_same_attribute(attribute, "OU") ? "organizational unit" : attribute;
}

std::string what_is_looked_for(const IdentityRules& rules) {
  switch (rules.source) {
    case Source::kEmail:
      return "e-mail address";
    case Source::kPrincipalName:
      return "user principal name";
    case Source::kAttribute:
      break;
  }
  return what_is_called(rules.attribute);
}

}  // namespace

bool is_same_attribute(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

std::string describe(const IdentityRules& rules) {
  const std::string group = rules.group_attribute.empty() ? "none from the certificate"
                                                          : what_is_called(rules.group_attribute);
  return "users by " + what_is_looked_for(rules) +
         (rules.strip_domain ? " without its domain" : "") + ", groups: " + group;
}

std::string name_in(const tls::CertificateInfo& certificate, const IdentityRules& rules) {
  const auto first = [](const std::vector<std::string>& names) {
    return names.empty() ? std::string() : names.front();
  };
  std::string name;
  switch (rules.source) {
    case Source::kAttribute:
      name = attribute_in(certificate, rules.attribute);
      break;
    case Source::kEmail:
      name = first(certificate.emails);
      break;
    case Source::kPrincipalName:
      name = first(certificate.principal_names);
      break;
  }
  if (rules.strip_domain) name.resize(std::min(name.find('@'), name.size()));
  return name;
}

std::string name_in_own(const std::string& name, const IdentityRules& rules) {
  tls::CertificateInfo certificate;
  certificate.attributes = {{"CN", name}};
  return name_in(certificate, rules);
}

Answer<User> identify(const tls::CertificateInfo& certificate, const IdentityRules& rules,
                      const Users& users, UnknownUsers unknown_users) {
  std::string name = name_in(certificate, rules);
  if (!is_user_name(name)) {
    const std::string what = what_is_looked_for(rules);
    return Answer<User>::no(
        {.reason = "bad_name",
         .text = name.empty() ? "the certificate has no " + what +
                                    (rules.strip_domain ? " that begins before an @" : "")
                              : "the certificate's " + what + " \"" + escape_for_display(name) +
                                    "\" is no user name"});
  }
  const auto found = users.find(name);
  if (found == users.end() && unknown_users == UnknownUsers::kRefuse) {
    return Answer<User>::no(
        {.reason = "unknown_user", .text = "the user " + name + " is not known here"});
  }
  User user;
  if (found != users.end()) user = found->second;
  user.name = std::move(name);
  if (user.group.empty() && !rules.group_attribute.empty()) {
    std::string group = attribute_in(certificate, rules.group_attribute);
    if (is_user_name(group)) user.group = std::move(group);
  }
  return Answer<User>::yes(std::move(user));
}

}  // namespace culvert::server
