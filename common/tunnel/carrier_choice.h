// CarrierChoice: which of a session's two channels carries its data now. TLS is always there; DTLS
// is better where it works, and whether it works is found out by asking. Pure: events in, due
// actions out.
//
//   no channel ──dtls_up──► proving ──proof──► working ◄──answer── suspected
//       ▲                      │                │   │                  ▲  │
//       │                      └───no answer────┤   └─DATA on TLS,─────┘  │
//    dtls_gone                                  ▼     DTLS quiet          │
//   from anywhere            silent ◄───────────┴───────no answer─────────┘
//                               └──answer──► working
//
// Data goes over DTLS in the state `working` only. A question is a DPD request on DTLS; what counts
// is its answer, since records from the peer say nothing about the way to it.
//
//  - While data is sent, one question a second; unanswered, it is repeated. `silent_after` its
//    first sending without any answer, DTLS is silent. From the last question that came through
//    this takes ask_every + silent_after = 2.9 s; it is counted from the sending of that question,
//    so the round trip does not add to it.
//  - The first data after a pause asks at once.
//  - Without data, questions follow silence of `dpd` as on every channel (liveness.h).
//  - DATA on TLS while DTLS is quiet: the peer seems to have lost UDP. TLS from then on, and a
//    question at once. An answer refutes it, and then DATA on TLS is overlooked for a while, longer
//    each time: some peers send on TLS for reasons of their own. No answer: silent.
//  - While silent, questions and (for a client) new handshakes come with growing pauses. A record
//    from the peer is a reason to ask right away, so that both sides return together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "common/base/clock.h"

namespace culvert::tunnel {

enum class Carrier : uint8_t { kTls, kDtls };
[[nodiscard]] std::string_view name_of(Carrier carrier);  // "tls", "dtls": as the channels'

class CarrierChoice {
 public:
  // Why the carrier is what it is.
  enum class Reason : uint8_t {
    kNoUdp,            // no DTLS was offered or accepted
    kHandshaking,      // the first handshake is under way
    kHandshakeFailed,  // and there is no channel from before
    kEnded,            // the DTLS channel was closed, or broke
    kProving,          // handshake done, no answer yet
    kProven,           // the only one with which DTLS may carry
    kUdpSilent,        // questions stay unanswered
    kPeerLostUdp,      // the peer sends on TLS
    kPathTooSmall,     // DTLS works, but what it must carry does not fit
  };

  enum class ProveBy : uint8_t {
    kAnswer,     // to a question of our own: both directions work
    kAnyRecord,  // any authentic record: for a side whose peer sends only what it has proven
  };

  enum class Action : uint8_t {
    kNone,
    kProbe,  // send a question on DTLS now
    kRetry,  // begin a DTLS handshake from a new port, beside the old channel if there is one
  };

  struct Options {
    ProveBy prove_by = ProveBy::kAnswer;
    bool retries = false;   // the client's side: kRetry is asked for
    Duration dpd{};         // without data: silence that asks; 0: never
    Duration dead_after{};  // and silence that is the end of it; 0: twice the dpd
    Duration ask_every = std::chrono::seconds(1);             // while data is sent
    Duration repeat_after = std::chrono::milliseconds(600);   // the first repetition,
    Duration repeat_every = std::chrono::milliseconds(400);   // and the others: five questions,
    Duration silent_after = std::chrono::milliseconds(1900);  // all in vain
    Duration quiet = std::chrono::seconds(1);  // of DTLS, that gives DATA on TLS a meaning
  };

  CarrierChoice(const Options& options, TimePoint now);

  // ---- Events. Those of the packet path are reported once a batch and are cheap; after each, ask
  // due() if next_due() has come.

  void handshake_started(TimePoint now);
  // Nothing is said about an older channel, which stays. `reason`: kHandshakeFailed or kNoUdp.
  void handshake_failed(Reason reason, TimePoint now);
  // The handshake is done; an older channel is replaced. Data goes over TLS until it is proven.
  void dtls_up(TimePoint now);
  // The channel is no more. `reason`: kEnded or kNoUdp (it will not come back: no retries).
  void dtls_gone(Reason reason, TimePoint now);
  // Authentic records of any kind came on DTLS; among them an answer: call both, in any order.
  void dtls_received(TimePoint now);
  void probe_answered(TimePoint now);
  // We sent data on DTLS.
  void dtls_sent_data(TimePoint now);
  // The peer sent DATA on TLS.
  void tls_received_data(TimePoint now);
  // What the session must carry does not fit into the path's datagrams, or does again.
  void dtls_unusable(TimePoint now);
  void dtls_usable(TimePoint now);
  // The network is not the one that it was: what was found out about UDP has to be found out again,
  // at once.
  void path_changed(TimePoint now);

  // ---- What follows. carrier() changes in the events and in due().

  [[nodiscard]] Carrier carrier() const {
    return reason_ == Reason::kProven ? Carrier::kDtls : Carrier::kTls;
  }
  [[nodiscard]] Reason reason() const { return reason_; }
  // Since when the reason holds.
  [[nodiscard]] TimePoint since() const { return since_; }

  // What is to be done now; it counts as done from here on. Ask again until it says kNone.
  [[nodiscard]] Action due(TimePoint now);
  // When to ask again, unless an event comes first. TimePoint::max(): only after an event.
  [[nodiscard]] TimePoint next_due() const;

 private:
  enum class State : uint8_t { kNoChannel, kProving, kWorking, kSuspected, kSilent };

  // Pauses that grow to a last value and stay there.
  class Backoff {
   public:
    void reset() { next_ = 0; }
    [[nodiscard]] Duration next(std::span<const uint8_t> seconds) {
      const uint8_t pause = seconds[next_];
      if (next_ + 1 < seconds.size()) ++next_;
      return std::chrono::seconds(pause);
    }

   private:
    size_t next_ = 0;
  };

  // The one door.
  void enter(State state, TimePoint now);
  void explain(TimePoint now);
  void work(TimePoint now);
  void fall_silent(TimePoint now);
  [[nodiscard]] bool questioning() const {
    return state_ == State::kProving || state_ == State::kWorking || state_ == State::kSuspected;
  }
  [[nodiscard]] TimePoint question_at() const;
  [[nodiscard]] TimePoint idle_question_at() const;
  [[nodiscard]] TimePoint silent_at() const;
  [[nodiscard]] TimePoint retry_at() const;
  void asked(TimePoint now);

  Options options_;
  State state_ = State::kNoChannel;
  Reason reason_ = Reason::kNoUdp;
  Reason without_channel_ = Reason::kNoUdp;
  TimePoint since_;
  bool usable_ = true;
  bool handshaking_ = false;

  TimePoint last_received_;
  // Questions that matter, in the states where they decide. A question of the idle rule is not one.
  std::optional<TimePoint> first_unanswered_;
  TimePoint last_asked_;
  unsigned questions_ = 0;               // since first_unanswered_
  TimePoint settled_at_;                 // the sending of the last question that was answered
  std::optional<TimePoint> data_since_;  // when data was sent first since settled_at_
  std::optional<TimePoint> ask_at_;      // a question is wanted, whatever the data
  std::optional<TimePoint> idle_asked_;

  TimePoint probe_at_;  // while silent
  Backoff probe_backoff_;
  std::optional<TimePoint> retry_at_;
  Backoff retry_backoff_;
  TimePoint overlook_until_;  // DATA on TLS
  Backoff overlook_backoff_;
};

[[nodiscard]] std::string_view name_of(CarrierChoice::Reason reason);  // "udp silent"

}  // namespace culvert::tunnel
