#include "client/connector.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace culvert::client {
namespace {

using namespace std::chrono_literals;

Endpoint endpoint(const char* text) {
  return *Endpoint::parse(text);
}
const Endpoint kFirst = endpoint("192.0.2.1:443");
const Endpoint kSecond = endpoint("[2001:db8::1]:443");
const Endpoint kThird = endpoint("192.0.2.3:443");
const std::string kBoth = "connect 192.0.2.1:443 [2001:db8::1]:443";

Error network() {
  return fail(ErrorCode::kNetwork, "lost");
}
Error refused() {
  return fail(ErrorCode::kAuthRefused, "revoked");
}
Error untrusted() {
  return fail(ErrorCode::kUntrusted, "wrong name");
}

struct Describe {
  std::string operator()(const action::Resolve&) const { return "resolve"; }
  std::string operator()(const action::Connect& a) const {
    std::string text = "connect";
    for (const Endpoint& endpoint : a.endpoints)
      text += " " + endpoint.to_string();
    return text;
  }
  std::string operator()(const action::Secure&) const { return "secure"; }
  std::string operator()(const action::LogIn& a) const { return a.reply ? "reply" : "log in"; }
  std::string operator()(const action::Answer&) const { return "answer"; }
  std::string operator()(const action::Attach& a) const { return "attach " + a.cookie; }
  std::string operator()(const action::Configure&) const { return "configure"; }
  std::string operator()(const action::Probe&) const { return "probe"; }
  std::string operator()(const action::Renew& a) const {
    return std::string(wire::name_of(a.mode)) + " " + a.endpoint.to_string() + " " + a.cookie;
  }
  std::string operator()(const action::DropRenewal&) const { return "drop renewal"; }
  std::string operator()(const action::StartTimer&) const { return {}; }
  std::string operator()(const action::StopTimer&) const { return {}; }
  std::string operator()(const action::DropTransport&) const { return "drop"; }
  std::string operator()(const action::Undo&) const { return "undo"; }
  std::string operator()(const action::Finish& a) const {
    return a.error ? "finish: " + a.error->what : "finish";
  }
};

// A connector with its clock; step() gives the actions but the timer's, in one line.
struct Rig {
  explicit Rig(Connector::Options options = {}) : connector(options) {}

  std::string step(const Event& event) {
    std::string text;
    for (const Action& action : connector.step(event, now)) {
      if (const auto* timer = std::get_if<action::StartTimer>(&action)) deadline = timer->deadline;
      if (const auto* race = std::get_if<action::Connect>(&action)) head_start = race->head_start;
      const std::string word = std::visit(Describe{}, action);
      if (!word.empty()) text += (text.empty() ? "" : ", ") + word;
    }
    return text;
  }
  std::string tick() {
    now = deadline;
    return step(event::Tick{});
  }
  void come_up() {
    (void)step(event::Start{});
    (void)step(event::Resolved{{kFirst, kSecond}});
    (void)step(event::Connected{kFirst});
    (void)step(event::Secured{});
    (void)step(event::LoggedIn{"cookie", true});
    (void)step(event::Attached{});
    (void)step(event::Configured{});
    (void)step(event::Alive{});
  }

