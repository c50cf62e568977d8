// The client profile as the server writes it: one TOML file with everything a client needs, mode
// 0600, so that handing someone access means handing over one file.
//
//   name    = "vpn.example.com"     # the name in the server's certificate: DNS name or IP address
//   address = "192.0.2.1:443"       # where to connect: HOST or HOST:PORT (default port 443; IPv6
//   in
//                                   # brackets if a port follows)
//   user    = "alice"               # who this is; for display, the certificate decides
//
//   [tls]
//   ca          = '''PEM'''         # one or more certificates: whom to believe about the server
//   certificate = '''PEM'''         # the client's chain, own certificate first
//   key         = '''PEM'''         # its private key, unencrypted
//   crl         = '''PEM'''         # optional: revocation list of the CA
//
// All keys but `crl` are always written. The PEM values are multi-line literal strings.
#pragma once

#include <string>

#include "common/base/result.h"

namespace culvert::server {

struct ClientProfile {
  std::string name;
  std::string address;
  std::string user;
  std::string ca_pem;
  std::string certificate_pem;
  std::string key_pem;
  std::string crl_pem;  // empty: left out
};

// The text of the profile, with a comment for the person who opens it.
[[nodiscard]] std::string to_toml(const ClientProfile& profile);

}  // namespace culvert::server
