// Gate: what the login thread asks the control thread, as plain values. The login thread proves who
// somebody is; whether and as what he may come in is decided behind this interface.
// Also the words for refusals, which logs, counters and clients share.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/address.h"
#include "common/base/result.h"
#include "common/base/strong.h"
#include "common/base/unique_function.h"
#include "common/tls/certificate.h"
#include "common/wire/connect_headers.h"
#include "common/wire/tunnel_params.h"
#include "server/data_plane.h"

namespace culvert::server {

// A peer whose certificate was accepted.
struct ProvenPeer {
  tls::CertificateInfo certificate;
  std::vector<std::vector<std::byte>> chain;  // DER, leaf first: judged again after a reload
  Endpoint remote;
};

// Why somebody does not get in. `reason` is a stable word for logs and counters ("revoked",
// "unknown_user", …); `text` is one sentence that the client is told as well.
struct Refusal {
  std::string_view reason;  // of static storage
  std::string text;
  // True: the credential is of no use any more, log in again (401). False: try again later (503).
  bool final = true;
};

template <typename T>
struct Answer {
  std::optional<T> grant;
  Refusal refusal{};  // of meaning without a grant

  static Answer yes(T value) { return {.grant = std::move(value)}; }
  static Answer no(Refusal refusal) {
    return {.grant = std::nullopt, .refusal = std::move(refusal)};
  }
};

struct LoginGrant {
  SessionId id;
  std::string cookie;  // hex; whoever shows it with the same key gets the session: never log it
};

struct ConnectRequest {
  ProvenPeer peer;
  wire::ConnectOffer offer;
  uint16_t path_mtu = 0;  // of the TCP connection, as the kernel knows it; 0: unknown
  std::string tls_version, cipher;
};

// One grant of one session to one connection. A later CONNECT with the same cookie makes a new one,
// and the old one is worth nothing any more.
struct Attachment {
  SessionId id;
  uint64_t number = 0;
};

struct ConnectGrant {
  Attachment attachment;
  wire::TunnelParams params;
};

// A connection that has answered CONNECT with 200 and now carries frames.
struct Connected {
  Attachment attachment;
  UniqueFd socket;
  std::unique_ptr<tls::TlsSession> tls;
  std::vector<std::byte> leftover;  // decrypted bytes that followed the CONNECT request
};

// Called on the login thread; `done` is called there as well, later, at most once (never if the
// server stops meanwhile).
class Gate {
 public:
  virtual ~Gate() = default;
  virtual void login(ProvenPeer peer, std::string user_agent,
                     UniqueFunction<void(Answer<LoginGrant>)> done) = 0;
  // Every grant is followed by attach() or abandon().
  virtual void connect(ConnectRequest request, UniqueFunction<void(Answer<ConnectGrant>)> done) = 0;
  virtual void attach(Connected connected) = 0;
  virtual void abandon(Attachment attachment) = 0;
  // Somebody was turned away before the control thread was asked. For the counters.
  virtual void count_refusal(std::string_view reason) = 0;
};

}  // namespace culvert::server
