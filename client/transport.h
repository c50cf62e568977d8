// Transport: one TCP connection to the server with TLS in it, as long as HTTP is spoken on it. When
// the tunnel begins, release() hands socket and TLS session over. Retries, timeouts and meanings
// are decided elsewhere.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/address.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/loop/loop.h"
#include "common/loop/poll.h"
#include "common/tls/tls_session.h"
#include "common/wire/http_exchange.h"

namespace culvert::client {

class Transport {
 public:
  // All calls come from the loop, never from inside a call of Transport's. Each may destroy it.
  class Observer {
   public:
    virtual ~Observer() = default;
    virtual void on_connected() = 0;
    virtual void on_secured() = 0;
    virtual void on_response(wire::HttpResponse response) = 0;
    // The last call. unanswered: the connection ended after the handshake without a byte of an
    // answer, which is how some servers refuse a certificate.
    virtual void on_transport_failed(const Error& error, bool unanswered) = 0;
  };

  // Both must outlive the transport.
  Transport(loop::Loop& loop, Observer& observer);
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  // Starts connecting with `socket`, a non-blocking one for TCP of the endpoint's family. An error:
  // nothing was started. REQUIRES: called once.
  Status connect(const Endpoint& endpoint, UniqueFd socket);
  // The same with a socket that is connecting, or connected, already; on_connected() follows.
  Status take_over(const Endpoint& endpoint, UniqueFd socket);
  // Starts the handshake. REQUIRES: on_connected() was called; called once.
  Status secure(std::shared_ptr<const tls::TlsConfig> config, const std::string& server_name);
  // Sends a request. REQUIRES: on_secured() was called, no answer is awaited.
  Status exchange(const wire::HttpRequest& request, wire::HttpResponseReader::Kind kind);

  // Path MTU to the peer as the kernel knows it.
  [[nodiscard]] std::optional<uint16_t> path_mtu() const;
  // REQUIRES: secure() succeeded and release() was not called.
  [[nodiscard]] const tls::TlsSession& tls() const { return *tls_; }

  struct Handover {
    UniqueFd socket;
    std::unique_ptr<tls::TlsSession> tls;  // everything fed has been read
    std::vector<std::byte> leftover;       // plaintext that followed the last response
  };
  // The transport is of no use afterwards. REQUIRES: the answer to CONNECT has come.
  [[nodiscard]] Handover release();

 private:
  enum class Phase { kIdle, kConnecting, kConnected, kHandshaking, kOpen, kFailed };

  void on_ready(unsigned ready, int error);
  void finish_connect();
  void receive(int pending_error);
  void progress_handshake();
  std::optional<Error> read_records();
  void read_response();
  void conclude(std::optional<Error> failure);
  bool flush();
  void fail_with(Error error);
  [[nodiscard]] Error unintelligible(const Error& error) const;
  Error closed();

  loop::Loop& loop_;
  Observer& observer_;
  UniqueFd socket_;
  loop::Poll poll_;
  Endpoint endpoint_;
  Phase phase_ = Phase::kIdle;
  std::unique_ptr<tls::TlsSession> tls_;
  std::optional<wire::HttpResponseReader> reader_;  // while an answer is awaited
  bool at_eof_ = false;
  bool answered_ = false;  // a byte of an HTTP answer has come
  std::vector<std::byte> ciphertext_;
  std::vector<std::byte> plaintext_;
  std::vector<std::byte> leftover_;
};

}  // namespace culvert::client