  Connector connector;
  TimePoint now{1000s};
  TimePoint deadline{};
  Duration head_start{};
};

TEST(Connector, ComesUpStepByStep) {
  Rig rig;
  EXPECT_EQ(rig.step(event::Start{}), "resolve");
  EXPECT_EQ(rig.step(event::Resolved{{kFirst}}), "connect 192.0.2.1:443");
  EXPECT_EQ(rig.step(event::Connected{kFirst}), "secure");
  EXPECT_EQ(rig.step(event::Secured{}), "log in");
  EXPECT_EQ(rig.step(event::LoggedIn{"c1", true}), "attach c1");
  EXPECT_EQ(rig.step(event::Attached{}), "configure");
  EXPECT_EQ(rig.step(event::Configured{}), "probe");
  EXPECT_FALSE(rig.connector.has_been_up());
  EXPECT_EQ(rig.step(event::Alive{}), "");
  EXPECT_EQ(rig.connector.state(), State::kUp);
  EXPECT_TRUE(rig.connector.has_been_up());
}

TEST(Connector, ConnectsAgainWhenTheLoginConnectionIsUsedUp) {
  Rig rig;
  (void)rig.step(event::Start{});
  (void)rig.step(event::Resolved{{kFirst, kSecond}});
  (void)rig.step(event::Connected{kFirst});
  (void)rig.step(event::Secured{});
  EXPECT_EQ(rig.step(event::LoggedIn{"c1", false}), "drop, connect 192.0.2.1:443");
  (void)rig.step(event::Connected{kFirst});
  EXPECT_EQ(rig.step(event::Secured{}), "attach c1");
}

TEST(Connector, RacesAllAddressesAndTheirFailureIsTheAttempts) {
  Rig rig;
  (void)rig.step(event::Start{});
  EXPECT_EQ(rig.step(event::Resolved{{kFirst, kSecond}}), kBoth);
  EXPECT_EQ(rig.deadline, rig.now + 30s) << "nothing else could be tried meanwhile";
  EXPECT_EQ(rig.step(event::Failed{network(), true}), "undo");
  EXPECT_EQ(rig.step(event::Undone{}), "finish: lost");
}

TEST(Connector, LetsTheFamiliesTakeTurns) {
  Rig rig;
  (void)rig.step(event::Start{});
  EXPECT_EQ(rig.step(event::Resolved{{kSecond, endpoint("[2001:db8::2]:443"), kFirst}}),
            "connect [2001:db8::1]:443 192.0.2.1:443 [2001:db8::2]:443");
}

TEST(Connector, TriesTheOthersWhenTheFirstToAnswerFailsInTheHandshake) {
  Rig rig;
  (void)rig.step(event::Start{});
  (void)rig.step(event::Resolved{{kFirst, kSecond, kThird}});
  (void)rig.step(event::Connected{kSecond});
  EXPECT_EQ(rig.step(event::Failed{network(), true}), "drop, connect 192.0.2.1:443 192.0.2.3:443");
  (void)rig.step(event::Connected{kThird});
  EXPECT_EQ(rig.step(event::Failed{network(), true}), "drop, connect 192.0.2.1:443");
  (void)rig.step(event::Connected{kFirst});
  EXPECT_EQ(rig.step(event::Failed{network(), true}), "undo");
}

TEST(Connector, AHandshakeThatHangsLeavesTimeForTheOthers) {
  Rig rig;
  (void)rig.step(event::Start{});
  (void)rig.step(event::Resolved{{kFirst, kSecond}});
  rig.now += 2s;
  (void)rig.step(event::Connected{kFirst});
  EXPECT_EQ(rig.deadline, rig.now + 10s);
  EXPECT_EQ(rig.tick(), "drop, connect [2001:db8::1]:443");
  EXPECT_EQ(rig.connector.last_error()->where, "192.0.2.1:443");
  (void)rig.step(event::Connected{kSecond});
  EXPECT_EQ(rig.deadline, TimePoint(1000s) + 30s);
  EXPECT_EQ(rig.tick(), "undo");
  EXPECT_EQ(rig.connector.last_error()->code, ErrorCode::kNetwork);
}

TEST(Connector, SilenceEverywhereNamesEveryAddress) {
  Rig rig;
  (void)rig.step(event::Start{});
  (void)rig.step(event::Resolved{{kFirst, kSecond}});
  EXPECT_EQ(rig.tick(), "undo");
  EXPECT_EQ(rig.connector.last_error()->where, "192.0.2.1:443, [2001:db8::1]:443");
}

TEST(Connector, WithACookieTheAddressThatWorkedGetsALongerStart) {
  Rig rig;
  (void)rig.step(event::Start{});
  (void)rig.step(event::Resolved{{kFirst, kSecond}});
  EXPECT_EQ(rig.head_start, 250ms);
  rig.come_up();
  rig.now += 1min;
  (void)rig.step(event::Failed{network(), true});
  EXPECT_EQ(rig.head_start, 1500ms);
}

// ---- forms
// ---------------------------------------------------------------------------------------

struct Asked : Rig {
  Asked() {
    (void)step(event::Start{});
    (void)step(event::Resolved{{kFirst}});
    (void)step(event::Connected{kFirst});
    (void)step(event::Secured{});
  }
};

TEST(ConnectorForms, AFormIsAnsweredOnTheSameConnection) {
  Asked rig;
  EXPECT_EQ(rig.step(event::FormAsked{true}), "answer");
  EXPECT_EQ(rig.connector.state(), State::kAnswering);
  EXPECT_EQ(rig.deadline, rig.now + 3min) << "a person's time is not the attempt's";
  rig.now += 2min;
  EXPECT_EQ(rig.step(event::Answered{}), "reply");
  EXPECT_EQ(rig.deadline, rig.now + 20s);
  EXPECT_EQ(rig.step(event::LoggedIn{"c1", true}), "attach c1");
}

TEST(ConnectorForms, OnANewConnectionWhenTheServerClosesIt) {
  Asked rig;
  EXPECT_EQ(rig.step(event::FormAsked{false}), "answer");
  EXPECT_EQ(rig.step(event::Answered{}), "drop, connect 192.0.2.1:443");
  (void)rig.step(event::Connected{kFirst});
  EXPECT_EQ(rig.step(event::Secured{}), "reply");
}

TEST(ConnectorForms, AreNotEndless) {
  Asked rig;
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(rig.step(event::FormAsked{true}), "answer");
    EXPECT_EQ(rig.step(event::Answered{}), "reply");
  }
  EXPECT_EQ(rig.step(event::FormAsked{true}), "undo");
  EXPECT_EQ(rig.connector.last_error()->code, ErrorCode::kAuthRefused);
}

