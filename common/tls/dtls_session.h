// DtlsSession: one DTLS 1.2 association over memory, either role. No sockets, no threads, no clock:
// datagrams go in as spans, handshake datagrams come out of a small queue, and records are sealed
// and opened between buffers of the caller. It knows nothing of addresses either.
//
// May be handed to another thread between calls, but is used by one at a time. seal() and open()
// allocate nothing once the first record from the peer was opened.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/base/secret.h"
#include "common/tls/dtls_config.h"
#include "common/tls/dtls_hello.h"

namespace culvert::tls {

struct DtlsSessionOptions {
  // 32 bytes, exported from the TLS connection of CONNECT (kDtlsPskLabel).
  Secret psk;
  // Client: sent as the ClientHello's session ID. Server: the ClientHello must show it.
  AppId app_id{};
  // Server whose configuration has a cookie key: the client's address as it was given to the
  // DtlsCookieResponder. At most 255 bytes.
  std::vector<std::byte> transport_id;
  // What the peer is to put into its records: as long as the configuration's cid_size; empty if
  // that is 0 or nothing. A server's must be unique and hard to guess among those it has given out.
  std::vector<std::byte> own_cid;
  // The largest UDP payload that may be sent, in the handshake and after; 0: no limit. From 256.
  uint16_t mtu = 1200;
};

// RFC 5705 label of the key (openconnect-protocol: X-DTLS-CipherSuite PSK-NEGOTIATE); no context.
constexpr std::string_view kDtlsPskLabel = "EXPORTER-openconnect-psk";
constexpr size_t kDtlsPskSize = 32;

class DtlsSession {
 public:
  // The most that a record adds to its plaintext: header, connection ID, content type, explicit
  // nonce and tag.
  static constexpr size_t kMaxExpansion = 13 + 32 + 1 + 8 + 16;

  enum class Handshake : uint8_t {
    kDone,
    kWaiting,  // for a datagram, or for deadline()
    kFailed,   // see error(); its output is still worth sending
  };
  enum class Opened : uint8_t {
    kOk,
    kNothing,  // not for the caller: forged, replayed, from an old epoch, or a handshake remnant
    kClosed,   // the peer ended the association (close_notify); nothing follows
    kFailed,   // see error()
  };
  struct OpenResult {
    Opened what;
    // kOk: the record is newer than every one before it. Only then may a new source address of its
    // datagram become the peer's address (RFC 9146 section 6).
    bool newest;
    // kOk: in the datagram, or in `out`. The 13 bytes before it in a datagram (the record's header;
    // some ciphers have a nonce behind it) are the caller's to overwrite.
    MutableBytes plaintext{};
  };

  // kUsage for a key or connection ID of the wrong length or an MTU that is too small.
  static Result<std::unique_ptr<DtlsSession>> create(std::shared_ptr<const DtlsConfig> config,
                                                     DtlsSessionOptions options);
  DtlsSession(const DtlsSession&) = delete;
  DtlsSession& operator=(const DtlsSession&) = delete;
  ~DtlsSession();

  // --- The handshake.

  // Goes on with the handshake: a client begins it with a call without a datagram. The datagram is
  // used up when the call returns; once the handshake is done, datagrams go to open(). A server
  // ignores everything before a ClientHello with its App-ID and, if the configuration wants one, a
  // cookie of ours (its age is the responder's business). After every call: send what is in the
  // output, and note the deadline.
  Handshake handshake(TimePoint now, Bytes datagram = {});
  // When to call on_timeout(); nothing: no timer runs.
  [[nodiscard]] std::optional<TimePoint> deadline() const;
  // Repeats lost messages. Does nothing before the deadline. kFailed once the peer has been given
  // up.
  Handshake on_timeout(TimePoint now);
  [[nodiscard]] bool handshake_done() const;

  // The next datagram to send, on its own; empty: none. Valid until the next call that is not
  // const.
  [[nodiscard]] Bytes output() const;
  // The datagram was sent (or could not be: that is a lost datagram).
  void pop_output();

  // --- Data. REQUIRES for all: handshake_done().

  // Seals `plaintext` as one record into `out` and returns its size, which is
  // plaintext.size() + expansion(). 0 if the record does not fit into `out`, if the plaintext is
  // empty or exceeds max_plaintext(), or if the session has failed.
  // REQUIRES: `plaintext` and `out` don't overlap.
  size_t seal(Bytes plaintext, MutableBytes out);

  // Opens a datagram's (first) record of application data: where it lies, or into `out` what has to
  // take the longer way through mbedTLS's buffer. Either way the datagram is used up. It carries
  // one record in this protocol; while more() says that this one has more, call again with an empty
  // datagram before the next (after the last step of the handshake, too). May leave something in
  // output(): a last message of the handshake that got lost is repeated.
  // REQUIRES: `out` has room for as many bytes as the datagram has; else kNothing.
  OpenResult open(MutableBytes datagram, MutableBytes out);
  [[nodiscard]] bool more() const;

  // Queues a close_notify alert. Harmless before or after anything.
  void close_notify();

  // The largest UDP payload from now on; 0: no limit. At any time.
  void set_mtu(uint16_t mtu);
  // What a record adds to its plaintext in our sending direction.
  [[nodiscard]] size_t expansion() const;
  // What fits into one record under the MTU.
  [[nodiscard]] size_t max_plaintext() const;

  // --- What it is like.

  // After a failure: kAuthRefused if the peer has another key, kNetwork if it does not answer.
  [[nodiscard]] const Error& error() const;
  // "TLS-PSK-WITH-AES-128-GCM-SHA256"; empty before the handshake is over.
  [[nodiscard]] std::string_view cipher() const;
  // What we put into our records; empty if nothing was negotiated.
  [[nodiscard]] Bytes peer_cid() const;
  // What the peer puts into its records; empty if nothing was negotiated. Then it is own_cid.
  [[nodiscard]] Bytes own_cid() const;
  // Records of application data and the blocks of the cipher that they took, for the key's
  // lifetime. Each direction has its own key.
  [[nodiscard]] uint64_t records_sent() const;
  [[nodiscard]] uint64_t records_received() const;
  [[nodiscard]] uint64_t blocks_sent() const;
  [[nodiscard]] uint64_t blocks_received() const;

 private:
  struct Impl;
  explicit DtlsSession(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culvert::tls
