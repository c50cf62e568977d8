#include "common/tunnel/carrier_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace culvert::tunnel {
namespace {

using namespace std::chrono_literals;
using Action = CarrierChoice::Action;
using Options = CarrierChoice::Options;
using ProveBy = CarrierChoice::ProveBy;
using Reason = CarrierChoice::Reason;
const TimePoint kStart{1000s};

// Our side of a session, the two ways of its DTLS channel and a peer that answers, in simulated
// time.
class Simulation {
 public:
  explicit Simulation(const Options& options = {}) : choice(options, kStart) {}

  void run(Duration length) {
    const TimePoint end = now + length;
    for (size_t idle = 0;;) {
      step();
      TimePoint next = std::min(choice.next_due(), next_tick());
      if (!arrivals_.empty()) next = std::min(next, arrivals_.begin()->first);
      if (next > end) break;
      // What is due and not dealt with would keep the time standing still.
      idle = next > now ? 0 : idle + 1;
      ASSERT_LT(idle, 1000U) << "something is due for ever";
      now = std::max(now, next);
    }
    now = end;
  }
  void bring_up() {
    choice.dtls_up(now);
    run(100ms);
    ASSERT_EQ(choice.carrier(), Carrier::kDtls);
  }
  // How long until `carrier` carries; `limit` if it does not.
  Duration until(Carrier carrier, Duration limit) {
    const TimePoint began = now;
    while (choice.carrier() != carrier && now < began + limit)
      run(1ms);
    return now - began;
  }
  [[nodiscard]] size_t count(Action action, TimePoint since = kStart) const {
    return static_cast<size_t>(std::ranges::count_if(
        actions, [&](const auto& a) { return a.second == action && a.first >= since; }));
  }
  [[nodiscard]] std::vector<int64_t> times(Action action, TimePoint since) const {
    std::vector<int64_t> all;
    for (const auto& [time, what] : actions) {
      if (what == action) all.push_back((time - since) / 1ms);
    }
    return all;
  }

  CarrierChoice choice;
  TimePoint now = kStart;
  bool to_peer = true, from_peer = true;  // datagrams get through
  Duration round_trip = 40ms;
  bool sending = false;             // we send a batch every 10 ms
  bool peer_sends_on_dtls = false;  // and so does the peer
  bool peer_sends_on_tls = false;
  std::vector<std::pair<TimePoint, Action>> actions;
  int changes = 0;  // of the carrier

 private:
  static constexpr Duration kTick = 10ms;

  [[nodiscard]] TimePoint next_tick() const {
    return sending || peer_sends_on_dtls || peer_sends_on_tls ? tick_ + kTick : TimePoint::max();
  }
  void step() {
    while (!arrivals_.empty() && arrivals_.begin()->first <= now) {
      arrivals_.erase(arrivals_.begin());
      if (!from_peer) continue;
      choice.dtls_received(now);
      choice.probe_answered(now);
    }
    if (now >= tick_ + kTick) {
      tick_ = now;
      if (sending && choice.carrier() == Carrier::kDtls) choice.dtls_sent_data(now);
      if (peer_sends_on_dtls && from_peer) choice.dtls_received(now);
      if (peer_sends_on_tls) choice.tls_received_data(now);
    }
    Action action = choice.due(now);
    for (int i = 0; action != Action::kNone; ++i, action = choice.due(now)) {
      ASSERT_LT(i, 5) << "always something due";
      actions.emplace_back(now, action);
      if (action == Action::kProbe && to_peer) arrivals_.emplace(now + round_trip, 0);
    }
    ASSERT_GT(choice.next_due(), now);
    if (choice.carrier() != carrier_) ++changes;
    carrier_ = choice.carrier();
  }

  std::multimap<TimePoint, int> arrivals_;
  TimePoint tick_ = kStart;
  Carrier carrier_ = Carrier::kTls;
};

// ---- Proving.

TEST(CarrierChoice, TlsCarriesUntilAQuestionWasAnswered) {
  Simulation simulation;
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kTls);
  EXPECT_EQ(simulation.choice.reason(), Reason::kNoUdp);
  simulation.choice.handshake_started(simulation.now);
  EXPECT_EQ(simulation.choice.reason(), Reason::kHandshaking);
  simulation.run(1s);
  EXPECT_EQ(simulation.count(Action::kProbe), 0U);
  simulation.choice.dtls_up(simulation.now);
  EXPECT_EQ(simulation.choice.reason(), Reason::kProving);
  simulation.run(39ms);
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kTls);
  EXPECT_EQ(simulation.count(Action::kProbe), 1U);
  simulation.run(1ms);
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kDtls);
  EXPECT_EQ(simulation.choice.reason(), Reason::kProven);
  EXPECT_EQ(simulation.choice.since(), kStart + 1s + 40ms);
}

