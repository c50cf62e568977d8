// PostedGate: Gate by messages. Questions of the login thread travel to the control thread's loop,
// answers back to the login thread's.
#pragma once

#include "common/loop/loop.h"
#include "server/gate.h"
#include "server/login.h"
#include "server/session_manager.h"

namespace culvert::server {

class PostedGate final : public Gate {
 public:
  // Both must outlive the gate.
  PostedGate(loop::Loop& control, SessionManager& sessions)
      : control_(control), sessions_(sessions) {}
  // Where answers go. Before the login thread starts; it must outlive the control loop's last turn.
  void set_login(LoginThread& login) { login_ = &login; }

  void login(ProvenPeer peer, std::string user_agent,
             UniqueFunction<void(Answer<LoginGrant>)> done) override;
  void connect(ConnectRequest request, UniqueFunction<void(Answer<ConnectGrant>)> done) override;
  void attach(Connected connected) override;
  void abandon(Attachment attachment) override;
  void count_refusal(std::string_view reason) override;

 private:
  loop::Loop& control_;
  SessionManager& sessions_;
  LoginThread* login_ = nullptr;
};

}  // namespace culvert::server
