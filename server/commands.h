// What culvertd can be told to do: one option struct and one function per command. The functions
// print what they did and what to do next on `out`, and return what went wrong; parsing the command
// line is cli.h's business, and printing errors main's.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/base/result.h"

namespace culvert::server {

// Where everything is. Paths as the user wrote them.
struct Place {
  std::string dir;     // --dir; empty: /etc/culvert
  std::string config;  // -c; empty: culvertd.toml in dir
  std::string socket;  // --socket; empty: from the environment, or /run/culvert/culvertd.sock

  [[nodiscard]] std::string config_file() const;  // absolute
  [[nodiscard]] std::string control_socket() const;
};

struct InitOptions {
  std::string name;
  std::string dir;
  std::string ipv4 = "10.99.0.0/24";  // or "none"
  std::string ipv6 = "fd99::/64";     // or "none"
  std::string listen = "[::]:443";
  std::string address;  // empty: from listen and name
};

struct UserAddOptions {
  Place place;
  std::string name;
  std::string group;
  unsigned days = 0;  // 0: the default
  std::vector<std::string> networks;
  std::vector<std::string> addresses;
  std::string profile;
};

struct UserListOptions {
  Place place;
  bool json = false;
};

struct UserRevokeOptions {
  Place place;
  std::string name;
};

struct UserRenewOptions {
  Place place;
  std::string name;
  unsigned days = 0;  // 0: the default
  bool revoke_old = false;
  std::string profile;
};

struct UserShowOptions {
  Place place;
  std::string name;
  bool json = false;
};

struct PkiInitOptions {
  Place place;
  std::string name = "Culvert CA";
};

struct PkiIssueOptions {
  Place place;
  std::string name;
  std::string group;
  unsigned days = 0;  // 0: the default
  bool server = false;
  std::vector<std::string> hosts;  // names and addresses of a server
  std::string out;
};

struct PkiRevokeOptions {
  Place place;
  std::string what;  // a name, or a serial number in hexadecimal
};

struct PkiCrlOptions {
  Place place;
  bool json = false;
};

struct ExportOptions {
  Place place;
  std::string name;
  std::string out;
};

struct CheckOptions {
  Place place;
  bool json = false;
};

struct RunCommandOptions {
  Place place;
  std::optional<log::Level> level;
  std::optional<log::Format> format;
};

// status, sessions, disconnect and reload: a question to the running server.
struct LiveOptions {
  Place place;
  bool json = false;
  std::string who;  // disconnect: user name or session id
};

[[nodiscard]] Status init_command(const InitOptions& options, std::ostream& out);
[[nodiscard]] Status user_add_command(const UserAddOptions& options, std::ostream& out);
[[nodiscard]] Status user_list_command(const UserListOptions& options, std::ostream& out);
[[nodiscard]] Status user_revoke_command(const UserRevokeOptions& options, std::ostream& out);
[[nodiscard]] Status user_renew_command(const UserRenewOptions& options, std::ostream& out);
[[nodiscard]] Status user_show_command(const UserShowOptions& options, std::ostream& out);
[[nodiscard]] Status pki_init_command(const PkiInitOptions& options, std::ostream& out);
[[nodiscard]] Status pki_issue_command(const PkiIssueOptions& options, std::ostream& out);
[[nodiscard]] Status pki_revoke_command(const PkiRevokeOptions& options, std::ostream& out);
[[nodiscard]] Status pki_crl_command(const PkiCrlOptions& options, std::ostream& out);
[[nodiscard]] Status export_command(const ExportOptions& options, std::ostream& out);
[[nodiscard]] Status check_command(const CheckOptions& options, std::ostream& out);
[[nodiscard]] Status run_command(const RunCommandOptions& options);
[[nodiscard]] Status status_command(const LiveOptions& options, std::ostream& out);
[[nodiscard]] Status sessions_command(const LiveOptions& options, std::ostream& out);
[[nodiscard]] Status disconnect_command(const LiveOptions& options, std::ostream& out);
[[nodiscard]] Status reload_command(const LiveOptions& options, std::ostream& out);

}  // namespace culvert::server
