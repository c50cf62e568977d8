// LoginConnection: one TCP connection from its first byte to the 200 of its CONNECT, when it is
// handed to the data thread, or to its refusal. Lives on the login thread.
//
//   kHandshake ─► judged ─► kHttp ◄──► kAsking ─► kHandOver ─► (data thread)
//                    │        └───────────┴─────► kFarewell ─► closed
//                    └─► kTurnedAway ─────────────────▲
//
// The certificate is judged directly after the handshake. Who is refused gets one canned answer
// and stays outside: no parser ever sees what he sent.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/address.h"
#include "common/base/unique_fd.h"
#include "common/loop/loop.h"
#include "common/loop/poll.h"
#include "common/loop/timer.h"
#include "common/tls/tls_session.h"
#include "common/wire/http_exchange.h"
#include "server/gate.h"

namespace culvert::server {

class LoginConnection;

// What a connection needs of the thread it lives on. Outlives the connections.
class LoginHost {
 public:
  virtual ~LoginHost() = default;
  virtual Gate& gate() = 0;
  // The newest; connections begun under an older one are judged again before they get anything.
  virtual const std::shared_ptr<const tls::TlsConfig>& tls_config() = 0;
  // kMaxRecord bytes for use within one call.
  virtual MutableBytes scratch() = 0;
  // Somebody was turned away before the control thread heard of him.
  virtual void on_refused(const Endpoint& remote, const Refusal& refusal,
                          const std::optional<tls::CertificateInfo>& certificate) = 0;
  // The certificate was accepted.
  virtual void on_proven(LoginConnection& connection) = 0;
  // It is over here; the host gives up its reference.
  virtual void on_closed(LoginConnection& connection) = 0;
};

class LoginConnection : public std::enable_shared_from_this<LoginConnection> {
 public:
  struct Limits {
    Duration handshake = std::chrono::seconds(10);  // from accept() to the judgement
    Duration login = std::chrono::seconds(60);      // from there to the hand-over
    Duration farewell = std::chrono::seconds(2);    // for the answer to a refusal to arrive
    size_t farewell_bytes = 64 * 1024;              // of input that is thrown away meanwhile
    unsigned requests = 16;                         // on one connection
  };

  LoginConnection(loop::Loop& loop, LoginHost& host, UniqueFd socket, const Endpoint& remote,
                  std::unique_ptr<tls::TlsSession> tls, const Limits& limits);
  ~LoginConnection();
  Status start();
  // Drops the connection without a word; on_closed() follows at once.
  void close();

  [[nodiscard]] const Endpoint& remote() const { return remote_; }
  [[nodiscard]] bool proven() const { return peer_.has_value(); }

 private:
  enum class Phase { kHandshake, kTurnedAway, kHttp, kAsking, kHandOver, kFarewell, kClosed };

  void on_ready(unsigned ready, int error);
  void on_deadline();
  void receive();
  void discard();
  void advance();
  void shake_hands();
  void judge();
  void read_first_bytes();
  void read_requests();
  void take_bytes(Bytes plain);
  // Says why in the log, and no more than the status to the client.
  void refuse_request(const std::string& why, const wire::HttpResponse& response);
  void handle(const wire::HttpRequest& request);
  [[nodiscard]] bool still_accepted();
  void ask_login(const wire::HttpRequest& request);
  void ask_connect(const wire::HttpRequest& request);
  void on_login_answer(Answer<LoginGrant> answer);
  void on_connect_answer(Answer<ConnectGrant> answer);
  void hand_over();
  [[nodiscard]] bool drain_into_leftover();

  void turn_away(Refusal refusal);
  void respond(const wire::HttpResponse& response);
  void say_farewell(const wire::HttpResponse& response);
  void begin_farewell();
  void flush();
  void update_interest();
  [[nodiscard]] uint16_t path_mtu() const;

  LoginHost& host_;
  const Endpoint remote_;
  const Limits limits_;
  UniqueFd socket_;
  std::unique_ptr<tls::TlsSession> tls_;
  loop::Poll poll_;
  loop::Timer deadline_;
  Phase phase_ = Phase::kHandshake;
  std::vector<std::byte> input_;  // ciphertext that tls_ borrows

  Refusal refusal_;    // while kTurnedAway
  std::string first_;  // likewise: the first bytes of what was sent
  std::optional<ProvenPeer> peer_;
  std::shared_ptr<const tls::TlsConfig> judged_by_;
  wire::HttpRequestReader reader_;
  unsigned requests_ = 0;
  std::optional<std::string> cookie_;  // a repeated login gets the same session
  wire::ConnectOffer offer_;
  std::optional<Attachment> granted_;  // owed to the gate: attach() or abandon()
  std::vector<std::byte> leftover_;    // decrypted bytes after the CONNECT request
  bool shut_down_ = false;             // our sending side
  size_t discarded_ = 0;
};

}  // namespace culvert::server