TEST(CarrierChoice, ARecordProvesOnlyWhereThatIsAgreed) {
  for (const ProveBy prove_by : {ProveBy::kAnswer, ProveBy::kAnyRecord}) {
    CarrierChoice choice({.prove_by = prove_by}, kStart);
    choice.dtls_received(kStart);  // before the handshake is done: of no meaning
    choice.dtls_up(kStart);
    EXPECT_EQ(choice.carrier(), Carrier::kTls);
    choice.dtls_received(kStart + 1ms);
    EXPECT_EQ(choice.carrier() == Carrier::kDtls, prove_by == ProveBy::kAnyRecord);
    choice.probe_answered(kStart + 2ms);
    EXPECT_EQ(choice.carrier(), Carrier::kDtls);
  }
}

TEST(CarrierChoice, UnprovenChannelIsSilentAfterItsQuestions) {
  Simulation simulation;
  simulation.to_peer = false;
  simulation.peer_sends_on_dtls = true;
  simulation.choice.dtls_up(kStart);
  simulation.run(1899ms);
  EXPECT_EQ(simulation.choice.reason(), Reason::kProving);
  EXPECT_EQ(simulation.times(Action::kProbe, kStart),
            (std::vector<int64_t>{0, 600, 1000, 1400, 1800}));
  simulation.run(1ms);
  EXPECT_EQ(simulation.choice.reason(), Reason::kUdpSilent);
  EXPECT_EQ(simulation.changes, 0);
}

TEST(CarrierChoice, NewHandshakeProvesAnew) {
  Simulation simulation;
  simulation.bring_up();
  simulation.choice.dtls_up(simulation.now);
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kTls);
  simulation.run(40ms);
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kDtls);
}

TEST(CarrierChoice, GoneChannelCarriesNothing) {
  Simulation simulation;
  simulation.bring_up();
  simulation.choice.dtls_gone(Reason::kEnded, simulation.now);
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kTls);
  EXPECT_EQ(simulation.choice.reason(), Reason::kEnded);
  simulation.choice.dtls_received(simulation.now);
  simulation.choice.probe_answered(simulation.now);
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kTls);
  EXPECT_EQ(simulation.choice.next_due(), TimePoint::max());
}

// ---- Falling back.

TEST(CarrierChoice, SilenceInEitherDirectionIsNoticedWithinThreeSeconds) {
  for (const bool both : {false, true}) {
    for (const bool forward : {false, true}) {
      // The path breaks at each moment between two questions, near and far.
      for (const Duration round_trip : {Duration(1ms), Duration(40ms), Duration(400ms)}) {
        for (Duration offset{}; offset < 1200ms; offset += 7ms) {
          Simulation simulation;
          simulation.round_trip = round_trip;
          simulation.choice.dtls_up(kStart);
          simulation.sending = true;
          simulation.peer_sends_on_dtls = true;
          simulation.run(5s + offset);
          ASSERT_EQ(simulation.choice.carrier(), Carrier::kDtls);
          if (both || forward) simulation.to_peer = false;
          if (both || !forward) simulation.from_peer = false;
          const Duration needed = simulation.until(Carrier::kTls, 10s);
          ASSERT_LE(needed, 3s) << round_trip / 1ms << " ms, " << offset / 1ms;
          ASSERT_GE(needed, 1s);
          EXPECT_EQ(simulation.choice.reason(), Reason::kUdpSilent);
        }
      }
    }
  }
}

TEST(CarrierChoice, RecordsFromThePeerDoNotHideThatOurWayIsBroken) {
  Simulation simulation;
  simulation.bring_up();
  simulation.sending = simulation.peer_sends_on_dtls = true;
  simulation.run(5s);
  simulation.to_peer = false;
  EXPECT_LE(simulation.until(Carrier::kTls, 10s), 3s);
  simulation.changes = 0;
  simulation.run(10min);
  EXPECT_EQ(simulation.changes, 0);
}