TEST(ConnectorForms, NobodyAnswering) {
  Asked rig;
  (void)rig.step(event::FormAsked{true});
  EXPECT_EQ(rig.tick(), "undo");
  EXPECT_EQ(rig.connector.last_error()->code, ErrorCode::kNeedsInteraction);
  EXPECT_EQ(rig.step(event::Answered{}), "") << "too late";
}

TEST(ConnectorForms, WithoutAnAnswerTheTunnelEndsAlsoLater) {
  Rig rig;
  rig.come_up();
  rig.now += 1min;
  (void)rig.step(event::Failed{network(), true});
  (void)rig.step(event::Connected{kFirst});
  (void)rig.step(event::Secured{});
  (void)rig.step(event::CookieRefused{refused()});
  (void)rig.step(event::Connected{kFirst});
  EXPECT_EQ(rig.step(event::Secured{}), "log in");
  EXPECT_EQ(rig.step(event::FormAsked{true}), "answer");
  EXPECT_EQ(rig.step(event::Failed{fail(ErrorCode::kNeedsInteraction, "nobody"), false}), "undo");
  EXPECT_EQ(rig.step(event::Undone{}), "finish: nobody");
}

TEST(ConnectorForms, ANewAttemptBeginsWithTheFirstDocument) {
  Rig rig({.persist = true});
  (void)rig.step(event::Start{});
  (void)rig.step(event::Resolved{{kFirst}});
  (void)rig.step(event::Connected{kFirst});
  (void)rig.step(event::Secured{});
  (void)rig.step(event::FormAsked{false});
  (void)rig.step(event::Answered{});
  EXPECT_EQ(rig.step(event::Failed{network(), true}), "drop");
  EXPECT_EQ(rig.tick(), "resolve");
  (void)rig.step(event::Resolved{{kFirst}});
  (void)rig.step(event::Connected{kFirst});
  EXPECT_EQ(rig.step(event::Secured{}), "log in");
}

struct FailureCase {
  const char* name;
  bool been_up;
  bool persist;
  Error error;
  bool transient;
  const char* expected;
  State state;
};

class ConnectorFailure : public testing::TestWithParam<FailureCase> {};

TEST_P(ConnectorFailure, EndsOrWaits) {
  const FailureCase& c = GetParam();
  Rig rig({.persist = c.persist});
  if (c.been_up) {
    rig.come_up();
    rig.now += 1min;
    (void)rig.step(event::Failed{network(), true});  // tries again at once
    (void)rig.step(event::Connected{kFirst});
    (void)rig.step(event::Failed{network(), true});  // and the second address
    (void)rig.step(event::Connected{kSecond});
  } else {
    (void)rig.step(event::Start{});
    (void)rig.step(event::Resolved{{kFirst}});
    (void)rig.step(event::Connected{kFirst});
  }
  EXPECT_EQ(rig.step(event::Failed{c.error, c.transient}), c.expected);
  EXPECT_EQ(rig.connector.state(), c.state);
}

