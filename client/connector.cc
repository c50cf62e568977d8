#include "client/connector.h"

#include <algorithm>
#include <array>
#include <utility>

#include "client/racer.h"
#include "common/base/log.h"

namespace culvert::client {
namespace {

// One unresponsive address must not eat the whole attempt when there are others.
constexpr Duration kLongestPerAddress = std::chrono::seconds(10);
constexpr Duration kShortestPerAddress = std::chrono::seconds(1);
// Behind another address of the name may be another server, which does not know the cookie: a lost
// SYN must not be enough to end the session.
constexpr Duration kHeadStartWithCookie = std::chrono::milliseconds(1500);
// Forms that a login may take.
constexpr int kMaxForms = 5;
// How long a person may take for one.
constexpr Duration kAnswerTime = std::chrono::minutes(3);
// The kernel may still wait in vain for a neighbour that it asked for before the network came back,
// and fails the first attempt with it.
constexpr Duration kWaitForNeighbour = std::chrono::milliseconds(250);
// A network that changes all the time must not make attempts of it all the time.
constexpr Duration kShortestWait = std::chrono::seconds(1);

std::string joined(const std::vector<Endpoint>& endpoints) {
  std::string text;
  for (const Endpoint& endpoint : endpoints)
    text += (text.empty() ? "" : ", ") + endpoint.to_string();
  return text;
}

Error timed_out(State state) {
  const auto network = [](std::string what, std::string hint) {
    return fail(ErrorCode::kNetwork, std::move(what), {}, std::move(hint));
  };
  switch (state) {
    case State::kResolving:
      return network("resolving the server's name timed out", "check this machine's DNS");
    case State::kConnecting:
      return network("no answer to the TCP connection",
                     "check the address and port, and firewalls on the way");
    case State::kHandshaking:
      return network("the TLS handshake timed out", "is this the VPN's port?");
    case State::kProbing:
      return network("the server accepted the tunnel, but nothing came through it", {});
    case State::kAnswering:
      return fail(ErrorCode::kNeedsInteraction, "nobody answered the server's form in time");
    case State::kIdle:
    case State::kLoggingIn:
    case State::kAttaching:
    case State::kConfiguring:
    case State::kUp:
    case State::kWaiting:
    case State::kStopping:
    case State::kStopped:
      break;
  }
  return network("the server stopped answering", {});
}

}  // namespace

std::string_view name_of(State state) {
  switch (state) {
    case State::kIdle:
      return "idle";
    case State::kResolving:
      return "resolving";
    case State::kConnecting:
      return "connecting";
    case State::kHandshaking:
      return "handshaking";
    case State::kLoggingIn:
      return "logging_in";
    case State::kAnswering:
      return "answering";
    case State::kAttaching:
      return "attaching";
    case State::kConfiguring:
      return "configuring";
    case State::kProbing:
      return "probing";
    case State::kUp:
      return "up";
    case State::kWaiting:
      return "waiting";
    case State::kStopping:
      return "stopping";
    case State::kStopped:
      return "stopped";
  }
  return "idle";
}

std::string_view name_of(const Event& event) {
  constexpr std::array<std::string_view, std::variant_size_v<Event>> kNames = {
      "start",           "resolved",   "connected", "secured",        "logged in",
      "form asked",      "answered",   "attached",  "cookie refused", "configured",
      "alive",           "failed",     "renew",     "renewed",        "renewal failed",
      "network changed", "peer ended", "tick",      "stop",           "undone"};
  return kNames[event.index()];
}

std::span<const Action> Connector::step(const Event& event, TimePoint now) {
  actions_.clear();
  asked_ = name_of(event);
  std::visit([&](const auto& e) { on(e, now); }, event);
  return actions_;
}

void Connector::transition(State next) {
  log::debug("connector", "state changes",
             {{"was", name_of(state_)}, {"asked", asked_}, {"now", name_of(next)}});
  state_ = next;
}

void Connector::on(const event::Start& /*event*/, TimePoint now) {
  if (state_ == State::kIdle) begin_attempt(now);
}

// The first attempt, and every one after a failed one, asks for the addresses anew; the first after
// a loss uses those that worked, because the name servers may be behind the tunnel that is down.
void Connector::begin_attempt(TimePoint now) {
  deadline_ = now + (has_been_up_ ? options_.retry_timeout : options_.first_timeout);
  untried_ = endpoints_;
  cookie_is_fresh_ = false;
  replying_ = false;
  if (!endpoints_.empty() && failed_attempts_ == 0) {
    connect();
    return;
  }
  transition(State::kResolving);
  const bool can_do_without = !endpoints_.empty();
  act(action::StartTimer{can_do_without ? now + options_.retry_timeout / 4 : deadline_});
  act(action::Resolve{});
}

void Connector::on(const event::Resolved& event, TimePoint /*now*/) {
  if (state_ != State::kResolving) return;
  endpoints_ = interleaved(event.endpoints);
  untried_ = endpoints_;
  connect();
}

void Connector::connect() {
  transition(State::kConnecting);
  on_trial_ = untried_;
  act(action::StartTimer{deadline_});
  act(action::Connect{on_trial_, cookie_.empty() ? kHeadStart : kHeadStartWithCookie});
}

// A second connection to the address that works.
void Connector::connect_again() {
  transition(State::kConnecting);
  act(action::DropTransport{});
  act(action::StartTimer{deadline_});
  act(action::Connect{on_trial_, kHeadStart});
}

void Connector::on(const event::Connected& event, TimePoint now) {
  if (state_ != State::kConnecting) return;
  on_trial_ = {event.endpoint};
  const auto remaining = std::max(deadline_ - now, Duration::zero());
  const auto share = remaining / static_cast<int64_t>(untried_.size());
  const auto limit = std::clamp(share, kShortestPerAddress, kLongestPerAddress);
  transition(State::kHandshaking);
  act(action::StartTimer{untried_.size() > 1 ? std::min(now + limit, deadline_) : deadline_});
  act(action::Secure{});
}

void Connector::on(const event::Secured& /*event*/, TimePoint /*now*/) {
  if (state_ != State::kHandshaking) return;
  if (ended_) return stop(ended_);
  act(action::StartTimer{deadline_});
  if (cookie_.empty()) {
    log_in();
  } else {
    transition(State::kAttaching);
    act(action::Attach{cookie_});
  }
}

void Connector::log_in() {
  if (!replying_) forms_ = 0;
  transition(State::kLoggingIn);
  act(action::LogIn{std::exchange(replying_, false)});
}

void Connector::on(const event::FormAsked& event, TimePoint now) {
  if (state_ != State::kLoggingIn) return;
  if (++forms_ > kMaxForms) {
    attempt_failed(fail(ErrorCode::kAuthRefused,
                        "the server asks for one form after the other: given up after " +
                            std::to_string(kMaxForms)),
                   false, now);
    return;
  }
  reusable_ = event.reusable;
  transition(State::kAnswering);
  act(action::StartTimer{now + kAnswerTime});
  act(action::Answer{});
}

// A person's time is not the attempt's.
void Connector::on(const event::Answered& /*event*/, TimePoint now) {
  if (state_ != State::kAnswering) return;
  deadline_ = now + options_.retry_timeout;
  replying_ = true;
  if (!reusable_) return connect_again();
  act(action::StartTimer{deadline_});
  log_in();
}

void Connector::on(const event::LoggedIn& event, TimePoint /*now*/) {
  if (state_ != State::kLoggingIn) return;
  cookie_ = event.cookie;
  cookie_is_fresh_ = true;
  if (!event.reusable) {
    connect_again();
    return;
  }
  transition(State::kAttaching);
  act(action::Attach{cookie_});
}

void Connector::on(const event::CookieRefused& event, TimePoint now) {
  if (state_ != State::kAttaching) return;
  cookie_.clear();
  if (cookie_is_fresh_) {  // a new login would end the same way
    attempt_failed(event.error, false, now);
    return;
  }
  connect_again();
}

void Connector::on(const event::Attached& /*event*/, TimePoint /*now*/) {
  if (state_ != State::kAttaching) return;
  transition(State::kConfiguring);
  act(action::StopTimer{});  // what is under way in the kernel is waited for
  act(action::Configure{});
}

void Connector::on(const event::Configured& /*event*/, TimePoint now) {
  if (state_ != State::kConfiguring) return;
  transition(State::kProbing);
  act(action::StartTimer{std::max(deadline_, now + options_.retry_timeout / 4)});
  act(action::Probe{});
}

void Connector::on(const event::Alive& /*event*/, TimePoint now) {
  if (state_ != State::kProbing) return;
  transition(State::kUp);
  has_been_up_ = true;
  network_is_new_ = false;
  failed_attempts_ = 0;
  up_since_ = now;
  last_error_.reset();
  // The address that works comes first next time.
  std::rotate(endpoints_.begin(),
              std::find(endpoints_.begin(), endpoints_.end(), on_trial_.front()), endpoints_.end());
  act(action::StopTimer{});
}

void Connector::on(const event::Failed& event, TimePoint now) {
  if (state_ == State::kUp) {
    last_error_ = event.error;
    renewing_ = wire::AttachMode::kNone;
    act(action::DropTransport{});
    wait(backoff_.after_loss(now - up_since_), now);
    return;
  }
  if (!attempting()) return;
  ended_.reset();
  // Only what happened on the way to an address speaks for trying others.
  const bool on_the_way = state_ == State::kConnecting || state_ == State::kHandshaking;
  if (on_the_way) strike_off_those_on_trial();
  if (event.transient && on_the_way && now < deadline_ && !untried_.empty()) {
    last_error_ = event.error;
    act(action::DropTransport{});
    connect();
    return;
  }
  if (event.transient && state_ == State::kResolving && !endpoints_.empty()) {
    connect();  // with the addresses known from before
    return;
  }
  attempt_failed(event.error, event.transient, now);
}

void Connector::strike_off_those_on_trial() {
  for (const Endpoint& failed : on_trial_)
    untried_.erase(std::remove(untried_.begin(), untried_.end(), failed), untried_.end());
}

// ---- renewal ------------------------------------------------------------------------------------

void Connector::on(const event::Renew& event, TimePoint now) {
  if (state_ != State::kUp) return;
  if (event.mode == wire::AttachMode::kNone) return replace_connection(now);
  // A connection that is gone is more urgent than one that is worn.
  if (renewing_ == event.mode || renewing_ == wire::AttachMode::kRoam) return;
  renewing_ = event.mode;
  renewal_backoff_ = {};
  begin_renewal(now);
}

void Connector::begin_renewal(TimePoint now) {
  renewal_waits_ = false;
  act(action::StartTimer{now + options_.retry_timeout});
  act(action::Renew{endpoints_.front(), cookie_, renewing_});
}

void Connector::on(const event::Renewed& /*event*/, TimePoint /*now*/) {
  if (state_ != State::kUp || renewing_ == wire::AttachMode::kNone) return;
  renewing_ = wire::AttachMode::kNone;
  last_error_.reset();
  act(action::StopTimer{});
}

void Connector::on(const event::RenewalFailed& event, TimePoint now) {
  if (state_ != State::kUp || renewing_ == wire::AttachMode::kNone || renewal_waits_) return;
  if (!event.cookie_refused) return renewal_failed(event.error, now);
  last_error_ = event.error;
  cookie_.clear();
  replace_connection(now);
}

void Connector::renewal_failed(const Error& error, TimePoint now) {
  last_error_ = error;
  renewal_waits_ = true;
  act(action::DropRenewal{});
  act(action::StartTimer{now + renewal_backoff_.after_failure()});
}

void Connector::replace_connection(TimePoint now) {
  renewing_ = wire::AttachMode::kNone;
  act(action::DropTransport{});
  begin_attempt(now);
}

// ---- the way back -------------------------------------------------------------------------------

bool Connector::attempting() const {
  return state_ >= State::kResolving && state_ <= State::kProbing;
}

void Connector::attempt_failed(const Error& error, bool transient, TimePoint now) {
  last_error_ = error;
  ++failed_attempts_;
  if (!worth_retrying(error, transient)) {
    stop(error);
    return;
  }
  act(action::DropTransport{});
  const bool soon = std::exchange(network_is_new_, false);
  wait(soon ? kWaitForNeighbour : backoff_.after_failure(), now);
}

bool Connector::worth_retrying(const Error& error, bool transient) const {
  // A captive portal in between shows a certificate of its own; it will go away.
  if (has_been_up_ && error.code == ErrorCode::kUntrusted) return true;
  return transient && (has_been_up_ || options_.persist);
}

void Connector::wait(Duration delay, TimePoint now) {
  if (delay == Duration::zero()) {
    begin_attempt(now);
    return;
  }
  transition(State::kWaiting);
  waiting_since_ = now;
  deadline_ = now + delay;
  act(action::StartTimer{deadline_});
}

void Connector::on(const event::Tick& /*event*/, TimePoint now) {
  if (state_ == State::kWaiting) {
    begin_attempt(now);
  } else if (state_ == State::kUp && renewing_ != wire::AttachMode::kNone) {
    if (renewal_waits_) return begin_renewal(now);
    renewal_failed(timed_out(State::kAttaching), now);
  } else if (attempting() && state_ != State::kConfiguring) {
    if (state_ == State::kResolving) act(action::DropTransport{});
    Error error = timed_out(state_);
    if (state_ != State::kResolving) error.where = joined(on_trial_);
    on(event::Failed{std::move(error), state_ != State::kAnswering}, now);
  }
}

// The addresses that worked are tried first: the name servers may be behind the tunnel. What waits
// in the kernel to be sent again would wait longer than a new connection takes. What is being set
// up in the system has to come to its end.
void Connector::on(const event::NetworkChanged& /*event*/, TimePoint now) {
  network_is_new_ = has_been_up_;
  if (state_ == State::kWaiting) {
    backoff_ = {};
    failed_attempts_ = 0;
    const TimePoint earliest = waiting_since_ + kShortestWait;
    if (now >= earliest) return begin_attempt(now);
    deadline_ = std::min(deadline_, earliest);
    act(action::StartTimer{deadline_});
  } else if (state_ == State::kUp && renewing_ != wire::AttachMode::kNone) {
    renewal_backoff_ = {};
    begin_renewal(now);
  } else if (attempting() && state_ != State::kConfiguring && (has_been_up_ || options_.persist)) {
    failed_attempts_ = 0;
    act(action::DropTransport{});
    begin_attempt(now);
  }
}

void Connector::on(const event::PeerEnded& event, TimePoint now) {
  if (state_ != State::kUp && !attempting()) return;
  last_error_ = event.error;
  if (state_ != State::kUp || !event.silent) return stop(event.error);
  ended_ = event.error;
  look_for_server(now);
}

// The one that has ended the session, and no other of its name.
void Connector::look_for_server(TimePoint now) {
  renewing_ = wire::AttachMode::kNone;
  act(action::DropTransport{});
  deadline_ = now + options_.retry_timeout;
  untried_ = {endpoints_.front()};
  connect();
}

void Connector::on(const event::Stop& event, TimePoint /*now*/) {
  if (state_ == State::kIdle) {
    transition(State::kStopped);
    act(action::Finish{event.error});
  } else if (state_ != State::kStopping && state_ != State::kStopped) {
    stop(event.error);
  }
}

void Connector::stop(std::optional<Error> error) {
  outcome_ = std::move(error);
  transition(State::kStopping);
  act(action::StopTimer{});
  act(action::Undo{});
}

void Connector::on(const event::Undone& /*event*/, TimePoint /*now*/) {
  if (state_ != State::kStopping) return;
  transition(State::kStopped);
  act(action::Finish{outcome_});
}

}  // namespace culvert::client