TEST(CarrierChoice, FirstDataAfterAPauseAsksAtOnce) {
  Simulation simulation;
  simulation.bring_up();
  simulation.run(1h);
  simulation.to_peer = false;
  const TimePoint began = simulation.now;
  simulation.sending = true;
  EXPECT_LE(simulation.until(Carrier::kTls, 10s), 2s);
  EXPECT_GE(simulation.count(Action::kProbe, began), 5U);
}

TEST(CarrierChoice, AnUnansweredQuestionOfTheIdleTunnelDoesNotCountAgainstData) {
  Simulation simulation({.dpd = 20s});
  simulation.bring_up();
  simulation.to_peer = false;
  simulation.run(25s);  // asked at 20 s, in vain
  simulation.to_peer = true;
  simulation.sending = true;
  simulation.changes = 0;
  simulation.run(1min);
  EXPECT_EQ(simulation.changes, 0);
}

TEST(CarrierChoice, ALoopThatWasHeldUpAsksAgainBeforeItBelieves) {
  CarrierChoice choice({}, kStart);
  choice.dtls_up(kStart);
  ASSERT_EQ(choice.due(kStart), Action::kProbe);
  choice.probe_answered(kStart + 1ms);
  choice.dtls_sent_data(kStart + 2s);
  ASSERT_EQ(choice.due(kStart + 2s), Action::kProbe);
  EXPECT_EQ(choice.due(kStart + 60s), Action::kProbe);
  EXPECT_EQ(choice.carrier(), Carrier::kDtls);
  choice.probe_answered(kStart + 60s);
  EXPECT_EQ(choice.due(kStart + 60s), Action::kNone);
  EXPECT_EQ(choice.carrier(), Carrier::kDtls);
}

TEST(CarrierChoice, CoarseTicksAreEnough) {
  CarrierChoice choice({}, kStart);
  choice.dtls_up(kStart);
  choice.probe_answered(kStart);
  TimePoint now = kStart;
  for (; choice.carrier() == Carrier::kDtls && now < kStart + 10s; now += 500ms) {
    choice.dtls_sent_data(now);
    static_cast<void>(choice.due(now));
  }
  EXPECT_LE(now, kStart + 4s);
}

TEST(CarrierChoice, SingleLossesDoNotMoveTheData) {
  Simulation simulation;
  simulation.bring_up();
  simulation.sending = true;
  simulation.changes = 0;
  for (int i = 0; i < 100; ++i) {
    simulation.to_peer = false;
    simulation.run(1500ms);
    simulation.to_peer = true;
    simulation.run(1s);
  }
  EXPECT_EQ(simulation.changes, 0);
}

// ---- The peer sends on TLS.

TEST(CarrierChoice, FollowsThePeerToTlsWhereDtlsIsQuiet) {
  Simulation simulation;
  simulation.bring_up();
  simulation.run(2s);
  simulation.from_peer = simulation.to_peer = false;
  simulation.peer_sends_on_tls = true;
  EXPECT_LE(simulation.until(Carrier::kTls, 10s), 20ms);
  EXPECT_EQ(simulation.choice.reason(), Reason::kPeerLostUdp);
  simulation.run(2s);
  EXPECT_EQ(simulation.choice.reason(), Reason::kUdpSilent);
}

TEST(CarrierChoice, DataOnTlsMeansNothingWhileDtlsIsAlive) {
  Simulation simulation;
  simulation.bring_up();
  simulation.peer_sends_on_tls = simulation.peer_sends_on_dtls = true;
  simulation.changes = 0;
  simulation.run(1min);
  EXPECT_EQ(simulation.changes, 0);
}

TEST(CarrierChoice, LateDataOnTlsDoesNotUndoTheReturn) {
  Simulation simulation;
  simulation.peer_sends_on_tls = true;
  simulation.choice.dtls_up(simulation.now);
  simulation.run(500ms);
  simulation.peer_sends_on_tls = false;
  simulation.run(1min);
  EXPECT_EQ(simulation.changes, 1);
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kDtls);
}

TEST(CarrierChoice, APeerThatPrefersTlsMakesUsWaverLessAndLess) {
  Simulation simulation;
  simulation.bring_up();
  simulation.peer_sends_on_tls = true;
  simulation.changes = 0;
  simulation.run(10min);
  EXPECT_GE(simulation.changes, 2);
  EXPECT_LE(simulation.changes, 2 * 14);  // after 2, 5, 15, 30 and then every 60 s
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kDtls);
}

