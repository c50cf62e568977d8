// The small certificate authority that `culvertd init` makes, as files in the configuration folder:
//
//   ca.crt ca.key ca.crl      the CA, its key (root alone may read it), its revocation list
//   server.crt server.key     what the server shows
//   issued/NAME/SERIAL.crt    every client certificate ever issued, and
//   issued/NAME/SERIAL.key    its key (root alone)
//
// All files 0600. Nothing is overwritten but ca.crl, and that atomically. The store knows names,
// files and dates; the cryptography is common/tls, and who may log in is not decided here.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/address.h"
#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/base/secret.h"
#include "common/base/unique_fd.h"
#include "common/tls/certificate.h"

namespace culvert::server {

inline constexpr std::string_view kCaCertificateFile = "ca.crt";
inline constexpr std::string_view kCaKeyFile = "ca.key";
inline constexpr std::string_view kCrlFile = "ca.crl";
inline constexpr std::string_view kServerCertificateFile = "server.crt";
inline constexpr std::string_view kServerKeyFile = "server.key";
inline constexpr std::string_view kIssuedFolder = "issued";

inline constexpr unsigned kCaDays = 20 * 365;
inline constexpr unsigned kServerDays = 10 * 365;
inline constexpr unsigned kUserDays = 2 * 365;

// What a new server certificate is for: the name users know and the addresses they may use instead.
struct ServerNames {
  std::string common_name;
  std::vector<std::string> dns_names;
  std::vector<IpAddress> ip_addresses;

  // A host name or an address, once.
  void add(std::string_view host);
};

// A CA with an empty revocation list and the server's certificate, in memory.
struct NewPki {
  std::string ca_certificate;
  Secret ca_key;
  std::string crl;
  std::string server_certificate;
  Secret server_key;
};
[[nodiscard]] Result<NewPki> make_pki(const ServerNames& names, WallTime now);
// The CA and its list alone.
[[nodiscard]] Result<NewPki> make_ca(const std::string& name, WallTime now);

// What is to be issued.
struct IssueOrder {
  std::string name;   // the common name, and the folder in issued/
  std::string group;  // the organizational unit; may be empty
  unsigned days = kUserDays;
  std::optional<ServerNames> server;  // a server's certificate, for these names
};

enum class CertificateState { kValid, kExpired, kRevoked };

struct IssuedCertificate {
  std::string user;
  tls::CertificateInfo info;
  CertificateState state = CertificateState::kValid;
  std::string certificate_file;
  std::string key_file;
};

struct UserCredentials {
  IssuedCertificate record;
  std::string certificate_pem;
  Secret key_pem;
};

class PkiStore {
 public:
  // Opens the CA in `dir`. kUsage, with a hint, if there is none.
  [[nodiscard]] static Result<PkiStore> open(const std::string& dir);

  [[nodiscard]] const std::string& dir() const { return dir_; }
  [[nodiscard]] const std::string& ca_certificate_pem() const { return ca_pem_; }
  [[nodiscard]] const tls::CertificateInfo& ca() const { return ca_; }
  [[nodiscard]] std::string crl_file() const { return dir_ + "/" + std::string(kCrlFile); }

  // Waits until no other command works on this folder and keeps others out while the store lives.
  // Call before looking, if what is seen decides about a change.
  [[nodiscard]] Status lock();

  // All certificates of a user, the newest last; of everybody if `user` is empty, by name.
  [[nodiscard]] Result<std::vector<IssuedCertificate>> certificates(std::string_view user,
                                                                    WallTime now) const;

  // The same without those that are for servers alone.
  [[nodiscard]] Result<std::vector<IssuedCertificate>> client_certificates(std::string_view user,
                                                                           WallTime now) const;

  // A new key and certificate, kept in issued/. REQUIRES: is_user_name(order.name), days > 0.
  [[nodiscard]] Result<UserCredentials> issue(const IssueOrder& order, WallTime now) const;
  // Takes back what issue() wrote, for a command that fails later on. Ignores errors.
  void discard(const IssuedCertificate& record) const;

  // Puts every client certificate of the user that is valid at `now` on the revocation list, which
  // is replaced atomically and keeps its owner and mode. Gives what was put on it; nothing to
  // revoke is a success and leaves the list alone.
  [[nodiscard]] Result<std::vector<IssuedCertificate>> revoke(std::string_view user, WallTime now);
  // The same for the certificates given; those that are not valid are left out.
  [[nodiscard]] Result<std::vector<IssuedCertificate>> revoke(
      std::vector<IssuedCertificate> certificates, WallTime now);
  // The list anew, as it is, with the next number. Gives what it says.
  [[nodiscard]] Result<tls::CrlInfo> renew_crl(WallTime now);

  // The newest valid certificate of the user and its key. The error says if there never was one,
  // or if it is expired or revoked.
  [[nodiscard]] Result<UserCredentials> credentials(std::string_view user, WallTime now) const;

 private:
  PkiStore(std::string dir, std::string ca_pem, tls::CertificateInfo ca);
  [[nodiscard]] Result<Secret> ca_key() const;
  [[nodiscard]] Result<tls::CrlInfo> read_crl() const;
  [[nodiscard]] Status write_crl(const tls::CrlInfo& crl, WallTime now) const;
  [[nodiscard]] std::string issued_dir(std::string_view user) const;
  [[nodiscard]] Status read_folder(const std::string& user, const tls::CrlInfo& crl, WallTime now,
                                   std::vector<IssuedCertificate>& out) const;

  std::string dir_;
  std::string ca_pem_;
  tls::CertificateInfo ca_;
  UniqueFd lock_;
};

// "valid", "expired", "revoked".
[[nodiscard]] std::string_view name_of(CertificateState state);

}  // namespace culvert::server
