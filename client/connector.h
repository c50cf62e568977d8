// Connector: the client's life as a state machine. It decides, it never acts: events in, actions
// out; connection.cc carries the actions out and feeds back what became of them. Pure.
//
//            ┌───────────────────────────── other addresses ───────────┐
//            ▼                                                         │
//  Idle ► Resolving ► Connecting ► Handshaking ► LoggingIn ► Attaching ┤
//            ▲            ▲             │   (cookie at hand) ▲   │     │
//            │            │             └────────────────────┘   ▼     │
//            │            └── cookie refused: log in anew ── Configuring
//            │                                                   │
//         Waiting ◄──── lost, or failed and worth a retry ── Probing ► Up
//
//  LoggingIn ► Answering ► LoggingIn: the server wants a form to be filled in, at most five a
//  login.
//
//  Up: the connection is renewed beside the one that is in use, when its keys are worn, or when it
//  is gone and DTLS goes on without it (culvert-protocol(7)). That fails as often as it likes as
//  long as packets pass.
//
//  Up ► Connecting ► Handshaking ► Stopping: a server that ends the session without a reason is
//  looked at. One that answers meant us; one that does not was stopped, and is waited for.
//
//  Any state ► Stopping (everything is put back) ► Stopped.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "client/backoff.h"
#include "common/base/address.h"
#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/wire/culvert_features.h"

namespace culvert::client {

enum class State {
  kIdle,
  kResolving,    // name to addresses
  kConnecting,   // TCP, to all addresses that are left (racer.h)
  kHandshaking,  // TLS
  kLoggingIn,    // HTTP login; ends with a cookie
  kAnswering,    // a form of the server: a person or a command is asked
  kAttaching,    // CONNECT with the cookie
  kConfiguring,  // TUN, addresses, routes, DNS
  kProbing,      // DPD asked, answer awaited
  kUp,
  kWaiting,   // for the next attempt; addresses and routes stay as they are
  kStopping,  // putting everything back
  kStopped,
};
// Lower-case, stable, for status and logs: "up", "logging_in".
[[nodiscard]] std::string_view name_of(State state);

namespace event {
struct Start {};
struct Resolved {
  std::vector<Endpoint> endpoints;
};
struct Connected {
  Endpoint endpoint;  // one of those of action::Connect
};
// TLS is up: the server's certificate is good and it has asked for ours.
struct Secured {};
struct LoggedIn {
  std::string cookie;
  bool reusable = false;  // the connection takes another request
};
// The server wants a form to be filled in.
struct FormAsked {
  bool reusable = false;  // the connection takes another request
};
// The form is filled in.
struct Answered {};
// The server took CONNECT and sent parameters.
struct Attached {};
// The server does not know the cookie (any more).
struct CookieRefused {
  Error error;
};
struct Configured {};
// An answer came through the tunnel.
struct Alive {};
// What was under way failed, or the channel was lost. transient: another address, or another time,
// may bring a better result.
struct Failed {
  Error error;
  bool transient = false;
};
// Up: another TLS connection is needed. kRekey, kRoam: while packets go on, as culvert-protocol(7)
// says; kNone: instead of the present one.
struct Renew {
  wire::AttachMode mode = wire::AttachMode::kNone;
};
// The session has moved to the new connection.
struct Renewed {};
struct RenewalFailed {
  Error error;
  bool cookie_refused = false;
};
// The network around us may be another one, or we have slept: what was waited for may be had now,
// and what is under way may wait in vain.
struct NetworkChanged {};
// The server ended the session and does not want us back. silent: it gave no reason, and may say
// the same while it is being stopped.
struct PeerEnded {
  Error error;
  bool silent = false;
};
// The time asked for with action::StartTimer has come.
struct Tick {};
// Somebody wants an end. Without an error the end is a success.
struct Stop {
  std::optional<Error> error;
};
// Everything is put back, and the channel closed.
struct Undone {};
}  // namespace event

using Event =
    std::variant<event::Start, event::Resolved, event::Connected, event::Secured, event::LoggedIn,
                 event::FormAsked, event::Answered, event::Attached, event::CookieRefused,
                 event::Configured, event::Alive, event::Failed, event::Renew, event::Renewed,
                 event::RenewalFailed, event::NetworkChanged, event::PeerEnded, event::Tick,
                 event::Stop, event::Undone>;
[[nodiscard]] std::string_view name_of(const Event& event);

namespace action {
struct Resolve {};
// The previous transport, if any, is gone by then.
struct Connect {
  std::vector<Endpoint> endpoints;  // in the order of preference; the first that answers is it
  Duration head_start{};            // of the first before the second
};
struct Secure {};
struct LogIn {
  bool reply = false;  // to the form that was answered; else the first document
};
// Fills the form in; ends with Answered or Failed. It may take a person's time.
struct Answer {};
struct Attach {
  std::string cookie;
};
struct Configure {};
struct Probe {};
// Another connection, up to the answer to its CONNECT; one that is under way is given up. Ends with
// Renewed or RenewalFailed.
struct Renew {
  Endpoint endpoint;
  std::string cookie;
  wire::AttachMode mode = wire::AttachMode::kNone;
};
struct DropRenewal {};
// One timer; starting it again moves it.
struct StartTimer {
  TimePoint deadline;
};
struct StopTimer {};
// Gives up resolving, the connection, the channel, a renewal: no event of theirs comes after this.
struct DropTransport {};
// Tells the server good-bye if there is a channel, and puts everything back; ends with Undone.
struct Undo {};
struct Finish {
  std::optional<Error> error;
};
}  // namespace action

using Action = std::variant<action::Resolve, action::Connect, action::Secure, action::LogIn,
                            action::Answer, action::Attach, action::Configure, action::Probe,
                            action::Renew, action::DropRenewal, action::StartTimer,
                            action::StopTimer, action::DropTransport, action::Undo, action::Finish>;

class Connector {
 public:
  struct Options {
    Duration first_timeout = std::chrono::seconds(30);  // of the first attempt as a whole
    Duration retry_timeout = std::chrono::seconds(20);  // of a later one
    bool persist = false;                               // keep trying even before the first success
  };