INSTANTIATE_TEST_SUITE_P(
    All, ConnectorFailure,
    testing::Values(
        FailureCase{"FirstNetwork", false, false, network(), true, "undo", State::kStopping},
        FailureCase{"FirstNetworkPersist", false, true, network(), true, "drop", State::kWaiting},
        FailureCase{"FirstRefused", false, false, refused(), false, "undo", State::kStopping},
        FailureCase{"FirstRefusedPersist", false, true, refused(), false, "undo", State::kStopping},
        FailureCase{"FirstUntrusted", false, true, untrusted(), false, "undo", State::kStopping},
        FailureCase{"LaterNetwork", true, false, network(), true, "drop", State::kWaiting},
        FailureCase{"LaterUntrusted", true, false, untrusted(), false, "drop", State::kWaiting},
        FailureCase{"LaterRefused", true, false, refused(), false, "undo", State::kStopping}),
    [](const auto& test) { return test.param.name; });

TEST(Connector, ReattachesAtOnceWithTheSameCookieAndWithoutResolving) {
  Rig rig;
  rig.come_up();
  rig.now += 1min;
  EXPECT_EQ(rig.step(event::Failed{network(), true}), "drop, " + kBoth);
  (void)rig.step(event::Connected{kFirst});
  EXPECT_EQ(rig.step(event::Secured{}), "attach cookie");
}

TEST(Connector, StartsAgainWithTheAddressThatWorked) {
  Rig rig;
  (void)rig.step(event::Start{});
  (void)rig.step(event::Resolved{{kFirst, kSecond}});
  (void)rig.step(event::Connected{kSecond});
  (void)rig.step(event::Secured{});
  (void)rig.step(event::LoggedIn{"cookie", true});
  (void)rig.step(event::Attached{});
  (void)rig.step(event::Configured{});
  (void)rig.step(event::Alive{});
  rig.now += 1min;
  EXPECT_EQ(rig.step(event::Failed{network(), true}),
            "drop, connect [2001:db8::1]:443 192.0.2.1:443");
}

TEST(Connector, LogsInAnewWhenTheCookieIsRefused) {
  Rig rig;
  rig.come_up();
  rig.now += 1min;
  (void)rig.step(event::Failed{network(), true});
  (void)rig.step(event::Connected{kFirst});
  (void)rig.step(event::Secured{});
  EXPECT_EQ(rig.step(event::CookieRefused{refused()}), "drop, connect 192.0.2.1:443");
  (void)rig.step(event::Connected{kFirst});
  EXPECT_EQ(rig.step(event::Secured{}), "log in");
  (void)rig.step(event::LoggedIn{"new", true});
  EXPECT_EQ(rig.step(event::CookieRefused{refused()}), "undo") << "a fresh cookie was refused";
}

TEST(Connector, BacksOffWhileTheServerIsAway) {
  Rig rig;
  rig.come_up();
  rig.now += 1min;
  (void)rig.step(event::Failed{network(), true});
  std::vector<int64_t> waits;
  for (int i = 0; i < 7; ++i) {
    (void)rig.step(event::Failed{network(), true});
    EXPECT_EQ(rig.connector.state(), State::kWaiting);
    waits.push_back((rig.connector.next_attempt() - rig.now) / 1s);
    EXPECT_EQ(rig.tick(), "resolve");
    (void)rig.step(event::Resolved{{kFirst}});
  }
  EXPECT_EQ(waits, (std::vector<int64_t>{1, 2, 4, 8, 16, 30, 30}));
}

TEST(Connector, ATunnelThatDiesYoungIsNotRetriedAtOnce) {
  Rig rig;
  rig.come_up();
  rig.now += 2s;
  EXPECT_EQ(rig.step(event::Failed{network(), true}), "drop");
  EXPECT_EQ(rig.connector.state(), State::kWaiting);
}

