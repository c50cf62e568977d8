#include "server/daemon.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <optional>
#include <thread>
#include <utility>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/helper/privileges.h"
#include "common/helper/remote_system_ops.h"
#include "common/loop/loop.h"
#include "common/loop/signal.h"
#include "common/loop/timer.h"
#include "common/net/sys.h"
#include "common/net/tun_device.h"
#include "common/net/tun_steering.h"
#include "common/tls/cpu.h"
#include "server/checks.h"
#include "server/control_commands.h"
#include "server/data_plane.h"
#include "server/host_setup.h"
#include "server/listener.h"
#include "server/login.h"
#include "server/posted_gate.h"
#include "server/privileges.h"
#include "server/session_manager.h"
#include "server/sqlite_store.h"
#include "server/tls_files.h"

namespace culvert::server {
namespace {

using std::chrono::seconds;

constexpr seconds kTick{1};
constexpr unsigned kTicksPerStats = 5;
constexpr std::chrono::days kExpiryWarning{30};

class DataCarrier final : public Carrier {
 public:
  explicit DataCarrier(DataPlane& data) : data_(data) {}
  void attach(AttachRequest request) override { data_.attach(std::move(request)); }
  void end(SessionId id, EndKind kind, std::string reason) override {
    data_.end(id, kind, std::move(reason));
  }
  void forget(SessionId id) override { data_.forget(id); }

 private:
  DataPlane& data_;
};

Result<Rules> load_rules(const ServerConfig& config) {
  auto users = read_users(config.users_dir());
  if (!users) return users.error();
  // What was written by hand could otherwise take the server's own address or its default route.
  for (const auto& [name, user] : *users) {
    if (!user.ipv4 && !user.ipv6 && user.networks.empty()) continue;
    const Pools pools{config.network.ipv4, config.network.ipv6};
    if (Status good = check_user_networks(user, *users, pools); !good) return good.error();
  }
  return Rules{.unknown_users = config.unknown_users,
               .network = config.network,
               .session = config.session,
               .identity = config.identity,
               .users = std::move(*users)};
}

// The keys that only a restart changes: sockets, TUN and pools were made by another user.
std::vector<std::string> needs_restart(const ServerConfig& running, const ServerConfig& wanted) {
  std::vector<std::string> keys;
  if (wanted.listen != running.listen) keys.emplace_back("listen.address");
  if (wanted.network.ipv4 != running.network.ipv4) keys.emplace_back("network.ipv4");
  if (wanted.network.ipv6 != running.network.ipv6) keys.emplace_back("network.ipv6");
  if (wanted.user != running.user) keys.emplace_back("user");
  if (wanted.tun_device != running.tun_device) keys.emplace_back("tun.device");
  if (wanted.tun_offloads != running.tun_offloads) keys.emplace_back("tun.offloads");
  if (wanted.tun_steering != running.tun_steering) keys.emplace_back("tun.steering");
  if (wanted.udp.enabled != running.udp.enabled) keys.emplace_back("udp.enabled");
  if (wanted.udp.gso != running.udp.gso) keys.emplace_back("udp.gso");
  if (wanted.udp.gro != running.udp.gro) keys.emplace_back("udp.gro");
  if (wanted.workers != running.workers) keys.emplace_back("workers.count");
  if (wanted.log.level != running.log.level) keys.emplace_back("log.level");
  if (wanted.log.format != running.log.format) keys.emplace_back("log.format");
  return keys;
}

size_t worker_count(const ServerConfig& config) {
  if (config.workers != 0) return config.workers;
  return std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMostWorkers);
}

// One for each data thread, all of one device that was not there before.
Result<std::vector<net::TunDevice>> open_queues(net::Sys& sys, const ServerConfig& config) {
  const size_t count = worker_count(config);
  net::TunOptions options{.name = config.tun_device,
                          .multi_queue = count > 1,
                          .must_be_new = true,
                          .offloads = config.tun_offloads};
  std::vector<net::TunDevice> queues;
  while (queues.size() < count) {
    auto queue = net::TunDevice::open(sys, options);
    if (!queue) return queue.error();
    options.name = queue->name();
    options.must_be_new = false;
    queues.push_back(std::move(*queue));
  }
  return queues;
}

// Where there is something to choose from; without it the data threads pass on what is not theirs.
std::optional<net::TunSteering> steer(net::Sys& sys, const ServerConfig& config,
                                      const net::TunDevice& queue) {
  if (!config.tun_steering || worker_count(config) == 1) return std::nullopt;
  auto steering = net::TunSteering::attach(sys, queue);
  if (steering) return std::move(*steering);
  log::info("daemon", "the kernel does not steer packets to their thread",
            {{"why", steering.error().message()}});
  return std::nullopt;
}

void warn_about_certificate(const tls::CertificateInfo& certificate) {
  const auto left = certificate.not_after - wall_now();
  if (left > kExpiryWarning) return;
  log::warning(
      "daemon",
      left > seconds(0) ? "the server's certificate expires soon"
                        : "the server's certificate has expired",
      {{"subject", certificate.subject}, {"not_after", to_iso8601(certificate.not_after)}});
}

// A reload runs as the service user.
void warn_about_files(const Account& account, const ServerConfig& config) {
  for (const std::string& file :
       {config.file, config.tls.certificate, config.tls.key, config.tls.client_ca}) {
    if (const Status readable = check_readable(account, file); !readable) {
      log::warning("daemon", "a reload will not be able to read a file",
                   {{"file", file}, {"error", readable.error().message()}});
    }
  }
}

// The parts in the order in which they are made; they go in the reverse order.
class Daemon final : public ControlTarget {
 public:
  Daemon(const RunOptions& options, UniqueFd helper)
      : options_(options), config_(options.config), helper_(std::move(helper)) {}
  ~Daemon() override;

