#include "server/client_profile.h"

#include "common/config/toml_text.h"

namespace culvert::server {

std::string to_toml(const ClientProfile& profile) {
  using config::toml_multiline;
  using config::toml_quote;
  std::string out =
      "# Culvert client profile. It holds a private key: whoever has this file is this user.\n"
      "#   culvert import FILE     then     culvert connect\n";
  out += "name = " + toml_quote(profile.name) + "\n";
  out += "address = " + toml_quote(profile.address) + "\n";
  out += "user = " + toml_quote(profile.user) + "\n\n[tls]\n";
  out += "ca = " + toml_multiline(profile.ca_pem) + "\n";
  out += "certificate = " + toml_multiline(profile.certificate_pem) + "\n";
  out += "key = " + toml_multiline(profile.key_pem) + "\n";
  if (!profile.crl_pem.empty()) out += "crl = " + toml_multiline(profile.crl_pem) + "\n";
  return out;
}

}  // namespace culvert::server
