#include "common/tunnel/carrier_choice.h"

#include <algorithm>
#include <array>
#include <cassert>

namespace culvert::tunnel {
namespace {

// In seconds. A record from the peer while silent asks at once, but not more often than the first.
constexpr std::array<uint8_t, 6> kProbePauses = {1, 2, 4, 8, 15, 30};
constexpr std::array<uint8_t, 6> kRetryPauses = {1, 5, 10, 20, 40, 60};
constexpr std::array<uint8_t, 5> kOverlookPauses = {2, 5, 15, 30, 60};
constexpr Duration kRecordAsksEvery = std::chrono::seconds(1);

// A loop that was held up finds the time over, with answers waiting in its socket: silence is
// believed after so many questions only, and so long after the last.
constexpr unsigned kLeastQuestions = 3;
constexpr Duration kLastChance = std::chrono::milliseconds(100);

constexpr TimePoint kNever = TimePoint::max();

}  // namespace

CarrierChoice::CarrierChoice(const Options& options, TimePoint now)
    : options_(options),
      since_(now),
      last_received_(now),
      last_asked_(now),
      settled_at_(now),
      probe_at_(now),
      overlook_until_(now) {
  if (options_.dead_after == Duration{}) options_.dead_after = 2 * options_.dpd;
}

// ---- The channel comes and goes.

void CarrierChoice::handshake_started(TimePoint now) {
  handshaking_ = true;
  if (state_ != State::kNoChannel) return;
  without_channel_ = Reason::kHandshaking;
  explain(now);
}

void CarrierChoice::handshake_failed(Reason reason, TimePoint now) {
  assert(reason == Reason::kHandshakeFailed || reason == Reason::kNoUdp);
  handshaking_ = false;
  if (state_ != State::kNoChannel) return;
  without_channel_ = reason;
  if (reason == Reason::kNoUdp) {
    retry_at_.reset();
  } else if (!retry_at_) {
    retry_at_ = now + retry_backoff_.next(kRetryPauses);
  }
  explain(now);
}

void CarrierChoice::dtls_up(TimePoint now) {
  handshaking_ = false;
  last_received_ = now;
  retry_at_.reset();
  enter(State::kProving, now);
  ask_at_ = now;
}

void CarrierChoice::dtls_gone(Reason reason, TimePoint now) {
  assert(reason == Reason::kEnded || reason == Reason::kNoUdp);
  without_channel_ = handshaking_ ? Reason::kHandshaking : reason;
  if (reason == Reason::kNoUdp) {
    retry_at_.reset();
  } else if (!retry_at_) {
    retry_at_ = now + retry_backoff_.next(kRetryPauses);
  }
  enter(State::kNoChannel, now);
}

// ---- The packet path.

void CarrierChoice::dtls_received(TimePoint now) {
  if (state_ == State::kNoChannel) return;
  last_received_ = now;
  idle_asked_.reset();
  switch (state_) {
    case State::kProving:
    case State::kSuspected:
      if (options_.prove_by == ProveBy::kAnyRecord) work(now);
      break;
    case State::kSilent:
      // Our direction is in doubt: only an answer helps, but this is the moment to ask.
      probe_at_ = std::min(probe_at_, std::max(now, last_asked_ + kRecordAsksEvery));
      break;
    case State::kNoChannel:
    case State::kWorking:
      break;
  }
}

void CarrierChoice::probe_answered(TimePoint now) {
  if (state_ == State::kNoChannel) return;
  last_received_ = now;
  idle_asked_.reset();
  // Which of several was answered is unknown: the first, at worst.
  settled_at_ = first_unanswered_.value_or(last_asked_);
  first_unanswered_.reset();
  ask_at_.reset();
  data_since_.reset();
  if (state_ != State::kWorking) work(now);
}

void CarrierChoice::dtls_sent_data(TimePoint now) {
  if (!data_since_) data_since_ = now;
}

void CarrierChoice::tls_received_data(TimePoint now) {
  if (carrier() != Carrier::kDtls) return;
  if (now < last_received_ + options_.quiet || now < overlook_until_) return;
  enter(State::kSuspected, now);
  ask_at_ = now;
}

void CarrierChoice::dtls_unusable(TimePoint now) {
  usable_ = false;
  explain(now);
}

void CarrierChoice::dtls_usable(TimePoint now) {
  usable_ = true;
  explain(now);
}

void CarrierChoice::path_changed(TimePoint now) {
  probe_backoff_.reset();
  retry_backoff_.reset();
  if (questioning()) ask_at_ = now;
  if (state_ == State::kSilent) probe_at_ = now;
  if (retry_at_) retry_at_ = std::min(*retry_at_, now + retry_backoff_.next(kRetryPauses));
}

// ---- States.

void CarrierChoice::enter(State state, TimePoint now) {
  state_ = state;
  first_unanswered_.reset();
  data_since_.reset();
  ask_at_.reset();
  idle_asked_.reset();
  explain(now);
}

void CarrierChoice::explain(TimePoint now) {
  Reason reason = Reason::kProven;
  switch (state_) {
    case State::kNoChannel:
      reason = without_channel_;
      break;
    case State::kProving:
      reason = Reason::kProving;
      break;
    case State::kWorking:
      reason = usable_ ? Reason::kProven : Reason::kPathTooSmall;
      break;
    case State::kSuspected:
      reason = Reason::kPeerLostUdp;
      break;
    case State::kSilent:
      reason = Reason::kUdpSilent;
      break;
  }
  if (reason == reason_) return;
  reason_ = reason;
  since_ = now;
}

void CarrierChoice::work(TimePoint now) {
  if (state_ == State::kSuspected) {
    overlook_until_ = now + overlook_backoff_.next(kOverlookPauses);
  } else {
    // The peer returns to DTLS a little later than we do.
    overlook_until_ = now + options_.quiet;
  }
  retry_at_.reset();
  retry_backoff_.reset();
  probe_backoff_.reset();
  enter(State::kWorking, now);
}

void CarrierChoice::fall_silent(TimePoint now) {
  overlook_backoff_.reset();
  probe_at_ = now + probe_backoff_.next(kProbePauses);
  if (!retry_at_) retry_at_ = now + retry_backoff_.next(kRetryPauses);
  enter(State::kSilent, now);
}

// ---- What is due.

TimePoint CarrierChoice::question_at() const {
  if (state_ == State::kSilent) return probe_at_;
  if (!questioning()) return kNever;
  if (first_unanswered_)
    return last_asked_ + (questions_ > 1 ? options_.repeat_every : options_.repeat_after);
  if (ask_at_) return *ask_at_;
  if (state_ == State::kWorking && data_since_)
    return std::max(*data_since_, settled_at_ + options_.ask_every);
  return idle_question_at();
}

TimePoint CarrierChoice::idle_question_at() const {
  if (options_.dpd == Duration{}) return kNever;
  const TimePoint silence = last_received_ + options_.dpd;
  return idle_asked_ ? std::max(silence, *idle_asked_ + options_.dpd / 2) : silence;
}

TimePoint CarrierChoice::silent_at() const {
  if (!questioning()) return kNever;
  const bool enough = first_unanswered_ && questions_ >= kLeastQuestions;
  const TimePoint unanswered =
      enough ? std::max(*first_unanswered_ + options_.silent_after, last_asked_ + kLastChance)
             : kNever;
  const TimePoint dead = options_.dpd == Duration{} ? kNever : last_received_ + options_.dead_after;
  return std::min(unanswered, dead);
}

TimePoint CarrierChoice::retry_at() const {
  const bool wanted = state_ == State::kSilent || state_ == State::kNoChannel;
  return options_.retries && wanted && !handshaking_ && retry_at_ ? *retry_at_ : kNever;
}

TimePoint CarrierChoice::next_due() const {
  return std::min({question_at(), silent_at(), retry_at()});
}

void CarrierChoice::asked(TimePoint now) {
  if (state_ == State::kSilent) {
    probe_at_ = now + probe_backoff_.next(kProbePauses);
  } else if (first_unanswered_) {
    ++questions_;
  } else if (ask_at_ || (state_ == State::kWorking && data_since_)) {
    first_unanswered_ = now;
    questions_ = 1;
    ask_at_.reset();
  } else {
    idle_asked_ = now;
  }
  last_asked_ = now;
}

CarrierChoice::Action CarrierChoice::due(TimePoint now) {
  if (silent_at() <= now) fall_silent(now);
  if (retry_at() <= now) {
    retry_at_ = now + retry_backoff_.next(kRetryPauses);
    return Action::kRetry;
  }
  if (question_at() <= now) {
    asked(now);
    return Action::kProbe;
  }
  return Action::kNone;
}

// ---- Names.

std::string_view name_of(Carrier carrier) {
  return carrier == Carrier::kDtls ? "dtls" : "tls";
}

std::string_view name_of(CarrierChoice::Reason reason) {
  using Reason = CarrierChoice::Reason;
  switch (reason) {
    case Reason::kNoUdp:
      return "no udp";
    case Reason::kHandshaking:
      return "handshaking";
    case Reason::kHandshakeFailed:
      return "handshake failed";
    case Reason::kEnded:
      return "udp channel ended";
    case Reason::kProving:
      return "proving";
    case Reason::kProven:
      return "proven";
    case Reason::kUdpSilent:
      return "udp silent";
    case Reason::kPeerLostUdp:
      return "peer lost udp";
    case Reason::kPathTooSmall:
      return "path too small";
  }
  return "unknown";
}

}  // namespace culvert::tunnel
