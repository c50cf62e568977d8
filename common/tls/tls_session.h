// TlsSession: one TLS connection over memory. No sockets, no threads, no clock: bytes from the
// network go in with feed(), bytes for the network are taken with pending_output().
//
// May be handed to another thread between calls, but is used by one at a time. After warm-up,
// feed, read, write and consume_output allocate nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/tls/peer_policy.h"
#include "common/tls/tls_config.h"

namespace culvert::tls {

class TlsSession {
 public:
  // The most that one record of a peer carries: the room to offer to read().
  static constexpr size_t kMaxRecord = 16384;
  // The most that one record of ours carries (in TLS 1.3 mbedTLS counts the content type byte).
  static constexpr size_t kMaxWrite = 16383;

  enum class Io : uint8_t {
    kOk,
    kWantRead,  // everything fed was consumed; more is needed
    kClosed,    // the peer ended the connection in order (close_notify), or feed_eof() and no data
    kFailed,    // see error(); the session is finished (its pending output is still worth sending)
  };
  struct ReadResult {
    Io io;
    size_t size;  // 0 unless kOk
  };

  // `server_name` (client only): the DNS name or IP literal that the server must prove. A DNS name
  // is also sent as SNI. kUsage for an empty or malformed one.
  static Result<std::unique_ptr<TlsSession>> create(std::shared_ptr<const TlsConfig> config,
                                                    std::string server_name = {});
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;
  ~TlsSession();

  // Bytes from the network. Borrowed until handshake() or read() has returned kWantRead (then all
  // of it was consumed), kClosed or kFailed.
  // REQUIRES: what was fed before has been consumed.
  void feed(Bytes from_network);
  // The network's end of file, after the last feed().
  void feed_eof();
  // The part of the last feed() that is not consumed yet.
  [[nodiscard]] Bytes unconsumed_input() const;

  // Goes on with the handshake. kOk: it is over. Look at pending_output() after every call,
  // whatever it returned. A server then asks judge_client(). A client's server has been judged:
  // one that is not trusted makes this fail with kUntrusted and server_verdict() explains.
  // In TLS 1.3 a client gets here before the server has judged its certificate: a refusal shows up
  // as kFailed with kAuthRefused in the first read().
  Io handshake();
  [[nodiscard]] bool handshake_done() const;

  // The payload of (the rest of) one record. Offer kMaxRecord bytes to get each record whole; a
  // smaller `out` gets the rest with the next call. REQUIRES: handshake_done(), out not empty.
  ReadResult read(MutableBytes out);

  // Seals `plaintext` as one record and appends it to the pending output; never partial. What is
  // longer than kMaxWrite, or than the maximum that a peer negotiated (RFC 6066), becomes several
  // records. REQUIRES: handshake_done(), at least one byte. kOk or kFailed.
  Io write(Bytes plaintext);

  // Ciphertext to send, contiguous; valid until the next call that is not const.
  [[nodiscard]] Bytes pending_output() const;
  // REQUIRES: size <= pending_output().size().
  void consume_output(size_t size);

  // Queues a close_notify alert. Harmless before or after anything.
  void close_notify();

  // RFC 5705 and RFC 8446 section 7.5, without context. Both sides get the same bytes.
  // REQUIRES: handshake_done().
  Status export_key(std::string_view label, MutableBytes out);

  // After kFailed: code, what happened, what to do.
  [[nodiscard]] const Error& error() const;
  // Client: how the server's certificate was judged; before that kNoCertificate.
  [[nodiscard]] const Verdict& server_verdict() const;
  // Client: the server asked for our certificate in the handshake. One that did not cannot have
  // authenticated us.
  [[nodiscard]] bool certificate_requested() const;

  // "TLSv1.3"; empty before the handshake is over.
  [[nodiscard]] std::string_view version() const;
  // "TLS1-3-AES-128-GCM-SHA256"; empty before the handshake is over.
  [[nodiscard]] std::string_view cipher() const;
  // Records with application data and the blocks of the cipher that they took (a record that is
  // read in parts counts a few more), for the key's lifetime. Each direction has its own key.
  [[nodiscard]] uint64_t records_sent() const;
  [[nodiscard]] uint64_t records_received() const;
  [[nodiscard]] uint64_t blocks_sent() const;
  [[nodiscard]] uint64_t blocks_received() const;
  // What the peer presented, leaf first; empty if nothing. A copy, for recheck().
  [[nodiscard]] std::vector<std::vector<std::byte>> peer_chain_der() const;
  [[nodiscard]] const std::string& server_name() const;
  [[nodiscard]] const TlsConfig& config() const;

 private:
  struct Impl;
  friend Verdict judge_client(const TlsSession& session);
  explicit TlsSession(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culvert::tls
