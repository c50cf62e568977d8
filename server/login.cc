#include "server/login.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/base/log.h"

namespace culvert::server {
namespace {

constexpr unsigned kLinesPerWindow = 20;
constexpr std::chrono::seconds kLogWindow{1};

}  // namespace

LoginService::LoginService(loop::Loop& loop, UniqueFd listener,
                           std::shared_ptr<const tls::TlsConfig> tls, Gate& gate,
                           const LoginOptions& options)
    : loop_(loop),
      gate_(gate),
      options_(options),
      tls_(std::move(tls)),
      limits_(options.limits),
      scratch_(tls::TlsSession::kMaxRecord),
      listener_(loop, std::move(listener),
                [this](UniqueFd socket, Endpoint remote) { accept(std::move(socket), remote); }) {}

LoginService::~LoginService() {
  while (!connections_.empty())
    connections_.front()->close();
}

void LoginService::accept(UniqueFd socket, const Endpoint& remote) {
  if (!make_room(remote)) return;
  auto session = tls::TlsSession::create(tls_);
  if (!session) {
    log::error("login", "no TLS session", {{"error", session.error().message()}});
    return;
  }
  const auto connection = std::make_shared<LoginConnection>(
      loop_, *this, std::move(socket), remote, std::move(*session), options_.connection);
  if (const Status started = connection->start(); !started) {
    log::error("login", "a connection cannot be watched", {{"error", started.error().message()}});
    return;
  }
  limits_.enter(remote.address);
  connections_.push_back(connection);
}

// When all places are taken, the oldest that has proven nothing goes: a flood displaces itself,
// and somebody with a certificate needs a fraction of a second to prove it.
bool LoginService::make_room(const Endpoint& remote) {
  const auto refuse = [&](std::string text) {
    on_refused(remote, {.reason = "too_many_logins", .text = std::move(text)}, std::nullopt);
    return false;
  };
  switch (limits_.judge(remote.address)) {
    case LoginLimits::Verdict::kAdmit:
      return true;
    case LoginLimits::Verdict::kSourceFull:
      return refuse("too many logins are under way from this address");
    case LoginLimits::Verdict::kTotalFull:
      break;
  }
  const auto oldest = std::find_if(connections_.begin(), connections_.end(),
                                   [](const auto& connection) { return !connection->proven(); });
  if (oldest == connections_.end()) return refuse("too many logins are under way");
  const auto displaced = *oldest;
  on_refused(displaced->remote(),
             {.reason = "displaced", .text = "displaced by newer logins: too many are under way"},
             std::nullopt);
  displaced->close();
  return true;
}

bool LoginService::may_log() {
  const TimePoint now = loop_.now();
  if (now - log_window_ >= kLogWindow) {
    log_window_ = now;
    logged_ = 0;
    if (not_logged_ != 0) {
      log::warning("login", "more clients were refused",
                   {{"count", std::exchange(not_logged_, uint64_t{0})}});
    }
  }
  if (logged_ < kLinesPerWindow) return ++logged_ != 0;
  ++not_logged_;
  return false;
}

void LoginService::on_refused(const Endpoint& remote, const Refusal& refusal,
                              const std::optional<tls::CertificateInfo>& certificate) {
  gate_.count_refusal(refusal.reason);
  if (!may_log()) return;
  log::warning("login", "client refused",
               {{"remote", remote.to_string()},
                {"reason", refusal.reason},
                {"text", refusal.text},
                {"certificate", certificate ? certificate->subject : ""}});
}

void LoginService::on_proven(LoginConnection& connection) {
  log::debug("login", "certificate accepted", {{"remote", connection.remote().to_string()}});
}

void LoginService::on_closed(LoginConnection& connection) {
  const auto found = std::find_if(connections_.begin(), connections_.end(),
                                  [&](const auto& entry) { return entry.get() == &connection; });
  if (found == connections_.end()) return;
  limits_.leave(connection.remote().address);
  connections_.erase(found);
}

// ---- the thread ---------------------------------------------------------------------------------

LoginThread::LoginThread(UniqueFd listener, std::shared_ptr<const tls::TlsConfig> tls, Gate& gate,
                         const LoginOptions& options)
    : service_(std::make_unique<LoginService>(loop_, std::move(listener), std::move(tls), gate,
                                              options)) {}

LoginThread::~LoginThread() = default;

Status LoginThread::start() {
  if (Status started = service_->start(); !started) return started;
  thread_ = std::thread([this] { loop_.run(); });
  return {};
}

void LoginThread::stop_and_join() {
  if (!thread_.joinable()) return;
  loop_.post([this] {
    service_.reset();
    loop_.stop();
  });
  thread_.join();
}

void LoginThread::set_tls_config(std::shared_ptr<const tls::TlsConfig> tls, loop::Task done) {
  loop_.post([this, config = std::move(tls), then = std::move(done)]() mutable {
    if (service_) service_->set_tls_config(std::move(config));
    then();
  });
}

}  // namespace culvert::server