TEST(Connector, UsesTheOldAddressesWhenTheNameCannotBeResolved) {
  Rig rig;
  rig.come_up();
  rig.now += 1min;
  (void)rig.step(event::Failed{network(), true});
  (void)rig.step(event::Failed{network(), true});
  EXPECT_EQ(rig.tick(), "resolve");
  EXPECT_EQ(rig.step(event::Failed{network(), true}), kBoth);
}

TEST(Connector, StopsForGoodWhenTheServerEndsTheSession) {
  Rig rig;
  rig.come_up();
  rig.now += 1min;
  EXPECT_EQ(rig.step(event::PeerEnded{fail(ErrorCode::kFailure, "kicked")}), "undo");
  EXPECT_EQ(rig.step(event::Undone{}), "finish: kicked");
  EXPECT_EQ(rig.connector.state(), State::kStopped);
}

TEST(Connector, AServerThatEndsTheSessionWithoutAReasonIsLookedAt) {
  for (const bool there : {true, false}) {
    Rig rig;
    rig.come_up();
    rig.now += 1min;
    EXPECT_EQ(rig.step(event::PeerEnded{fail(ErrorCode::kFailure, "ended"), true}),
              "drop, connect 192.0.2.1:443")
        << "no other server of this name";
    EXPECT_EQ(rig.step(event::Connected{kFirst}), "secure");
    if (there) {
      EXPECT_EQ(rig.step(event::Secured{}), "undo");
      EXPECT_EQ(rig.step(event::Undone{}), "finish: ended");
    } else {
      EXPECT_EQ(rig.step(event::Failed{network(), true}), "drop");
      EXPECT_EQ(rig.connector.state(), State::kWaiting);
      EXPECT_EQ(rig.tick(), "resolve");
      EXPECT_EQ(rig.step(event::Resolved{{kFirst}}), "connect 192.0.2.1:443");
      EXPECT_EQ(rig.step(event::Connected{kFirst}), "secure");
      EXPECT_EQ(rig.step(event::Secured{}), "attach cookie") << "from here on as after a loss";
    }
  }
}

TEST(Connector, AStopIsASuccessFromEveryStateAndHappensOnce) {
  for (int steps = 1; steps <= 7; ++steps) {
    Rig rig;
    const std::vector<Event> way = {
        event::Start{},     event::Resolved{{kFirst}},  event::Connected{kFirst},
        event::Secured{},   event::LoggedIn{"c", true}, event::Attached{},
        event::Configured{}};
    for (int i = 0; i < steps; ++i)
      (void)rig.step(way[static_cast<size_t>(i)]);
    EXPECT_EQ(rig.step(event::Stop{}), "undo") << steps;
    EXPECT_EQ(rig.step(event::Stop{}), "") << steps;
    EXPECT_EQ(rig.step(event::Failed{network(), true}), "") << steps;
    EXPECT_EQ(rig.step(event::Configured{}), "") << "a late answer";
    EXPECT_EQ(rig.step(event::Undone{}), "finish") << steps;
  }
}

TEST(Connector, AChangedNetworkEndsTheWait) {
  Rig rig;
  rig.come_up();
  rig.now += 1min;
  (void)rig.step(event::Failed{network(), true});
  (void)rig.step(event::Failed{network(), true});
  for (int i = 0; i < 5; ++i) {
    (void)rig.step(event::Failed{network(), true});
    (void)rig.tick();
    (void)rig.step(event::Resolved{{kFirst}});
  }
  (void)rig.step(event::Failed{network(), true});
  ASSERT_GE(rig.connector.next_attempt() - rig.now, 16s);
  rig.now += 5s;
  EXPECT_EQ(rig.step(event::NetworkChanged{}), "connect 192.0.2.1:443") << "without resolving";
  (void)rig.step(event::Failed{network(), true});
  EXPECT_EQ(rig.connector.next_attempt() - rig.now, 250ms) << "a neighbour may have been missing";
  EXPECT_EQ(rig.tick(), "resolve");
  (void)rig.step(event::Resolved{{kFirst}});
  (void)rig.step(event::Failed{network(), true});
  EXPECT_EQ(rig.connector.next_attempt() - rig.now, 1s) << "the pauses begin anew";
}