TEST(CarrierChoice, RecordEndsTheSuspicionWhereRecordsProve) {
  for (const ProveBy prove_by : {ProveBy::kAnswer, ProveBy::kAnyRecord}) {
    CarrierChoice choice({.prove_by = prove_by}, kStart);
    choice.dtls_up(kStart);
    choice.probe_answered(kStart);
    choice.tls_received_data(kStart + 2s);
    ASSERT_EQ(choice.reason(), Reason::kPeerLostUdp);
    choice.dtls_received(kStart + 2100ms);
    EXPECT_EQ(choice.carrier() == Carrier::kDtls, prove_by == ProveBy::kAnyRecord);
  }
}

// ---- Silent, and back.

TEST(CarrierChoice, SilentChannelIsAskedWithGrowingPauses) {
  Simulation simulation;
  simulation.to_peer = false;
  simulation.choice.dtls_up(kStart);
  simulation.run(1900ms);
  ASSERT_EQ(simulation.choice.reason(), Reason::kUdpSilent);
  const TimePoint silent = simulation.now;
  simulation.actions.clear();
  simulation.run(121s);
  EXPECT_EQ(simulation.times(Action::kProbe, silent),
            (std::vector<int64_t>{1000, 3000, 7000, 15000, 30000, 60000, 90000, 120000}));
  EXPECT_EQ(simulation.count(Action::kRetry), 0U) << "that is for clients";
}

TEST(CarrierChoice, ClientBeginsNewHandshakesWithGrowingPauses) {
  Simulation simulation({.retries = true});
  simulation.to_peer = false;
  simulation.choice.dtls_up(kStart);
  simulation.run(1900ms);
  const TimePoint silent = simulation.now;
  simulation.run(200s);
  EXPECT_EQ(simulation.times(Action::kRetry, silent),
            (std::vector<int64_t>{1000, 6000, 16000, 36000, 76000, 136000, 196000}));
}

TEST(CarrierChoice, NoSecondHandshakeWhileOneIsUnderWay) {
  Simulation simulation({.retries = true});
  simulation.choice.handshake_started(kStart);
  simulation.run(12s);
  EXPECT_EQ(simulation.count(Action::kRetry), 0U);
  simulation.choice.handshake_failed(Reason::kHandshakeFailed, simulation.now);
  EXPECT_EQ(simulation.choice.reason(), Reason::kHandshakeFailed);
  simulation.run(999ms);
  EXPECT_EQ(simulation.count(Action::kRetry), 0U);
  simulation.run(1ms);
  EXPECT_EQ(simulation.count(Action::kRetry), 1U);
  simulation.choice.handshake_started(simulation.now);
  EXPECT_EQ(simulation.choice.reason(), Reason::kHandshaking);
  simulation.run(1min);
  EXPECT_EQ(simulation.count(Action::kRetry), 1U);
}

TEST(CarrierChoice, NoRetriesWhereThereIsNoUdp) {
  Simulation simulation({.retries = true});
  simulation.choice.handshake_started(kStart);
  simulation.choice.handshake_failed(Reason::kNoUdp, kStart);
  simulation.run(1h);
  EXPECT_TRUE(simulation.actions.empty());
}

TEST(CarrierChoice, AnswerBringsDataBackAtOnce) {
  Simulation simulation({.retries = true});
  simulation.bring_up();
  simulation.sending = true;
  simulation.to_peer = false;
  simulation.until(Carrier::kTls, 10s);
  simulation.run(5s);
  simulation.to_peer = true;
  simulation.choice.probe_answered(simulation.now);
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kDtls);
  const TimePoint back = simulation.now;
  simulation.run(1min);
  EXPECT_EQ(simulation.count(Action::kRetry, back), 0U);
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kDtls);
}

TEST(CarrierChoice, BackgroundHandshakeReplacesTheSilentChannel) {
  Simulation simulation({.retries = true});
  simulation.bring_up();
  simulation.sending = true;
  simulation.to_peer = false;
  simulation.until(Carrier::kTls, 10s);
  simulation.choice.handshake_started(simulation.now);
  EXPECT_EQ(simulation.choice.reason(), Reason::kUdpSilent) << "the user wants to know why";
  simulation.to_peer = true;
  simulation.choice.dtls_up(simulation.now);
  EXPECT_EQ(simulation.until(Carrier::kDtls, 10s), 40ms);
}

