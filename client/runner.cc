#include "client/runner.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/types.h>
#include <unistd.h>

#include <csignal>
#include <ctime>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "client/connection.h"
#include "client/marked_sockets.h"
#include "common/base/log.h"
#include "common/control/control_client.h"
#include "common/control/control_server.h"
#include "common/control/protocol.h"
#include "common/helper/guard.h"
#include "common/helper/privileges.h"
#include "common/helper/remote_system_ops.h"
#include "common/loop/signal.h"
#include "common/net/network_events.h"
#include "common/net/sys.h"
#include "common/net/undo_journal.h"

namespace culvert::client {
namespace {

Error already_up(const std::string& tunnel) {
  return fail(ErrorCode::kAlreadyUp, tunnel + " is up already", {},
              "culvert disconnect " + tunnel + " ends it");
}

// Somebody who has the socket or the journal may be a process that was killed and is on its way
// out: the kernel takes its descriptors one by one, which can last some milliseconds.
constexpr Duration kDyingTime = std::chrono::seconds(2);
constexpr timespec kLookAgain{0, 10'000'000};

constexpr const char* kUnprivilegedUser = "nobody";

bool is_dying(const std::string& socket) {
  const auto answer = control::call(socket, {.command = "status"}, kDyingTime);
  const bool silent = !answer && answer.error().code != ErrorCode::kPermission;
  // One that lives answers, if only with an error of its own.
  return silent &&
         (answer.error().code == ErrorCode::kNotRunning || answer.error().where == socket);
}

// Calls `take` until it gives something else than kAlreadyUp, or `holder_is_dying` says no.
template <typename Take, typename Ask>
auto take_over(Take take, Ask holder_is_dying) {
  const TimePoint deadline = BootClock::now() + kDyingTime;
  auto taken = take();
  while (!taken && taken.error().code == ErrorCode::kAlreadyUp && holder_is_dying() &&
         BootClock::now() < deadline) {
    ::nanosleep(&kLookAgain, nullptr);
    taken = take();
  }
  return taken;
}

Result<net::UndoJournal> open_journal(const Paths& paths, const std::string& tunnel) {
  auto journal = net::UndoJournal::open(paths.journal(tunnel));
  if (!journal && journal.error().code == ErrorCode::kAlreadyUp) return already_up(tunnel);
  return journal;
}

Result<bool> undo_journal(net::UndoJournal& journal, net::Netlink& netlink) {
  if (journal.unreadable() > 0)
    log::warning("undo", "the journal has lines that make no sense",
                 {{"file", journal.path()}, {"lines", journal.unreadable()}});
  if (journal.empty()) return false;
  const size_t changes = journal.pending().size();
  if (auto undone = journal.undo_all(netlink); !undone) return std::move(undone.error());
  log::info("undo", "put back what an earlier run had left", {{"changes", changes}});
  return true;
}

// Everything of one running tunnel. The order of the members is the order of their needs.
class Process final : private Connection::Observer {
 public:
  // `helper`: the socket to the process that changes the system, see helper::split_process().
  Process(const Profile& profile, RunOptions options, UniqueFd helper)
      : profile_(profile), options_(std::move(options)), helper_(std::move(helper)) {}

  Status run() {
    if (auto ready = prepare(); !ready) return tell(std::move(ready));
    watch_signals();
    if (auto started = connection_->start(); !started) return tell(std::move(started));
    loop_.run();
    clean_up();
    return tell(outcome_ ? Status(*outcome_) : Status());
  }

 private:
  Status prepare() {
    if (auto made = make_runtime_folder(options_.paths.runtime); !made) return made;
    auto tls = tls::TlsConfig::build(profile_.tls_options());
    if (!tls) {
      // Which of its texts is wrong, the error says itself.
      if (!profile_.file.empty()) tls.error().where = profile_.file + ": " + tls.error().where;
      return std::move(tls.error());
    }
    tls_ = std::move(*tls);
    if (auto listening = listen(); !listening) return listening;
    if (auto opened = open_system(); !opened) return opened;
    return give_up_privileges();
  }

