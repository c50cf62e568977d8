// The revocation lists of a configuration, checked and indexed when it is built: a handshake then
// costs a hash lookup instead of a signature check and a walk through the list. And a CA without a
// list is noticed, which mbedTLS lets pass in silence. For the .cc files of this folder only.
#pragma once

#include <mbedtls/x509_crt.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/tls/certificate.h"

namespace culvert::tls {

class RevocationLists {
 public:
  // kUsage if a list cannot be read, or is signed by none of the trusted CAs or by one that may not
  // sign lists. An empty `pem` gives no lists. Neither argument is kept.
  static Result<RevocationLists> build(std::string_view pem, const mbedtls_x509_crt* trusted,
                                       const mbedtls_x509_crt_profile& profile);

  enum class Answer : uint8_t {
    kGood,
    kRevoked,
    kNoList,
    kListExpired,  // past its nextUpdate; the certificate is not on it
    kListNotYetValid,
  };
  [[nodiscard]] Answer ask(const mbedtls_x509_crt& certificate, const mbedtls_x509_crt& issuer,
                           WallTime now) const;

  // One for each CA: the most recent.
  [[nodiscard]] std::vector<CrlInfo> infos() const;

 private:
  struct List {
    CrlInfo info;
    std::unordered_set<std::string> serials;  // big endian, as in the certificates
  };
  // By the CA's name and key: a CA that was replaced under the same name is another one.
  std::map<Sha256, List> by_ca_;
};

}  // namespace culvert::tls
