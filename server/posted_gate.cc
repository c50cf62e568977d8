#include "server/posted_gate.h"

#include <utility>

namespace culvert::server {
namespace {

// Calls `done` with the answer on the login thread.
template <typename T>
void reply(LoginThread& login, UniqueFunction<void(Answer<T>)> done, Answer<T> answer) {
  login.post([d = std::move(done), a = std::move(answer)]() mutable { d(std::move(a)); });
}

}  // namespace

void PostedGate::login(ProvenPeer peer, std::string user_agent,
                       UniqueFunction<void(Answer<LoginGrant>)> done) {
  control_.post(
      [this, p = std::move(peer), agent = std::move(user_agent), d = std::move(done)]() mutable {
        reply(*login_, std::move(d), sessions_.login(std::move(p), std::move(agent)));
      });
}

void PostedGate::connect(ConnectRequest request, UniqueFunction<void(Answer<ConnectGrant>)> done) {
  control_.post([this, r = std::move(request), d = std::move(done)]() mutable {
    sessions_.connect(std::move(r), [this, d = std::move(d)](Answer<ConnectGrant> answer) mutable {
      reply(*login_, std::move(d), std::move(answer));
    });
  });
}

void PostedGate::attach(Connected connected) {
  control_.post([this, c = std::move(connected)]() mutable { sessions_.attach(std::move(c)); });
}

void PostedGate::abandon(Attachment attachment) {
  control_.post([this, attachment] { sessions_.abandon(attachment); });
}

void PostedGate::count_refusal(std::string_view reason) {
  control_.post([this, reason] { sessions_.count_refusal(reason); });
}

}  // namespace culvert::server