  Status listen() {
    const std::string path = options_.paths.socket(profile_.tunnel);
    const auto take = [&] {
      return control::ControlServer::listen(
          loop_, path, 0600, [this](const control::Request& request, control::Responder responder) {
            on_request(request, std::move(responder));
          });
    };
    auto control = take_over(take, [&] { return is_dying(path); });
    if (!control)
      return control.error().code == ErrorCode::kAlreadyUp ? already_up(profile_.tunnel)
                                                           : std::move(control.error());
    control_ = std::move(*control);
    return {};
  }

  Status open_system() {
    auto tun = open_tun();
    if (!tun) return std::move(tun.error());
    Status begun = helper::begin(helper_, beginning(tun->name()));
    // Nobody answers on the control socket: whoever has the journal is stuck on his way out.
    if (!begun && begun.error().code == ErrorCode::kAlreadyUp) return already_up(profile_.tunnel);
    if (!begun) return begun;
    options_.when_alone();
    auto system = helper::RemoteSystemOps::create(
        loop_, std::move(helper_), [this](Error error) { on_helper_lost(std::move(error)); });
    if (!system) return std::move(system.error());
    system_ = std::move(*system);
    sockets_ = std::make_unique<MarkedSockets>(*system_, profile_.routing.fwmark);
    sockets_->when_filled([this] { loop_.post([this] { loop_.stop(); }); });
    loop_.run();
    if (outcome_) return *outcome_;
    dns_.emplace(*system_, detect_dns_method());
    Connection::Observer& observer = *this;
    answers_ = make_answers();
    connection_ =
        std::make_unique<Connection>(Connection::Parts{loop_, profile_, tls_, *system_, *sockets_,
                                                       *dns_, answers_.get(), observer},
                                     std::move(*tun), options_.connector);
    return {};
  }

  // The kernel takes a killed process's descriptors one by one: its device may still be there.
  Result<net::TunDevice> open_tun() {
    const TimePoint deadline = BootClock::now() + kDyingTime;
    while (true) {
      auto tun = net::TunDevice::open(
          sys_, {.name = profile_.device, .must_be_new = true, .offloads = profile_.offloads});
      if (tun || tun.error().code != ErrorCode::kFailure || BootClock::now() >= deadline ||
          net::interface_index(profile_.device) == 0) {
        return tun;
      }
      ::nanosleep(&kLookAgain, nullptr);
    }
  }

  helper::Begin beginning(const std::string& device) {
    helper::Begin begin;
    begin.journal = options_.paths.journal(profile_.tunnel);
    begin.control_socket = options_.paths.socket(profile_.tunnel);
    begin.scope.role = net::SystemScope::Role::kClient;
    begin.scope.device = device;
    // Our table depends on the device's number, and the one of dead ends lies behind it.
    begin.scope.first_table = profile_.routing.table;
    begin.scope.last_table = profile_.routing.table + 2 * kDeadEndOffset;
    return begin;
  }

  // What talks to the network from here on needs none. Without root there is nobody to become.
  static Status give_up_privileges() {
    uid_t uid = ::geteuid();
    gid_t gid = ::getegid();
    if (uid == 0) {
      const passwd* const nobody = ::getpwnam(kUnprivilegedUser);
      if (nobody == nullptr)
        return fail(ErrorCode::kFailure, "there is no account to run as", kUnprivilegedUser);
      uid = nobody->pw_uid;
      gid = nobody->pw_gid;
    }
    return helper::drop_privileges(uid, gid, helper::Keep::kNothing);
  }

  // The guard puts back what the helper has left.
  void on_helper_lost(Error error) {
    log::error("tunnel", "the helper is gone", {{"why", error.message()}});
    outcome_ = std::move(error);
    loop_.stop();
  }

  // Who answers the server's forms, if anybody.
  std::unique_ptr<Answers> make_answers() {
    if (!profile_.password_command.empty())
      return answers_from_command(loop_, profile_.password_command);
    if (options_.replies.valid()) {
      return answers_from_line(
          loop_, std::move(options_.replies),
          [this](const Question& question) { options_.progress.question(question.prompt); }, [] {});
    }
    if (!options_.terminal) return nullptr;
    Terminal& terminal = *options_.terminal;
    return answers_from_line(
        loop_, UniqueFd(::fcntl(terminal.fd(), F_DUPFD_CLOEXEC, 0)),
        [&terminal](const Question& question) { terminal.ask(question.prompt); },
        [&terminal] { terminal.done(); });
  }