  Status run();

  const ServerFacts& facts() const override { return facts_; }
  const tls::TlsConfig& tls() const override { return *tls_; }
  SessionManager& sessions() override { return *sessions_; }
  TimePoint now() const override { return loop_.now(); }
  void refresh(UniqueFunction<void()> then) override;
  void reload(UniqueFunction<void(Result<ReloadOutcome>)> done) override;

 private:
  Status open();
  Status open_udp(const Endpoint& local);
  Status open_device(Rules rules);
  Status drop();
  Status start();
  Status open_store();
  void serve();
  void stop();

  Status wait_for(const std::function<void(net::SystemOps::Finished)>& begin);
  void on_stop(std::string_view signal);
  void on_data_event(DataEvent event);
  void on_helper_lost(Error error);
  void on_hangup();
  void on_tick();
  void apply(ServerConfig config, Rules rules, std::shared_ptr<const tls::TlsConfig> tls,
             UniqueFunction<void(Result<ReloadOutcome>)> done);

  const RunOptions& options_;
  ServerConfig config_;
  UniqueFd helper_;  // until `system_` has it
  ServerFacts facts_;
  bool stopping_ = false;
  Status failure_;  // why the server could not go on
  unsigned ticks_ = 0;

  loop::Loop loop_;
  net::KernelSys sys_;
  std::vector<loop::Signal> signals_;
  std::shared_ptr<const tls::TlsConfig> tls_;
  std::unique_ptr<control::ControlServer> control_;
  UniqueFd listener_;
  std::optional<UdpService> udp_;  // until the data thread has it
  std::unique_ptr<DataPlane> data_;
  std::unique_ptr<DataCarrier> carrier_;
  std::unique_ptr<helper::RemoteSystemOps> system_;
  std::unique_ptr<SqliteStore> store_;
  std::unique_ptr<SessionManager> sessions_;
  std::unique_ptr<PostedGate> gate_;
  std::unique_ptr<LoginThread> login_;
  std::optional<loop::Timer> ticker_;
};

// ---- life ---------------------------------------------------------------------------------------

Status Daemon::run() {
  facts_.started = wall_now();
  facts_.started_at = loop_.now();
  if (Status opened = open(); !opened) return opened;
  if (Status dropped = drop(); !dropped) return dropped;
  if (Status started = start(); !started) {
    stop();
    return started;
  }
  serve();
  stop();
  return failure_;
}

// Everything that needs privileges, is refused most easily, or shows that somebody is here already:
// so that a start that cannot succeed has changed nothing.
Status Daemon::open() {
  raise_descriptor_limit();
  auto tls = load_tls_config(config_.tls);
  if (!tls) return tls.error();
  tls_ = std::move(*tls);
  warn_about_certificate(tls_->own_certificate());
  auto rules = load_rules(config_);
  if (!rules) return rules.error();

  // The socket first: it tells whether another server runs here, whose journal must not be undone.
  if (Status made = make_runtime_folder(parent_path(options_.control_socket), options_.account);
      !made) {
    return made;
  }
  auto control = serve_control(loop_, options_.control_socket, *this);
  if (!control) return control.error();
  control_ = std::move(*control);

  auto listener = open_listener(config_.listen);
  if (!listener) return listener.error();
  listener_ = std::move(*listener);
  const auto bound = local_endpoint(listener_.get());
  if (!bound) return bound.error();
  facts_.listen = bound->to_string();
  if (Status opened = open_udp(*bound); !opened) return opened;
  return open_device(std::move(*rules));
}

Status Daemon::open_udp(const Endpoint& local) {
  if (!config_.udp.enabled) return {};
  const size_t count = worker_count(config_);
  std::vector<net::UdpSocket> sockets;
  while (sockets.size() < count) {
    auto socket = net::UdpSocket::open(
        sys_,
        {.local = local, .reuse_port = count > 1, .gso = config_.udp.gso, .gro = config_.udp.gro});
    if (!socket) return socket.error();
    sockets.push_back(std::move(*socket));
  }
  // For the whole group; without it the data threads pass on what is not theirs.
  if (count > 1 && !sockets.back().steer_by_byte(tunnel::kConnectionIdType, tunnel::kCidOffset)) {
    log::info("daemon", "the kernel does not steer datagrams to their thread");
  }
  auto cookie_key = tls::DtlsCookieKey::generate();
  tls::DtlsOptions options;
  options.role = tls::Role::kServer;
  options.cid_size = tls::kServerCidSize;
  options.cookie_key = cookie_key;
  auto config = tls::DtlsConfig::build(std::move(options));
  if (!config) return config.error();
  udp_ = UdpService{std::move(sockets), std::move(*config), std::move(cookie_key)};
  facts_.udp_port = local.port;
  return {};
}

Status Daemon::open_device(Rules rules) {
  // There is none of ours yet.
  if (Status free = check_other_tunnels(config_, local_networks({})); !free) return free;
  auto queues = open_queues(sys_, config_);
  if (!queues) return queues.error();
  facts_.device = queues->front().name();
  facts_.offloads = net::name_of(queues->front().offloads());
  Status begun = helper::begin(
      helper_, {.journal = undo_journal(options_.control_socket),
                .scope = {.role = net::SystemScope::Role::kServer, .device = facts_.device}});
  if (!begun) return begun;
  auto steering = steer(sys_, config_, queues->front());
  auto data = DataPlane::create(
      std::move(*queues), std::move(steering), std::exchange(udp_, std::nullopt),
      [this](DataEvent event) {
        loop_.post([this, e = std::move(event)]() mutable { on_data_event(std::move(e)); });
      });
  if (!data) return data.error();
  data_ = std::move(*data);
  carrier_ = std::make_unique<DataCarrier>(*data_);
  auto system = helper::RemoteSystemOps::create(
      loop_, std::move(helper_), [this](Error error) { on_helper_lost(std::move(error)); });
  if (!system) return system.error();
  system_ = std::move(*system);
  auto sessions = SessionManager::create({.system = *system_,
                                          .carrier = *carrier_,
                                          .device = facts_.device,
                                          .udp_port = facts_.udp_port,
                                          .now = [this] { return loop_.now(); }},
                                         std::move(rules));
  if (!sessions) return sessions.error();
  sessions_ = std::move(*sessions);
  gate_ = std::make_unique<PostedGate>(loop_, *sessions_);
  return {};
}

Status Daemon::drop() {
  warn_about_files(options_.account, config_);
  if (Status made = make_state_folder(parent_path(options_.state_file), options_.account); !made) {
    log::debug("daemon", "no state folder", {{"why", made.error().message()}});  // more to follow
  }
  // To be removed by the service user at the end, if the folder lets him.
  if (::lchown(options_.control_socket.c_str(), options_.account.uid, options_.account.gid) != 0) {
    log::debug("daemon", "the control socket keeps its owner");
  }
  if (Status dropped = helper::drop_privileges(options_.account.uid, options_.account.gid,
                                               helper::Keep::kNothing);
      !dropped)
    return dropped;
  facts_.user = options_.account.name;
  facts_.config_file = config_.file;
  return {};
}

Status Daemon::start() {
  signals_.emplace_back(loop_, SIGTERM, [this] { on_stop("SIGTERM"); });
  signals_.emplace_back(loop_, SIGINT, [this] { on_stop("SIGINT"); });
  signals_.emplace_back(loop_, SIGHUP, [this] { on_hangup(); });
  Status set_up = wait_for([this](net::SystemOps::Finished done) {
    system_->submit(device_setup(*sessions_, facts_.device),
                    [d = std::move(done)](const std::vector<net::SystemAnswer>& answers) {
                      d(net::first_error(answers));
                    });
  });
  if (!set_up) return set_up;
  if (Status opened = open_store(); !opened) return opened;
  if (Status started = data_->start(); !started) return started;
  login_ = std::make_unique<LoginThread>(std::move(listener_), tls_, *gate_);
  gate_->set_login(*login_);
  if (Status started = login_->start(); !started) return started;
  ticker_.emplace(loop_);
  ticker_->start_repeating(kTick, [this] { on_tick(); });
  return {};
}

// As the service user, to whom its files belong. What the state of things refuses is over, and the
// rest may be taken up from the first login on.
Status Daemon::open_store() {
  auto opened = SqliteStore::open(options_.state_file);
  if (opened) {
    store_ = std::move(opened->store);
    sessions_->restore(*store_, std::move(opened->state), *tls_);
    return {};
  }
  Error error = std::move(opened.error());
  if (error.code == ErrorCode::kAlreadyUp) {
    error.hint = "another server uses it: give each a control socket with a name of its own";
    return error;
  }
  log::error("daemon", "sessions will not survive a restart of the server",
             {{"file", options_.state_file}, {"why", error.message()}});
  return {};
}

void Daemon::serve() {
  log::info("daemon", "ready",
            {{"version", CULVERT_VERSION},
             {"listen", facts_.listen},
             {"udp", facts_.udp_port ? "yes" : "no"},
             {"device", facts_.device},
             {"offloads", facts_.offloads},
             {"workers", data_->workers()},
             {"user", facts_.user},
             {"aes_gcm", tls::gcm_backend()},
             {"config", facts_.config_file}});
  if (!stopping_) loop_.run();
}

// In the order of the packets' way in: no more logins, no more channels (the device goes with the
// data thread's queue, and its routes with it), then what is left in the kernel.
void Daemon::stop() {
  ticker_.reset();
  control_.reset();
  if (store_) store_->note_alive(wall_now());
  if (login_) login_->stop_and_join();
  data_->stop_and_join();
  const Status undone =
      wait_for([this](net::SystemOps::Finished done) { system_->undo_all(std::move(done)); });
  if (!undone) {
    log::error("daemon", "not everything could be put back", {{"error", undone.error().message()}});
  }
  log::info("daemon", "stopped");
}

// Nothing calls anybody here any more: the threads are joined before what they post to goes.
Daemon::~Daemon() {
  system_.reset();
  login_.reset();
  gate_.reset();
  sessions_.reset();
}

// Runs the loop until the system's answer is here.
Status Daemon::wait_for(const std::function<void(net::SystemOps::Finished)>& begin) {
  std::optional<Status> result;
  begin([&](Status status) {
    result = std::move(status);
    loop_.stop();
  });
  while (!result)
    loop_.run();
  return *result;
}

// ---- events -------------------------------------------------------------------------------------

void Daemon::on_stop(std::string_view signal) {
  if (std::exchange(stopping_, true)) return;
  log::info("daemon", "stopping", {{"signal", signal}, {"sessions", sessions_->table().size()}});
  loop_.stop();
}

// Without its device the server can do nothing but say so and be started again.
void Daemon::on_data_event(DataEvent event) {
  data_->note(event);
  if (event.kind != DataEvent::Kind::kTunLost) return sessions_->on_data_event(std::move(event));
  failure_ = fail(ErrorCode::kFailure, "the TUN device was deleted", facts_.device,
                  "start the server again, and find out who did it");
  stopping_ = true;
  loop_.stop();
}

// Nobody could route the next session; the guard puts back what the helper has left.
void Daemon::on_helper_lost(Error error) {
  failure_ = std::move(error);
  stopping_ = true;
  loop_.stop();
}

void Daemon::on_hangup() {
  reload([](const Result<ReloadOutcome>& outcome) {
    // Success has logged itself.
    if (!outcome) {
      log::error("daemon", "reload failed, everything stays as it was",
                 {{"error", outcome.error().message()}});
    }
  });
}

void Daemon::on_tick() {
  sessions_->tick();
  if (++ticks_ % kTicksPerStats == 0) refresh([] {});
}

void Daemon::refresh(UniqueFunction<void()> then) {
  auto waiting = std::make_shared<UniqueFunction<void()>>(std::move(then));
  data_->snapshot([this, waiting](DataPlaneStats stats) {
    loop_.post([this, waiting, s = std::move(stats)] {
      sessions_->on_stats(s);
      facts_.steering = data_->steered();
      (*waiting)();
    });
  });
}

// ---- reload -------------------------------------------------------------------------------------

void Daemon::reload(UniqueFunction<void(Result<ReloadOutcome>)> done) {
  auto config = load_config(config_.file);
  if (!config) return done(config.error());
  auto tls = load_tls_config(config->tls);
  if (!tls) return done(tls.error());
  auto rules = load_rules(*config);
  if (!rules) return done(rules.error());
  if (!login_) return done(fail(ErrorCode::kFailure, "the server is still starting"));
  // First the login thread, and only when it has the new state the sessions: whoever was judged by
  // the old one has his session by then, and it is judged again with the others.
  login_->set_tls_config(*tls, [this, c = std::move(*config), r = std::move(*rules), t = *tls,
                                d = std::move(done)]() mutable {
    loop_.post(
        [this, c = std::move(c), r = std::move(r), t = std::move(t), d = std::move(d)]() mutable {
          apply(std::move(c), std::move(r), std::move(t), std::move(d));
        });
  });
}

void Daemon::apply(ServerConfig config, Rules rules, std::shared_ptr<const tls::TlsConfig> tls,
                   UniqueFunction<void(Result<ReloadOutcome>)> done) {
  ReloadOutcome outcome;
  outcome.needs_restart = needs_restart(options_.config, config);
  tls_ = std::move(tls);
  warn_about_certificate(tls_->own_certificate());
  outcome.ended = sessions_->apply(std::move(rules), *tls_);
  log::info(
      "daemon", "reloaded",
      {{"sessions_ended", outcome.ended.size()}, {"needs_restart", outcome.needs_restart.size()}});
  for (const std::string& key : outcome.needs_restart) {
    log::warning("daemon", "a changed key takes effect at the next start", {{"key", key}});
  }
  config_ = std::move(config);
  done(std::move(outcome));
}

}  // namespace

std::string undo_journal(const std::string& control_socket) {
  return control_socket + ".undo";
}

Status run_daemon(const RunOptions& options, UniqueFd helper) {
  return Daemon(options, std::move(helper)).run();
}

}  // namespace culvert::server