TEST(CarrierChoice, RecordWhileSilentIsAReasonToAsk) {
  Simulation simulation;
  simulation.to_peer = false;
  simulation.choice.dtls_up(kStart);
  simulation.run(50s);
  ASSERT_EQ(simulation.choice.reason(), Reason::kUdpSilent);
  simulation.to_peer = true;
  simulation.choice.dtls_received(simulation.now);
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kTls);
  EXPECT_EQ(simulation.until(Carrier::kDtls, 10s), 40ms);
}

// ---- Too small a path.

TEST(CarrierChoice, UnusableDtlsCarriesNothingUntilItIsUsableAgain) {
  Simulation simulation;
  simulation.bring_up();
  simulation.choice.dtls_unusable(simulation.now);
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kTls);
  EXPECT_EQ(simulation.choice.reason(), Reason::kPathTooSmall);
  simulation.peer_sends_on_tls = true;
  simulation.run(1min);
  EXPECT_EQ(simulation.choice.reason(), Reason::kPathTooSmall);
  simulation.choice.dtls_usable(simulation.now);
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kDtls);
}

TEST(CarrierChoice, ProofOfAnUnusableChannelIsRemembered) {
  Simulation simulation;
  simulation.choice.dtls_unusable(kStart);
  simulation.choice.dtls_up(kStart);
  simulation.run(100ms);
  EXPECT_EQ(simulation.choice.reason(), Reason::kPathTooSmall);
  simulation.choice.dtls_usable(simulation.now);
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kDtls);
}

// ---- Two of our own, against each other.

// Two sides that send each other data all the time, each on the carrier that it chooses.
struct Pair {
  CarrierChoice sides[2] = {CarrierChoice({}, kStart), CarrierChoice({}, kStart)};
  bool passes[2] = {true, true};  // what side i sends on DTLS
  int changes = 0;
  Duration lost[2]{};  // how long side i sent into the void
  TimePoint now = kStart;

  void run(Duration length) {
    constexpr Duration kStep = 10ms;
    for (const TimePoint end = now + length; now < end; now += kStep) {
      for (const int from : {0, 1})
        turn(from, sides[from], sides[1 - from], kStep);
    }
  }

 private:
  void turn(int from, CarrierChoice& side, CarrierChoice& peer, Duration step) {
    const Carrier before = side.carrier();
    for (int asked = 0; side.due(now) == Action::kProbe; ++asked) {
      ASSERT_LT(asked, 1000) << "a question is due for ever";
      if (!passes[from]) continue;
      peer.dtls_received(now);
      if (!passes[1 - from]) continue;
      side.dtls_received(now);
      side.probe_answered(now);
    }
    if (side.carrier() == Carrier::kTls) {
      peer.tls_received_data(now);
    } else {
      side.dtls_sent_data(now);
      if (passes[from]) peer.dtls_received(now);
      if (!passes[from]) lost[from] += step;
    }
    if (side.carrier() != before) ++changes;
  }
};

TEST(CarrierChoice, TwoSidesFallBackTogetherAndReturnTogether) {
  for (const bool one_way : {false, true}) {
    for (const int broken : {0, 1}) {
      Pair pair;
      for (CarrierChoice& side : pair.sides)
        side.dtls_up(kStart);
      pair.run(10s);
      for (const CarrierChoice& side : pair.sides)
        ASSERT_EQ(side.carrier(), Carrier::kDtls);
      pair.passes[broken] = false;
      if (!one_way) pair.passes[1 - broken] = false;
      pair.run(3s);
      for (const CarrierChoice& side : pair.sides)
        EXPECT_EQ(side.carrier(), Carrier::kTls);
      pair.changes = 0;
      pair.run(5min);
      EXPECT_EQ(pair.changes, 0) << "nothing has become better";
      for (const Duration lost : pair.lost)
        EXPECT_LE(lost, 3s);
      pair.passes[0] = pair.passes[1] = true;
      pair.run(31s);
      for (const CarrierChoice& side : pair.sides)
        EXPECT_EQ(side.carrier(), Carrier::kDtls);
      pair.changes = 0;
      pair.run(5min);
      EXPECT_EQ(pair.changes, 0);
    }
  }
}

// ---- Cost.

TEST(CarrierChoice, IdleTunnelAsksOnceADpdInterval) {
  Simulation simulation({.dpd = 15s});
  simulation.bring_up();
  simulation.actions.clear();
  simulation.run(10min);
  EXPECT_LE(simulation.count(Action::kProbe), 40U);
  EXPECT_GE(simulation.count(Action::kProbe), 39U);
  EXPECT_EQ(simulation.choice.carrier(), Carrier::kDtls);
}