  explicit Connector(const Options& options) : options_(options) {}

  // What to do now, in order. Valid until the next step(). Events that don't fit the state (an
  // answer that came too late) are ignored.
  [[nodiscard]] std::span<const Action> step(const Event& event, TimePoint now);

  [[nodiscard]] State state() const { return state_; }
  // The tunnel has carried something at least once: from here on it is reconnected for ever.
  [[nodiscard]] bool has_been_up() const { return has_been_up_; }
  // Why the last attempt failed or the tunnel was lost; kept until it is up again.
  [[nodiscard]] const std::optional<Error>& last_error() const { return last_error_; }
  // When the next attempt begins. REQUIRES: state() is kWaiting.
  [[nodiscard]] TimePoint next_attempt() const { return deadline_; }
  // What is being renewed beside a tunnel that is up; kNone: nothing.
  [[nodiscard]] wire::AttachMode renewing() const { return renewing_; }

 private:
  void on(const event::Start& event, TimePoint now);
  void on(const event::Resolved& event, TimePoint now);
  void on(const event::Connected& event, TimePoint now);
  void on(const event::Secured& event, TimePoint now);
  void on(const event::LoggedIn& event, TimePoint now);
  void on(const event::FormAsked& event, TimePoint now);
  void on(const event::Answered& event, TimePoint now);
  void on(const event::Attached& event, TimePoint now);
  void on(const event::CookieRefused& event, TimePoint now);
  void on(const event::Configured& event, TimePoint now);
  void on(const event::Alive& event, TimePoint now);
  void on(const event::Failed& event, TimePoint now);
  void on(const event::Renew& event, TimePoint now);
  void on(const event::Renewed& event, TimePoint now);
  void on(const event::RenewalFailed& event, TimePoint now);
  void on(const event::NetworkChanged& event, TimePoint now);
  void on(const event::PeerEnded& event, TimePoint now);
  void on(const event::Tick& event, TimePoint now);
  void on(const event::Stop& event, TimePoint now);
  void on(const event::Undone& event, TimePoint now);

  void begin_attempt(TimePoint now);
  void connect();
  void connect_again();
  void look_for_server(TimePoint now);
  void log_in();
  void strike_off_those_on_trial();
  void attempt_failed(const Error& error, bool transient, TimePoint now);
  void begin_renewal(TimePoint now);
  void renewal_failed(const Error& error, TimePoint now);
  void replace_connection(TimePoint now);
  void wait(Duration delay, TimePoint now);
  void stop(std::optional<Error> error);
  [[nodiscard]] bool worth_retrying(const Error& error, bool transient) const;
  [[nodiscard]] bool attempting() const;

  void transition(State next);
  template <typename A>
  void act(A action) {
    actions_.emplace_back(std::move(action));
  }

  Options options_;
  State state_ = State::kIdle;
  std::string_view asked_;  // the event being handled, for transition()'s log line
  std::vector<Action> actions_;
  std::vector<Endpoint> endpoints_;  // as last resolved
  std::vector<Endpoint> untried_;    // of endpoints_: nothing of this attempt speaks against them
  std::vector<Endpoint> on_trial_;   // of untried_: being connected to, or the one that is
  size_t failed_attempts_ = 0;       // since the tunnel was up
  TimePoint deadline_{};             // of the attempt, or of the wait
  TimePoint waiting_since_{};
  bool network_is_new_ = false;  // no attempt has failed in it
  TimePoint up_since_{};
  Backoff backoff_;
  wire::AttachMode renewing_ = wire::AttachMode::kNone;
  bool renewal_waits_ = false;  // for its next attempt
  Backoff renewal_backoff_;
  std::string cookie_;
  int forms_ = 0;                 // of this login
  bool reusable_ = false;         // the connection on which the form came
  bool replying_ = false;         // a form is filled in and waits to be sent
  bool cookie_is_fresh_ = false;  // from this attempt's login
  bool has_been_up_ = false;
  std::optional<Error> last_error_;
  std::optional<Error> ended_;    // by the server, if it is still there
  std::optional<Error> outcome_;  // of a stop
};

}  // namespace culvert::client
