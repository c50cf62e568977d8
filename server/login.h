// The login thread: it owns the TCP listener and does the expensive and exposed part of every
// login (handshake, judgement, HTTP, XML, CONNECT), so that a flood of them stalls nobody who has a
// tunnel. What it may not decide it asks through Gate.
#pragma once

#include <list>
#include <memory>
#include <thread>
#include <vector>

#include "common/base/unique_fd.h"
#include "common/loop/loop.h"
#include "common/tls/tls_config.h"
#include "server/listener.h"
#include "server/login_connection.h"
#include "server/login_limits.h"

namespace culvert::server {

struct LoginOptions {
  LoginLimits::Options limits;
  LoginConnection::Limits connection;
};

// Everything that lives on the login thread, for one loop.
class LoginService final : public LoginHost {
 public:
  // `gate` must outlive the service.
  LoginService(loop::Loop& loop, UniqueFd listener, std::shared_ptr<const tls::TlsConfig> tls,
               Gate& gate, const LoginOptions& options = {});
  ~LoginService() override;
  Status start() { return listener_.start(); }

  // For connections from now on; those under way are judged again before they get anything.
  void set_tls_config(std::shared_ptr<const tls::TlsConfig> tls) { tls_ = std::move(tls); }
  // Logins under way.
  [[nodiscard]] size_t pending() const { return connections_.size(); }

 private:
  using Connections = std::list<std::shared_ptr<LoginConnection>>;  // oldest first

  void accept(UniqueFd socket, const Endpoint& remote);
  [[nodiscard]] bool make_room(const Endpoint& remote);
  [[nodiscard]] bool may_log();

  Gate& gate() override { return gate_; }
  const std::shared_ptr<const tls::TlsConfig>& tls_config() override { return tls_; }
  MutableBytes scratch() override { return scratch_; }
  void on_refused(const Endpoint& remote, const Refusal& refusal,
                  const std::optional<tls::CertificateInfo>& certificate) override;
  void on_proven(LoginConnection& connection) override;
  void on_closed(LoginConnection& connection) override;

  loop::Loop& loop_;
  Gate& gate_;
  const LoginOptions options_;
  std::shared_ptr<const tls::TlsConfig> tls_;
  LoginLimits limits_;
  Connections connections_;
  std::vector<std::byte> scratch_;
  Listener listener_;
  TimePoint log_window_{};  // refusals are logged so many a second at most: a flood is one line
  unsigned logged_ = 0;
  uint64_t not_logged_ = 0;
};

// The thread around it.
class LoginThread {
 public:
  LoginThread(UniqueFd listener, std::shared_ptr<const tls::TlsConfig> tls, Gate& gate,
              const LoginOptions& options = {});
  ~LoginThread();  // REQUIRES: not started, or stop_and_join() was called
  LoginThread(const LoginThread&) = delete;
  LoginThread& operator=(const LoginThread&) = delete;

  Status start();
  // Closes the listener and every login under way. No call of the gate comes after it.
  void stop_and_join();
  // From any thread: runs `task` on the login thread.
  void post(loop::Task task) { loop_.post(std::move(task)); }
  // Then calls `done` on the login thread: what is asked of the gate afterwards was judged by
  // `tls`.
  void set_tls_config(std::shared_ptr<const tls::TlsConfig> tls, loop::Task done);

 private:
  loop::Loop loop_;
  std::unique_ptr<LoginService> service_;
  std::thread thread_;
};

}  // namespace culvert::server
