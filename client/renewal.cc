#include "client/renewal.h"

#include <utility>

#include "client/login.h"

namespace culvert::client {

Status check_mutual(const tls::TlsSession& session, const Endpoint& server) {
  if (session.certificate_requested()) return {};
  return fail(ErrorCode::kAuthRefused, "the server did not ask for our certificate",
              server.to_string(), "this client insists on certificates on both sides");
}

Renewal::Renewal(loop::Loop& loop, const Profile& profile,
                 std::shared_ptr<const tls::TlsConfig> tls, Request request, Observer& observer)
    : profile_(profile),
      tls_(std::move(tls)),
      request_(std::move(request)),
      observer_(observer),
      transport_(loop, *this) {}

Status Renewal::start(UniqueFd socket) {
  return transport_.connect(request_.endpoint, std::move(socket));
}

void Renewal::fail_if_error(const Status& status) {
  if (!status) observer_.on_renewal_failed(status.error(), false);
}

void Renewal::on_connected() {
  fail_if_error(transport_.secure(tls_, profile_.server_name));
}

void Renewal::on_secured() {
  if (const Status mutual = check_mutual(transport_.tls(), request_.endpoint); !mutual) {
    return fail_if_error(mutual);
  }
  const AttachOffer offer{.cookie = request_.cookie,
                          .base_mtu = transport_.path_mtu(),
                          .mtu = profile_.mtu,
                          .previous = request_.previous,
                          .udp = profile_.udp,
                          .attach = request_.mode};
  fail_if_error(transport_.exchange(attach_request(profile_, offer),
                                    wire::HttpResponseReader::Kind::kConnect));
}

void Renewal::on_response(wire::HttpResponse response) {
  auto params = judge_attach(response);
  if (!params) {
    const bool refused = params.error().code == ErrorCode::kAuthRefused;
    return observer_.on_renewal_failed(params.error(), refused);
  }
  // Another word than the one that was asked for is none.
  if (params->attach != request_.mode) params->attach = wire::AttachMode::kNone;
  observer_.on_renewed(std::move(*params), transport_.release());
}

void Renewal::on_transport_failed(const Error& error, bool /*unanswered*/) {
  observer_.on_renewal_failed(error, false);
}

}  // namespace culvert::client