TEST(Connector, ANetworkThatChangesAllTheTimeIsNotTriedAllTheTime) {
  Rig rig({.persist = true});
  (void)rig.step(event::Start{});
  (void)rig.step(event::Resolved{{kFirst}});
  for (int i = 0; i < 3; ++i) {
    (void)rig.step(event::Failed{network(), true});
    rig.now += 100ms;
    EXPECT_EQ(rig.step(event::NetworkChanged{}), "");
    EXPECT_EQ(rig.connector.next_attempt() - rig.now, 900ms);
    EXPECT_EQ(rig.tick(), "connect 192.0.2.1:443");
  }
}

TEST(Connector, WhatIsUnderWayStartsAnewInAChangedNetwork) {
  const std::vector<Event> way = {event::Connected{kFirst}, event::Secured{}, event::Attached{}};
  for (size_t steps = 0; steps <= way.size(); ++steps) {
    Rig rig;
    rig.come_up();
    rig.now += 1min;
    (void)rig.step(event::Failed{network(), true});
    for (size_t i = 0; i < steps; ++i)
      (void)rig.step(way[i]);
    const bool in_the_system = rig.connector.state() == State::kConfiguring;
    EXPECT_EQ(rig.step(event::NetworkChanged{}), in_the_system ? std::string() : "drop, " + kBoth)
        << name_of(rig.connector.state());
  }
}

TEST(Connector, TheFirstAttemptKeepsItsTime) {
  Rig rig;
  (void)rig.step(event::Start{});
  (void)rig.step(event::Resolved{{kFirst}});
  EXPECT_EQ(rig.step(event::NetworkChanged{}), "");
  rig.now += 10s;
  EXPECT_EQ(rig.tick(), "undo");
}

TEST(Connector, ARenewalStartsAnewInAChangedNetwork) {
  Rig rig;
  rig.come_up();
  EXPECT_EQ(rig.step(event::NetworkChanged{}), "") << "the tunnel itself stays";
  (void)rig.step(event::Renew{wire::AttachMode::kRoam});
  EXPECT_EQ(rig.step(event::NetworkChanged{}), "roam 192.0.2.1:443 cookie");
  (void)rig.step(event::RenewalFailed{network()});
  EXPECT_EQ(rig.step(event::NetworkChanged{}), "roam 192.0.2.1:443 cookie");
  EXPECT_EQ(rig.step(event::Renewed{}), "");
}

TEST(Connector, LateAnswersAreIgnored) {
  Rig rig;
  rig.come_up();
  for (const Event& event : std::vector<Event>{
           event::Start{}, event::Resolved{{kSecond}}, event::Connected{kFirst}, event::Secured{},
           event::LoggedIn{"x", true}, event::Attached{}, event::Configured{}, event::Alive{},
           event::Tick{}, event::Undone{}, event::Renewed{}, event::RenewalFailed{network()}})
    EXPECT_EQ(rig.step(event), "") << name_of(event);
  EXPECT_EQ(rig.connector.state(), State::kUp);
}

// ---- renewal ------------------------------------------------------------------------------------

using wire::AttachMode;

TEST(ConnectorRenewal, HappensBesideATunnelThatIsUp) {
  Rig rig;
  EXPECT_EQ(rig.step(event::Renew{AttachMode::kRekey}), "") << "not up";
  rig.come_up();
  EXPECT_EQ(rig.step(event::Renew{AttachMode::kRekey}), "rekey 192.0.2.1:443 cookie");
  EXPECT_EQ(rig.step(event::Renew{AttachMode::kRekey}), "") << "under way already";
  EXPECT_EQ(rig.connector.renewing(), AttachMode::kRekey);
  EXPECT_EQ(rig.connector.state(), State::kUp);
  EXPECT_EQ(rig.step(event::Renewed{}), "");
  EXPECT_EQ(rig.connector.renewing(), AttachMode::kNone);
  EXPECT_EQ(rig.step(event::Renew{AttachMode::kRoam}), "roam 192.0.2.1:443 cookie");
}

