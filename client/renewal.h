// Renewal: another TLS connection to the server beside the one that is in use, up to the answer to
// its CONNECT with the cookie. What becomes of the two is decided elsewhere.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "client/profile.h"
#include "client/transport.h"
#include "common/base/address.h"
#include "common/base/result.h"
#include "common/loop/loop.h"
#include "common/tls/tls_config.h"
#include "common/wire/tunnel_params.h"

namespace culvert::client {

class Renewal final : private Transport::Observer {
 public:
  // Calls come from the loop; each is the last and may destroy the renewal.
  class Observer {
   public:
    virtual ~Observer() = default;
    // The server has taken the session over to the connection, as params.attach says: kNone, or
    // what it was asked for.
    virtual void on_renewed(wire::TunnelParams params, Transport::Handover handover) = 0;
    // cookie_refused: the session is over, as far as the server is concerned.
    virtual void on_renewal_failed(const Error& error, bool cookie_refused) = 0;
  };

  struct Request {
    Endpoint endpoint;
    std::string cookie;
    wire::AttachMode mode = wire::AttachMode::kNone;
    std::vector<IpAddress> previous;  // inside
  };

  // Everything referred to must outlive the renewal.
  Renewal(loop::Loop& loop, const Profile& profile, std::shared_ptr<const tls::TlsConfig> tls,
          Request request, Observer& observer);

  // `socket` as in Transport::connect(). An error: nothing was started.
  Status start(UniqueFd socket);
  [[nodiscard]] wire::AttachMode mode() const { return request_.mode; }

 private:
  void on_connected() override;
  void on_secured() override;
  void on_response(wire::HttpResponse response) override;
  void on_transport_failed(const Error& error, bool unanswered) override;
  void fail_if_error(const Status& status);

  const Profile& profile_;
  std::shared_ptr<const tls::TlsConfig> tls_;
  Request request_;
  Observer& observer_;
  Transport transport_;
};

// The server must have asked for our certificate: one that did not cannot have authenticated us.
// REQUIRES: the handshake of a client is over.
[[nodiscard]] Status check_mutual(const tls::TlsSession& session, const Endpoint& server);

}  // namespace culvert::client
