// Profile: everything that is needed to connect, from one TOML file with the certificates and the
// key inline (culvert-profile(5)), or from a URL and files on the command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "client/routes.h"
#include "common/base/result.h"
#include "common/base/secret.h"
#include "common/tls/tls_config.h"

namespace culvert::client {

constexpr uint16_t kDefaultPort = 443;

struct Profile {
  std::string file;         // that it was read from; empty: from a URL and its files
  std::string tunnel;       // what the user calls it: part of socket and unit names
  std::string server_name;  // DNS name or IP literal that the server's certificate must prove
  std::string host;         // where to connect: name or IP literal, without brackets
  uint16_t port = kDefaultPort;
  std::string path = "/";        // of the login request, query included
  std::string user;              // for display, and for login forms; may be empty
  std::string password_command;  // answers login forms (answers.h); empty: a person does

  std::string ca_pem;
  std::string certificate_pem;
  std::string crl_pem;  // empty: none
  Secret key_pem;
  tls::Version min_version = tls::Version::k12;

  RouteMode routes = RouteMode::kServer;
  RoutingNumbers routing;
  bool use_dns = true;
  std::string device = "culvert%d";
  std::optional<uint16_t> mtu;
  bool offloads = true;  // superpackets from and to the TUN, where the kernel has them
  bool udp = true;       // packets go over UDP where the server and the network let them
  bool udp_gso = true;   // several datagrams are sent with one call, where the kernel can
  bool udp_gro = true;   // and received

  // "https://vpn.example.com:4443/path", as shown and as told to the server.
  [[nodiscard]] std::string url() const;
  // For the Host header: the port only if it is not 443, IPv6 in brackets.
  [[nodiscard]] std::string authority() const;
  // kUsage with the piece that is wrong.
  [[nodiscard]] tls::TlsOptions tls_options() const;
};

// All errors are kUsage ("FILE:LINE: key: …") or kPermission.
Result<Profile> parse_profile(std::string_view text, const std::string& file_name,
                              std::string tunnel);
Result<Profile> load_profile(const std::string& path, std::string tunnel);

struct UrlFiles {
  std::string ca, certificate, key;  // required
  std::string crl;                   // may be empty
};
// "https://HOST[:PORT][/PATH]". The tunnel is called after the host.
Result<Profile> profile_from_url(std::string_view url, const UrlFiles& files);

struct HostPort {
  std::string host;
  uint16_t port;
};
// "HOST", "HOST:PORT", "[V6]:PORT", or a bare IPv6 literal.
Result<HostPort> parse_host_port(std::string_view text);

}  // namespace culvert::client