TEST(ConnectorRenewal, IsTriedAgainWithGrowingPausesAsLongAsPacketsPass) {
  Rig rig;
  rig.come_up();
  (void)rig.step(event::Renew{AttachMode::kRoam});
  std::vector<int64_t> waits;
  for (int i = 0; i < 7; ++i) {
    EXPECT_EQ(rig.step(event::RenewalFailed{network()}), "drop renewal");
    EXPECT_EQ(rig.step(event::RenewalFailed{network()}), "") << "once";
    waits.push_back((rig.deadline - rig.now) / 1s);
    EXPECT_EQ(rig.tick(), "roam 192.0.2.1:443 cookie");
  }
  EXPECT_EQ(waits, (std::vector<int64_t>{1, 2, 4, 8, 16, 30, 30}));
  EXPECT_EQ(rig.connector.state(), State::kUp);
  EXPECT_TRUE(rig.connector.last_error());
  (void)rig.step(event::Renewed{});
  EXPECT_FALSE(rig.connector.last_error());
  EXPECT_EQ(rig.step(event::Tick{}), "");
}

TEST(ConnectorRenewal, SilenceIsAFailure) {
  Rig rig;
  rig.come_up();
  (void)rig.step(event::Renew{AttachMode::kRekey});
  EXPECT_EQ(rig.tick(), "drop renewal");
  EXPECT_EQ(rig.tick(), "rekey 192.0.2.1:443 cookie");
}

TEST(ConnectorRenewal, RoamingIsMoreUrgentThanNewKeys) {
  Rig rig;
  rig.come_up();
  (void)rig.step(event::Renew{AttachMode::kRekey});
  EXPECT_EQ(rig.step(event::Renew{AttachMode::kRoam}), "roam 192.0.2.1:443 cookie");
  EXPECT_EQ(rig.step(event::Renew{AttachMode::kRekey}), "");
  EXPECT_EQ(rig.connector.renewing(), AttachMode::kRoam);
}

TEST(ConnectorRenewal, IsGivenUpWhenPacketsPassNoMore) {
  Rig rig;
  rig.come_up();
  rig.now += 1min;
  (void)rig.step(event::Renew{AttachMode::kRoam});
  EXPECT_EQ(rig.step(event::Failed{network(), true}), "drop, " + kBoth);
  EXPECT_EQ(rig.step(event::RenewalFailed{network()}), "") << "a late answer";
  EXPECT_EQ(rig.step(event::Renewed{}), "");
  (void)rig.step(event::Connected{kFirst});
  EXPECT_EQ(rig.step(event::Secured{}), "attach cookie");
}

TEST(ConnectorRenewal, ARefusedCookieLeadsToALogin) {
  Rig rig;
  rig.come_up();
  (void)rig.step(event::Renew{AttachMode::kRekey});
  EXPECT_EQ(rig.step(event::RenewalFailed{refused(), true}), "drop, " + kBoth);
  (void)rig.step(event::Connected{kFirst});
  EXPECT_EQ(rig.step(event::Secured{}), "log in");
}

TEST(ConnectorRenewal, AStockServersConnectionIsReplacedByTheCookie) {
  Rig rig;
  rig.come_up();
  EXPECT_EQ(rig.step(event::Renew{AttachMode::kNone}), "drop, " + kBoth);
  (void)rig.step(event::Connected{kFirst});
  EXPECT_EQ(rig.step(event::Secured{}), "attach cookie");
}

TEST(ConnectorRenewal, AStopEndsItToo) {
  Rig rig;
  rig.come_up();
  (void)rig.step(event::Renew{AttachMode::kRoam});
  EXPECT_EQ(rig.step(event::Stop{}), "undo");
  EXPECT_EQ(rig.step(event::Tick{}), "");
  EXPECT_EQ(rig.step(event::RenewalFailed{network()}), "");
  EXPECT_EQ(rig.step(event::Undone{}), "finish");
}

TEST(Connector, ATunnelThatCarriesNothingIsAFailedAttempt) {
  Rig rig;
  (void)rig.step(event::Start{});
  (void)rig.step(event::Resolved{{kFirst, kSecond}});
  (void)rig.step(event::Connected{kFirst});
  (void)rig.step(event::Secured{});
  (void)rig.step(event::LoggedIn{"c", true});
  (void)rig.step(event::Attached{});
  (void)rig.step(event::Configured{});
  EXPECT_EQ(rig.tick(), "undo");
  EXPECT_EQ(rig.connector.last_error()->code, ErrorCode::kNetwork);
}

}  // namespace
}  // namespace culvert::client