TEST(CarrierChoice, IdleTunnelWithoutDpdAsksNothing) {
  Simulation simulation;
  simulation.bring_up();
  simulation.actions.clear();
  simulation.run(24h);
  EXPECT_TRUE(simulation.actions.empty());
  EXPECT_EQ(simulation.choice.next_due(), TimePoint::max());
}

TEST(CarrierChoice, IdleTunnelIsDeadAfterItsTime) {
  for (const Duration dead_after : {Duration(0s), Duration(40s)}) {
    Simulation simulation({.dpd = 10s, .dead_after = dead_after});
    simulation.bring_up();
    simulation.run(9900ms);
    simulation.to_peer = false;
    const Duration expected = dead_after == 0s ? Duration(20s) : dead_after;
    const Duration needed = simulation.until(Carrier::kTls, 2min);
    EXPECT_LE(needed, expected);
    EXPECT_GE(needed, expected - 10s);
    EXPECT_EQ(simulation.choice.reason(), Reason::kUdpSilent);
  }
}

TEST(CarrierChoice, LoadedTunnelAsksOnceASecond) {
  for (const Duration round_trip : {Duration(1ms), Duration(40ms), Duration(400ms)}) {
    Simulation simulation({.dpd = 15s});
    simulation.round_trip = round_trip;
    simulation.choice.dtls_up(kStart);
    simulation.sending = simulation.peer_sends_on_dtls = true;
    simulation.run(1min);
    EXPECT_LE(simulation.count(Action::kProbe), 61U);
    EXPECT_GE(simulation.count(Action::kProbe), 55U);
    EXPECT_EQ(simulation.changes, 1);
  }
}

TEST(CarrierChoice, ReceivingAloneAsksNothing) {
  Simulation simulation({.dpd = 15s});
  simulation.bring_up();
  simulation.actions.clear();
  simulation.peer_sends_on_dtls = true;
  simulation.run(1h);
  EXPECT_TRUE(simulation.actions.empty());
}

TEST(CarrierChoice, AChangedPathIsAskedAboutAtOnce) {
  Simulation simulation({.dpd = 15s});
  simulation.bring_up();
  simulation.run(5s);
  const TimePoint changed = simulation.now;
  simulation.to_peer = false;
  simulation.choice.path_changed(simulation.now);
  simulation.run(1ms);
  EXPECT_EQ(simulation.count(Action::kProbe, changed), 1U);
  EXPECT_LE(simulation.until(Carrier::kTls, 1min), 2500ms);
}

TEST(CarrierChoice, AChangedPathMayBeAGoodOneAgain) {
  Simulation simulation({.retries = true, .dpd = 15s});
  simulation.bring_up();
  simulation.to_peer = simulation.from_peer = false;
  simulation.run(10min);
  ASSERT_EQ(simulation.choice.reason(), Reason::kUdpSilent);
  simulation.to_peer = simulation.from_peer = true;
  simulation.choice.path_changed(simulation.now);
  EXPECT_LE(simulation.until(Carrier::kDtls, 1min), 100ms);
}

TEST(CarrierChoice, AChangedPathIsWorthAnotherHandshakeSoon) {
  CarrierChoice choice({.retries = true}, kStart);
  TimePoint now = kStart;
  for (int i = 0; i < 10; ++i) {
    choice.handshake_started(now);
    choice.handshake_failed(Reason::kHandshakeFailed, now);
    now = choice.next_due();
    ASSERT_EQ(choice.due(now), Action::kRetry);
  }
  ASSERT_GE(choice.next_due(), now + 30s);
  choice.path_changed(now);
  EXPECT_LE(choice.next_due(), now + 1s);
}

TEST(CarrierChoice, EachReasonHasItsName) {
  const std::map<Reason, std::string> names = {
      {Reason::kNoUdp, "no udp"},
      {Reason::kHandshaking, "handshaking"},
      {Reason::kHandshakeFailed, "handshake failed"},
      {Reason::kEnded, "udp channel ended"},
      {Reason::kProving, "proving"},
      {Reason::kProven, "proven"},
      {Reason::kUdpSilent, "udp silent"},
      {Reason::kPeerLostUdp, "peer lost udp"},
      {Reason::kPathTooSmall, "path too small"},
  };
  for (const auto& [reason, name] : names)
    EXPECT_EQ(name_of(reason), name);
}

}  // namespace
}  // namespace culvert::tunnel
