// The one judge of certificates: chain, dates, purpose, name, revocation, in; a verdict with its
// reason, out. mbedTLS checks signatures and dates; what it lets pass silently (a CA without a
// revocation list, a common name in place of an alternative name) is decided here.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/tls/certificate.h"
#include "common/tls/tls_config.h"

namespace culvert::tls {

class TlsSession;

enum class Reason : uint8_t {
  kAccepted,
  kNoCertificate,
  kUnknownCa,    // does not lead to a trusted CA, or is not signed by the one it names
  kExpired,      // the certificate or one above it
  kNotYetValid,  // likewise
  kRevoked,      // likewise
  kWrongPurpose,
  kWrongName,
  kCrlMissing,
  kCrlExpired,
  kWeakKey,    // key too short, or a signature algorithm that is no longer safe
  kMalformed,  // cannot be judged
};

// Stable, for logs and JSON: "unknown_ca".
[[nodiscard]] std::string_view name_of(Reason reason);

struct Verdict {
  Reason reason = Reason::kMalformed;
  // One sentence for the log and the user, safe to show: what was presented, what was expected.
  std::string text;
  std::optional<CertificateInfo> peer;  // what was presented, if anything
  [[nodiscard]] bool accepted() const { return reason == Reason::kAccepted; }
};

// Server: may this client come in? REQUIRES: role kServer and the handshake is over. The handshake
// itself lets every client through, so that a refusal can be explained: nothing that a client sent
// may be looked at before this says accepted().
[[nodiscard]] Verdict judge_client(const TlsSession& session);

// Would a peer with this chain (TlsSession::peer_chain_der()) be accepted by `current`, now? For
// live sessions after a reload; possession of the key was proven when they began. On the client
// side the name is not looked at.
[[nodiscard]] Verdict recheck(std::span<const std::vector<std::byte>> chain_der,
                              const TlsConfig& current);

// RFC 6125 with subject alternative names alone: an IP literal is looked for among the addresses,
// anything else among the DNS names, where "*" stands for exactly one whole leftmost label and the
// rest has at least two labels. Case and one trailing dot don't matter.
[[nodiscard]] bool matches_name(const CertificateInfo& info, std::string_view expected);

}  // namespace culvert::tls
