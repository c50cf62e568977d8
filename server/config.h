// The server's configuration: culvertd.toml read into one struct, every value checked.
// What the keys mean stands in culvertd.toml(5); the text of the file is the business of
// common/config, and whether the files and networks named here exist is that of `culvertd check`.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/address.h"
#include "common/base/log.h"
#include "common/base/result.h"
#include "common/tunnel/key_life.h"

namespace culvert::server {

inline constexpr std::string_view kDefaultDir = "/etc/culvert";
inline constexpr std::string_view kConfigFileName = "culvertd.toml";
inline constexpr std::string_view kServiceUser = "culvert";
inline constexpr uint16_t kDefaultPort = 443;

// What happens to a valid certificate whose name has no file in users/.
enum class UnknownUsers { kAllow, kRefuse };
enum class TlsVersion { k12, k13 };

struct TlsSettings {
  // Absolute paths.
  std::string certificate;
  std::string key;
  std::string client_ca;
  // Nothing: the administrator wrote crl = "none".
  std::optional<std::string> crl;
  // crl_expired = "warn": go on with what an outdated list says.
  bool accept_expired_crl = false;
  TlsVersion min_version = TlsVersion::k12;
  // Only 256-bit cipher suites.
  bool strength_256 = false;
};

struct NetworkSettings {
  // The pools; host bits are clear. At least one of the two. The first address of each is ours.
  std::optional<Prefix> ipv4;
  std::optional<Prefix> ipv6;
  std::vector<IpAddress> dns;
  // What clients send into the tunnel; empty: everything.
  std::vector<Prefix> routes;
};

struct SessionSettings {
  std::chrono::seconds dpd{15};
  std::chrono::seconds keepalive{20};
  // Zero: never.
  std::chrono::seconds idle_timeout{3600};
  // How old the keys of a connection may get before its client comes with new ones; zero: no limit
  // but the client's own.
  std::chrono::seconds rekey_time{24 * 3600};
  // How many records the keys of a stock client's TLS 1.3 connection may protect in one direction
  // before the client is made to come with new ones.
  uint64_t rekey_records = tunnel::kRecordsPerKey;
  // How long a session may last from its login on; zero: for ever.
  std::chrono::seconds max_lifetime{0};
  // How long a session without a connection can be taken up again.
  std::chrono::seconds cookie_timeout{300};
  uint32_t max_per_user = 2;
};

// What a certificate says about its user.
struct IdentityRules {
  enum class Source : uint8_t {
    kAttribute,  // of the subject
    kEmail,      // the first of the subject alternative names
    kPrincipalName,
  };
  Source source = Source::kAttribute;
  std::string attribute = "CN";  // its short name, in any case
  bool strip_domain = false;     // alice@example.com is alice
  // Where the group of a user without one of his own comes from; empty: nowhere.
  std::string group_attribute = "OU";
};

// What profiles made by `user add` tell the client.
struct ProfileSettings {
  std::string name;     // the name the client verifies: DNS name or IP address
  std::string address;  // where it connects: HOST or HOST:PORT, IPv6 in brackets
};

// The UDP channel (DTLS). Its port is the one that TCP listens on.
struct UdpSettings {
  bool enabled = true;
  bool gso = true;  // send several datagrams with one call, where the kernel can
  bool gro = true;  // and receive them
};

// "auto" is one for each processor that the server may use, but not more than this.
constexpr uint32_t kMostWorkers = 64;

struct LogSettings {
  log::Level level = log::Level::kInfo;
  log::Format format = log::Format::kText;
};

struct ServerConfig {
  std::string file;  // absolute path of the configuration file
  std::string dir;   // its folder; no trailing slash

  // Who the server runs as once it has opened what needs privilege (only when started as root).
  std::string user{kServiceUser};
  UnknownUsers unknown_users = UnknownUsers::kAllow;
  Endpoint listen;
  UdpSettings udp;
  uint32_t workers = 0;                   // data threads; 0: "auto"
  bool tun_offloads = true;               // superpackets, where the kernel has them
  bool tun_steering = true;               // packets come out where their session lives
  std::string tun_device = "culvertd%d";  // as tun/tap take it; %d becomes a free number
  TlsSettings tls;
  NetworkSettings network;
  SessionSettings session;
  IdentityRules identity;
  ProfileSettings profile;
  LogSettings log;

  [[nodiscard]] std::string users_dir() const { return dir + "/users"; }
};

// Reads and checks a configuration file. Errors are kUsage (kPermission if it may not be read) and
// name file, line and key. Relative paths in it are taken from the file's folder.
[[nodiscard]] Result<ServerConfig> load_config(const std::string& path);

// The same for a text. `path` is where the text is taken to come from; it should be absolute.
[[nodiscard]] Result<ServerConfig> parse_config(std::string_view text, const std::string& path);

// Success if clients can be given addresses of this network: the family, the size (IPv4 /8 to /30,
// IPv6 /32 to /126), no host bits, unicast.
[[nodiscard]] Status check_pool(const Prefix& pool, Family family);

// HOST, HOST:PORT, ADDRESS, ADDRESS:PORT or [ADDRESS6]:PORT, where [ADDRESS6] and a bare ADDRESS6
// are taken as well.
struct HostPort {
  std::string host;  // no brackets
  std::optional<uint16_t> port;

  static Result<HostPort> parse(std::string_view text);
  // In brackets if it is an IPv6 address; the port only if it isn't the default.
  [[nodiscard]] std::string to_string() const;
};

// A host name as certificates and resolvers take it: labels of letters, digits, - and _, at most
// 253 characters.
[[nodiscard]] bool is_host_name(std::string_view text);

}  // namespace culvert::server
