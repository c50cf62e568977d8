// The stateless half of a DTLS server (RFC 6347 section 4.2.1): a ClientHello is answered with a
// HelloVerifyRequest, and only one that comes back with the cookie from it gets a DtlsSession. The
// cookie is a time and a MAC over it, the client's address and what may not change between the two
// ClientHellos: nothing is remembered, and nobody can make us send to, or keep state for, an
// address that is not his.
#pragma once

#include <cstdint>
#include <memory>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/base/secret.h"
#include "common/tls/dtls_hello.h"

namespace culvert::tls {

constexpr size_t kCookieSize = 32;
// A record with a HelloVerifyRequest. The smallest ClientHello that parse_client_hello() takes is
// larger, so that an answer never amplifies.
constexpr size_t kHelloVerifyRequestSize = 13 + 12 + 3 + kCookieSize;

// The key of the MAC. Made once when the server starts and shared by every thread and every
// configuration that follows, so that a reload leaves handshakes alone. Immutable: no lock.
class DtlsCookieKey {
 public:
  static std::shared_ptr<const DtlsCookieKey> generate();
  // REQUIRES: 32 bytes. For servers that share an address, and for tests.
  explicit DtlsCookieKey(Secret key);

  [[nodiscard]] Bytes bytes() const { return key_.bytes(); }

 private:
  Secret key_;
};

// One for each thread: it keeps a MAC context that is rewritten for every cookie. Allocates nothing
// after construction.
class DtlsCookieResponder {
 public:
  // A cookie is good for this long, and for up to twice as long.
  static constexpr std::chrono::seconds kLifetime{30};

  // kFailure if the library cannot be set up (memory).
  static Result<std::unique_ptr<DtlsCookieResponder>> create(
      std::shared_ptr<const DtlsCookieKey> key);
  DtlsCookieResponder(const DtlsCookieResponder&) = delete;
  DtlsCookieResponder& operator=(const DtlsCookieResponder&) = delete;
  ~DtlsCookieResponder();

  // Has this ClientHello the cookie that we gave to this address for it, not too long ago?
  // `transport_id`: the client's address and port as bytes, in any form that is always the same.
  [[nodiscard]] bool proves_address(const ClientHello& hello, Bytes transport_id, TimePoint now);
  // The same without a look at the age.
  [[nodiscard]] bool is_ours(const ClientHello& hello, Bytes transport_id);

  // Writes the datagram with the HelloVerifyRequest that answers `hello`: the first
  // kHelloVerifyRequestSize bytes of `out` (returned). A ClientHello with a cookie that is not good
  // (any more) is answered as well: it is as if it had none.
  // REQUIRES: out has room for it.
  MutableBytes answer(const ClientHello& hello, Bytes transport_id, TimePoint now,
                      MutableBytes out);

 private:
  struct Impl;
  explicit DtlsCookieResponder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culvert::tls
