// DtlsConfig: what all DTLS sessions of one role share. DTLS 1.2 with plain pre-shared keys that
// come from the TLS connection beside it (no certificates, tickets, resumption or renegotiation),
// AEAD suites only, replay protection on. Frozen by build(); a reload builds a new one and swaps
// the pointer, sessions keep theirs. May be shared between threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/tls/dtls_cookie.h"
#include "common/tls/tls_config.h"

namespace culvert::tls {

// The length of the connection IDs that our servers give out (RFC 9146).
constexpr size_t kServerCidSize = 8;

struct DtlsOptions {
  Role role = Role::kClient;
  // Leave out the suite with a 128-bit key.
  bool strength_256 = false;
  // Negotiate connection IDs (RFC 9146) if the peer can, and have it put one of this many bytes
  // into each record for us. 0: take the peer's and want none ourselves, which is right for a
  // client. A server wants kServerCidSize to find a client that has moved. Nothing: no connection
  // IDs.
  std::optional<size_t> cid_size;
  // Server: only ClientHellos with a cookie under this key begin a handshake. Without: any does,
  // and one with a cookie doesn't.
  std::shared_ptr<const DtlsCookieKey> cookie_key;
  // Lost handshake messages are repeated after the first, then after twice the time and so on up to
  // the last; then the handshake fails. These make 400 ms, 0.8, 1.6, 3.2 and 6.4 s: 12.4 s in all,
  // a little longer than stock clients wait. 1 ms to 1 h; whole milliseconds.
  Duration first_retransmission = std::chrono::milliseconds(400);
  Duration last_retransmission = std::chrono::milliseconds(6400);
  // The largest plaintext that sessions will send, if that is known for good to be at most 2048 or
  // 4096 bytes: each session then needs 14 KB or 12 KB less memory. 0: 16 KB. A client with a limit
  // asks the server to keep to it as well (RFC 6066 section 4).
  size_t largest_plaintext = 0;
};

class DtlsConfig {
 public:
  // kUsage if an option is out of its range.
  static Result<std::shared_ptr<const DtlsConfig>> build(DtlsOptions options);

  DtlsConfig(const DtlsConfig&) = delete;
  DtlsConfig& operator=(const DtlsConfig&) = delete;
  ~DtlsConfig();

  [[nodiscard]] const DtlsOptions& options() const;

  // What the other files of this folder see.
  struct Impl;
  [[nodiscard]] const Impl& impl() const { return *impl_; }

 private:
  explicit DtlsConfig(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culvert::tls