  void watch_signals() {
    for (const int number : {SIGINT, SIGTERM, SIGHUP})
      signals_.emplace_back(loop_, number, [this] {
        log::info("tunnel", "asked to end by a signal");
        connection_->stop(up_ ? std::nullopt : std::optional<Error>(interrupted()));
      });
  }

  static Error interrupted() {
    return fail(ErrorCode::kFailure, "interrupted before the tunnel was up");
  }

  void on_request(const control::Request& request, control::Responder responder) {
    if (!connection_)
      return responder.answer(fail(ErrorCode::kFailure, "the tunnel is only just starting"));
    if (request.command == "status")
      return responder.answer(Result<control::Json>(to_json(connection_->status())));
    if (request.command != "disconnect")
      return responder.answer(fail(ErrorCode::kUsage, "no such command: " + request.command));
    waiting_for_end_.push_back(std::move(responder));
    log::info("tunnel", "asked to end");
    connection_->stop(up_ ? std::nullopt : std::optional<Error>(interrupted()));
  }

  void on_progress(const std::string& line) override {
    if (!up_) options_.progress.line(line);
  }

  void on_up() override {
    up_ = true;
    options_.progress.up();
  }

  void on_finished(const std::optional<Error>& error) override {
    outcome_ = error;
    system_->leave([this](Status status) {
      left_ = std::move(status);
      loop_.stop();
    });
  }

  // The device goes with the connection, so that who waits for the end finds nothing left.
  void clean_up() {
    connection_.reset();
    Result<control::Json> answer(control::Json{{"name", profile_.tunnel}, {"pid", ::getpid()}});
    if (!left_) {
      answer = fail(ErrorCode::kFailure, "the tunnel is down, but not everything could be put back",
                    profile_.tunnel, "its log says what; culvert cleanup tries again");
    }
    for (control::Responder& responder : waiting_for_end_)
      responder.answer(answer);
  }

  Status tell(Status status) {
    if (!status) {
      log::error("tunnel", "ended", {{"why", status.error().message()}});
      options_.progress.failed(status.error());
    } else {
      log::info("tunnel", "ended, everything is put back");
    }
    return status;
  }

  const Profile& profile_;
  RunOptions options_;
  UniqueFd helper_;  // until `system_` has it
  net::KernelSys sys_;
  loop::Loop loop_;
  std::shared_ptr<const tls::TlsConfig> tls_;
  std::unique_ptr<helper::RemoteSystemOps> system_;
  std::unique_ptr<MarkedSockets> sockets_;
  std::optional<Dns> dns_;
  std::unique_ptr<Answers> answers_;
  std::unique_ptr<Connection> connection_;
  std::unique_ptr<control::ControlServer> control_;
  std::vector<control::Responder> waiting_for_end_;
  std::vector<loop::Signal> signals_;
  bool up_ = false;
  std::optional<Error> outcome_;
  Status left_;  // everything is put back
};

}  // namespace

Status run_tunnel(const Profile& profile, RunOptions options) {
  helper::SplitOptions split;
  split.journal = options.paths.journal(profile.tunnel);
  for (const int fd : {options.progress.descriptor(), options.replies.get(),
                       options.terminal ? options.terminal->fd() : -1})
    if (fd >= 0) split.of_the_program.push_back(fd);
  split.reduce = [] { return Status(); };  // it tells the resolver, which takes root
  auto helper = helper::split_process(split);
  if (!helper) {
    options.progress.failed(helper.error());
    return std::move(helper.error());
  }
  return Process(profile, std::move(options), std::move(*helper)).run();
}

Result<bool> undo_leftovers(const Paths& paths, const std::string& tunnel) {
  auto journal = take_over([&] { return open_journal(paths, tunnel); },
                           [&] { return is_dying(paths.socket(tunnel)); });
  if (!journal) return std::move(journal.error());
  auto netlink = net::Netlink::open();
  if (!netlink) return std::move(netlink.error());
  auto undone = undo_journal(*journal, *netlink);
  if (!undone) return undone;
  // Nobody alive holds the journal, so nobody listens.
  ::unlink(paths.socket(tunnel).c_str());
  journal->remove();
  return *undone;
}

}  // namespace culvert::client
