// The control thread's decisions, with a recording kernel and a recording data thread.
#include "server/session_manager.h"

#include <gtest/gtest.h>

#include "common/base/text.h"
#include "tests/unit/tls/pki.h"

namespace culvert::server {
namespace {

using namespace std::chrono_literals;

// Carries out nothing; answers when told to, in order.
class FakeSystem final : public net::SystemOps {
 public:
  void submit(std::vector<net::SystemRequest> requests, Answers done) override {
    for (const auto& request : requests)
      log.push_back(net::describe(request));
    waiting.push_back([n = requests.size(), done = std::move(done)](bool ok) {
      std::vector<net::SystemAnswer> answers(n);
      if (!ok && n != 0) answers[0].error = fail(ErrorCode::kFailure, "no");
      done(answers);
    });
  }
  void undo_all(Finished done) override { done({}); }
  void answer(bool ok = true) {
    for (auto& one : std::exchange(waiting, {}))
      one(ok);
  }
  std::vector<std::string> log;
  std::vector<std::function<void(bool)>> waiting;
};

class FakeCarrier final : public Carrier {
 public:
  void attach(AttachRequest request) override { attached.push_back(std::move(request)); }
  void end(SessionId id, EndKind, std::string reason) override {
    ended.emplace_back(id, std::move(reason));
  }
  void forget(SessionId id) override { forgotten.push_back(id); }
  std::vector<AttachRequest> attached;
  std::vector<std::pair<SessionId, std::string>> ended;
  std::vector<SessionId> forgotten;
};

class SessionManagerTest : public ::testing::Test {
 protected:
  void SetUp() override { make(rules()); }

  static Rules rules() {
    Rules made;
    made.network.ipv4 = Prefix::parse("10.99.0.0/24").value();
    made.network.ipv6 = Prefix::parse("fd99::/64").value();
    made.session.cookie_timeout = 300s;
    made.session.max_per_user = 2;
    return made;
  }
  void make(Rules with) {
    auto made = SessionManager::create(
        {.system = system_, .carrier = carrier_, .device = "tun9", .now = [this] { return now_; }},
        std::move(with));
    ASSERT_TRUE(made);
    manager_ = std::move(*made);
  }

  static ProvenPeer peer(const std::string& user, int key = 1) {
    ProvenPeer made;
    made.certificate.common_name = user;
    made.certificate.attributes = {{"CN", user}};
    made.certificate.spki_sha256[0] = static_cast<std::byte>(key);
    made.remote = Endpoint::parse("198.51.100.7:1234").value();
    return made;
  }
  static ConnectRequest connect_request(const std::string& user, const std::string& cookie,
                                        int key = 1) {
    ConnectRequest request;
    request.peer = peer(user, key);
    request.offer.cookie = cookie;
    request.offer.full_ipv6 = true;
    return request;
  }

  LoginGrant login(const std::string& user) {
    auto answer = manager_->login(peer(user), "test");
    EXPECT_TRUE(answer.grant) << answer.refusal.text;
    return answer.grant.value_or(LoginGrant{});
  }
  // As far as the grant; the routes are answered with `ok`.
  Answer<ConnectGrant> connect(const std::string& user, const std::string& cookie, bool ok = true) {
    return connect(connect_request(user, cookie), ok);
  }
  Answer<ConnectGrant> connect(ConnectRequest request, bool ok = true) {
    std::optional<Answer<ConnectGrant>> result;
    manager_->connect(std::move(request),
                      [&](Answer<ConnectGrant> answer) { result = std::move(answer); });
    system_.answer(ok);
    EXPECT_TRUE(result);
    return result.value_or(Answer<ConnectGrant>{});
  }
  // All the way.
  Attachment bring_up(const std::string& user, const std::string& cookie) {
    const auto granted = connect(user, cookie);
    EXPECT_TRUE(granted.grant) << granted.refusal.text;
    if (!granted.grant) return {};
    manager_->attach(
        {.attachment = granted.grant->attachment, .socket = {}, .tls = {}, .leftover = {}});
    return granted.grant->attachment;
  }
  void event(const Attachment& attachment, DataEvent::Kind kind, std::string reason = "r") {
    DataEvent made;
    made.id = attachment.id;
    made.attachment = attachment.number;
    made.kind = kind;
    made.reason = std::move(reason);
    manager_->on_data_event(std::move(made));
    system_.answer();
  }
  const Session* session(SessionId id) { return manager_->table().find(id); }

  TimePoint now_{1h};
  FakeSystem system_;
  FakeCarrier carrier_;
  std::unique_ptr<SessionManager> manager_;
};

TEST_F(SessionManagerTest, ConnectGivesAddressesAndRoutesThemBeforeItAnswers) {
  const LoginGrant alice = login("alice");
  bool answered = false;
  manager_->connect(connect_request("alice", alice.cookie), [&](Answer<ConnectGrant> answer) {
    answered = true;
    ASSERT_TRUE(answer.grant);
    EXPECT_EQ(answer.grant->params.ipv4->to_string(), "10.99.0.2/24");
    EXPECT_EQ(answer.grant->params.ipv6->to_string(), "fd99::2/64");
  });
  EXPECT_FALSE(answered);
  ASSERT_EQ(system_.log.size(), 2U);
  EXPECT_NE(system_.log[0].find("10.99.0.2/32"), std::string::npos) << system_.log[0];
  EXPECT_NE(system_.log[1].find("fd99::2/128"), std::string::npos) << system_.log[1];
  system_.answer();
  EXPECT_TRUE(answered);
}

TEST_F(SessionManagerTest, CookieOfAnotherKeyOrUserIsRefused) {
  const LoginGrant alice = login("alice");
  for (const auto& request :
       {connect_request("alice", alice.cookie, 2), connect_request("mallory", alice.cookie, 1)}) {
    const auto answer = connect(request);
    ASSERT_FALSE(answer.grant);
    EXPECT_EQ(answer.refusal.reason, "foreign_cookie");
    EXPECT_TRUE(answer.refusal.final);
  }
  EXPECT_EQ(connect("alice", "00").refusal.reason, "unknown_cookie");
  EXPECT_TRUE(connect("alice", alice.cookie).grant);
}

TEST_F(SessionManagerTest, CookieIsNotKeptInTheClear) {
  const LoginGrant alice = login("alice");
  EXPECT_EQ(alice.cookie.size(), 64U);
  EXPECT_EQ(session(alice.id)->cookie_hash, tls::sha256(as_bytes(alice.cookie)));
}

TEST_F(SessionManagerTest, ReconnectKeepsAddressesAndReplacesTheConnection) {
  const LoginGrant alice = login("alice");
  const Attachment first = bring_up("alice", alice.cookie);
  system_.log.clear();
  const Attachment second = bring_up("alice", alice.cookie);
  EXPECT_TRUE(system_.log.empty());
  ASSERT_EQ(carrier_.attached.size(), 2U);
  EXPECT_EQ(carrier_.attached[0].inside, carrier_.attached[1].inside);
  EXPECT_EQ(first.id, second.id);
  // What the old connection still has to say concerns nobody.
  event(first, DataEvent::Kind::kChannelLost);
  EXPECT_EQ(session(alice.id)->state, SessionState::kAttached);
  event(first, DataEvent::Kind::kPeerEnded);
  EXPECT_EQ(session(alice.id)->state, SessionState::kAttached);
  event(second, DataEvent::Kind::kChannelLost);
  EXPECT_EQ(session(alice.id)->state, SessionState::kDetached);
}

TEST_F(SessionManagerTest, LostConnectionKeepsTheSessionForTheCookiesTime) {
  const LoginGrant alice = login("alice");
  event(bring_up("alice", alice.cookie), DataEvent::Kind::kChannelLost);
  now_ += 299s;
  manager_->tick();
  ASSERT_NE(session(alice.id), nullptr);
  now_ += 1s;
  manager_->tick();
  EXPECT_EQ(session(alice.id), nullptr);
  EXPECT_EQ(carrier_.forgotten, std::vector{alice.id});
  EXPECT_EQ(manager_->pool(Family::kV4)->used(), 0U);
  EXPECT_EQ(connect("alice", alice.cookie).refusal.reason, "unknown_cookie");
}

TEST_F(SessionManagerTest, DisconnectOfTheClientFreesEverythingAtOnce) {
  const LoginGrant alice = login("alice");
  const Attachment attachment = bring_up("alice", alice.cookie);
  system_.log.clear();
  event(attachment, DataEvent::Kind::kPeerEnded);
  EXPECT_EQ(session(alice.id), nullptr);
  EXPECT_EQ(system_.log.size(), 2U);
  EXPECT_EQ(manager_->pool(Family::kV6)->used(), 0U);
}

TEST_F(SessionManagerTest, KickedSessionHoldsItsAddressUntilTheConnectionIsGone) {
  const LoginGrant alice = login("alice");
  const Attachment attachment = bring_up("alice", alice.cookie);
  EXPECT_TRUE(manager_->end(alice.id, "kicked"));
  EXPECT_FALSE(manager_->end(alice.id, "again"));
  ASSERT_EQ(carrier_.ended.size(), 1U);
  EXPECT_EQ(carrier_.ended[0].second, "kicked");
  EXPECT_EQ(manager_->pool(Family::kV4)->used(), 1U);
  EXPECT_EQ(connect("alice", alice.cookie).refusal.reason, "unknown_cookie");
  event(attachment, DataEvent::Kind::kEnded);
  EXPECT_EQ(manager_->pool(Family::kV4)->used(), 0U);
}

TEST_F(SessionManagerTest, SessionEndedWhileItsRoutesAreSetIsNotAnsweredWithAGrant) {
  const LoginGrant alice = login("alice");
  std::optional<Answer<ConnectGrant>> answer;
  manager_->connect(connect_request("alice", alice.cookie),
                    [&](Answer<ConnectGrant> a) { answer = std::move(a); });
  EXPECT_TRUE(manager_->end(alice.id, "kicked"));
  system_.answer();
  ASSERT_TRUE(answer);
  EXPECT_FALSE(answer->grant);
}

TEST_F(SessionManagerTest, ConnectionThatComesAfterTheEndIsDropped) {
  const LoginGrant alice = login("alice");
  const auto granted = connect("alice", alice.cookie);
  EXPECT_TRUE(manager_->end(alice.id, "kicked"));
  manager_->attach(
      {.attachment = granted.grant->attachment, .socket = {}, .tls = {}, .leftover = {}});
  EXPECT_TRUE(carrier_.attached.empty());
}

TEST_F(SessionManagerTest, FailureToRouteEndsTheSessionAndReturnsTheAddresses) {
  const LoginGrant alice = login("alice");
  const auto answer = connect("alice", alice.cookie, false);
  EXPECT_FALSE(answer.grant);
  EXPECT_EQ(answer.refusal.reason, "no_route");
  EXPECT_FALSE(answer.refusal.final);
  EXPECT_EQ(manager_->pool(Family::kV4)->used(), 0U);
}

TEST_F(SessionManagerTest, AbandonedGrantLeavesTheSessionToItsCookie) {
  const LoginGrant alice = login("alice");
  bring_up("alice", alice.cookie);
  const auto granted = connect("alice", alice.cookie);
  manager_->abandon(granted.grant->attachment);
  EXPECT_EQ(session(alice.id)->state, SessionState::kDetached);
  EXPECT_EQ(carrier_.forgotten, std::vector{alice.id});
  EXPECT_TRUE(connect("alice", alice.cookie).grant);
}

// ---- gentle attaches ----------------------------------------------------------------------------

class GentleAttachTest : public SessionManagerTest {
 protected:
  void SetUp() override {
    auto made = SessionManager::create({.system = system_,
                                        .carrier = carrier_,
                                        .device = "tun9",
                                        .udp_port = 443,
                                        .now = [this] { return now_; }},
                                       rules());
    ASSERT_TRUE(made);
    manager_ = std::move(*made);
    alice_ = login("alice");
    const auto granted = connect(offer(wire::AttachMode::kNone));
    ASSERT_TRUE(granted.grant);
    first_ = granted.grant->attachment;
    app_id_ = granted.grant->params.dtls->app_id;
    attach(first_);
  }
  ConnectRequest offer(wire::AttachMode mode) const {
    ConnectRequest request = connect_request("alice", alice_.cookie);
    request.offer.features = {.roam = true, .rekey = true};
    request.offer.psk = wire::PskPosition::kOnly;
    request.offer.attach = mode;
    request.tls_version = "TLSv1.3";
    return request;
  }
  ConnectGrant granted(wire::AttachMode mode) {
    auto answer = connect(offer(mode));
    EXPECT_TRUE(answer.grant);
    return answer.grant.value_or(ConnectGrant{});
  }
  void attach(const Attachment& attachment) {
    manager_->attach({.attachment = attachment, .socket = {}, .tls = {}, .leftover = {}});
  }
  void dtls_is_up(bool up = true) {
    DataPlaneStats stats;
    stats.sessions.resize(1);
    stats.sessions[0].id = alice_.id;
    stats.sessions[0].dtls_cipher = up ? "PSK" : "";
    manager_->on_stats(stats);
  }
  const Session& now() { return *session(alice_.id); }

  LoginGrant alice_;
  Attachment first_;
  std::array<std::byte, 32> app_id_{};
};

TEST_F(GentleAttachTest, ARekeyTakesTheSessionOverAndItsAgeStays) {
  const auto since = now().connected_at;
  now_ += 50min;
  const ConnectGrant grant = granted(wire::AttachMode::kRekey);
  EXPECT_EQ(grant.params.attach, wire::AttachMode::kRekey);
  EXPECT_NE(grant.params.dtls->app_id, app_id_) << "the UDP channel gets new keys as well";
  attach(grant.attachment);
  ASSERT_EQ(carrier_.attached.size(), 2U);
  EXPECT_EQ(carrier_.attached[1].mode, wire::AttachMode::kRekey);
  EXPECT_EQ(now().connected_at, since);
  EXPECT_EQ(now().rekeys, 1U);
  // What is heard of the old connection from now on concerns nobody.
  event(first_, DataEvent::Kind::kChannelLost);
  EXPECT_EQ(now().state, SessionState::kAttached);
  event(grant.attachment, DataEvent::Kind::kChannelLost);
  EXPECT_EQ(now().state, SessionState::kDetached);
}

TEST_F(GentleAttachTest, NewKeysAreNoSignOfUse) {
  const TimePoint active = now().active_at;
  now_ += 50min;
  attach(granted(wire::AttachMode::kRekey).attachment);
  EXPECT_EQ(now().active_at, active);
}

TEST_F(GentleAttachTest, ARekeyThatComesToNothingLeavesTheConnectionAsItWas) {
  ConnectRequest request = offer(wire::AttachMode::kRekey);
  request.peer.remote = Endpoint::parse("198.51.100.9:99").value();
  const auto answer = connect(std::move(request));
  ASSERT_TRUE(answer.grant);
  manager_->abandon(answer.grant->attachment);
  EXPECT_EQ(now().state, SessionState::kAttached);
  EXPECT_EQ(now().remote.to_string(), "198.51.100.7:1234");
  EXPECT_EQ(now().dtls->app_id, app_id_);
  EXPECT_TRUE(carrier_.forgotten.empty());
  // Its events count again, and those of the number that was given away never do.
  const ConnectGrant next = granted(wire::AttachMode::kRekey);
  EXPECT_NE(next.attachment.number, answer.grant->attachment.number);
  attach(answer.grant->attachment);
  EXPECT_EQ(carrier_.attached.size(), 1U);
  manager_->abandon(next.attachment);
  event(first_, DataEvent::Kind::kChannelLost);
  EXPECT_EQ(now().state, SessionState::kDetached);
}

TEST_F(GentleAttachTest, TheOldConnectionMayGoBeforeTheNewOneIsHere) {
  const ConnectGrant grant = granted(wire::AttachMode::kRekey);
  event(first_, DataEvent::Kind::kChannelLost);
  EXPECT_EQ(now().state, SessionState::kAttached) << "it is on its way";
  attach(grant.attachment);
  EXPECT_EQ(carrier_.attached.size(), 2U);
  EXPECT_EQ(now().state, SessionState::kAttached);
}

TEST_F(GentleAttachTest, IfNeitherIsLeftTheSessionWaitsForItsCookie) {
  const ConnectGrant grant = granted(wire::AttachMode::kRekey);
  event(first_, DataEvent::Kind::kChannelLost);
  manager_->abandon(grant.attachment);
  EXPECT_EQ(now().state, SessionState::kDetached);
  EXPECT_TRUE(carrier_.forgotten.empty()) << "DTLS may carry packets";
}

TEST_F(GentleAttachTest, AGoodbyeOnTheOldConnectionEndsTheSession) {
  const ConnectGrant grant = granted(wire::AttachMode::kRekey);
  event(first_, DataEvent::Kind::kPeerEnded);
  EXPECT_EQ(session(alice_.id), nullptr);
  attach(grant.attachment);
  EXPECT_EQ(carrier_.attached.size(), 1U);
}

TEST_F(GentleAttachTest, ASecondRekeyBeforeTheFirstIsHereStillBuildsOnTheOldConnection) {
  const ConnectGrant second = granted(wire::AttachMode::kRekey);
  const ConnectGrant third = granted(wire::AttachMode::kRekey);
  EXPECT_EQ(third.params.attach, wire::AttachMode::kRekey);
  attach(second.attachment);
  EXPECT_EQ(carrier_.attached.size(), 1U) << "worth nothing any more";
  manager_->abandon(third.attachment);
  EXPECT_EQ(now().attachment, first_.number);
}

TEST_F(GentleAttachTest, ARekeyNeedsAConnection) {
  event(first_, DataEvent::Kind::kChannelLost);
  EXPECT_EQ(granted(wire::AttachMode::kRekey).params.attach, wire::AttachMode::kNone);
}

TEST_F(GentleAttachTest, BothConnectionsMustHaveAgreedOnIt) {
  ConnectRequest plain = offer(wire::AttachMode::kNone);
  plain.offer.features = {.roam = true};
  const auto without = connect(std::move(plain));
  attach(without.grant->attachment);
  EXPECT_EQ(granted(wire::AttachMode::kRekey).params.attach, wire::AttachMode::kNone);
}

TEST_F(GentleAttachTest, RoamingKeepsTheUdpChannelAndItsName) {
  dtls_is_up();
  event(first_, DataEvent::Kind::kChannelLost);
  EXPECT_EQ(now().state, SessionState::kDetached);
  dtls_is_up();
  const ConnectGrant grant = granted(wire::AttachMode::kRoam);
  EXPECT_EQ(grant.params.attach, wire::AttachMode::kRoam);
  EXPECT_EQ(grant.params.dtls->app_id, app_id_);
  attach(grant.attachment);
  EXPECT_EQ(carrier_.attached[1].mode, wire::AttachMode::kRoam);
  EXPECT_EQ(now().state, SessionState::kAttached);
  EXPECT_EQ(now().channel, "dtls");
  EXPECT_FALSE(now().dtls_cipher.empty());
  EXPECT_EQ(now().roams, 1U);
}

TEST_F(GentleAttachTest, RoamingBuildsOnTheUdpChannelThatIsThere) {
  dtls_is_up();
  (void)granted(wire::AttachMode::kRekey);  // its App-ID is nobody's yet
  EXPECT_EQ(granted(wire::AttachMode::kRoam).params.dtls->app_id, app_id_);
}

TEST_F(GentleAttachTest, RoamingNeedsALivingUdpChannel) {
  const auto anew = granted(wire::AttachMode::kRoam);
  EXPECT_EQ(anew.params.attach, wire::AttachMode::kNone);
  EXPECT_NE(anew.params.dtls->app_id, app_id_);
  attach(anew.attachment);
  dtls_is_up();
  ConnectRequest without_udp = offer(wire::AttachMode::kRoam);
  without_udp.offer.psk = wire::PskPosition::kNone;
  EXPECT_EQ(connect(std::move(without_udp)).grant->params.attach, wire::AttachMode::kNone);
}

TEST_F(GentleAttachTest, WhoeverRoamsInVainKeepsHisUdpChannelForAnotherTry) {
  dtls_is_up();
  event(first_, DataEvent::Kind::kChannelLost);
  dtls_is_up();
  manager_->abandon(granted(wire::AttachMode::kRoam).attachment);
  EXPECT_EQ(now().state, SessionState::kDetached);
  EXPECT_TRUE(carrier_.forgotten.empty());
  EXPECT_EQ(granted(wire::AttachMode::kRoam).params.attach, wire::AttachMode::kRoam);
}

TEST_F(GentleAttachTest, AKickDuringARekeyEndsTheSession) {
  const ConnectGrant grant = granted(wire::AttachMode::kRekey);
  EXPECT_TRUE(manager_->end(alice_.id, "kicked"));
  ASSERT_EQ(carrier_.ended.size(), 1U);
  attach(grant.attachment);
  EXPECT_EQ(carrier_.attached.size(), 1U);
  event(first_, DataEvent::Kind::kEnded);
  EXPECT_EQ(session(alice_.id), nullptr);
}

TEST_F(SessionManagerTest, UserAtHisLimitIsRefusedAtLoginAndAtConnect) {
  const LoginGrant third = login("alice");
  for (int i = 0; i < 2; ++i)
    bring_up("alice", login("alice").cookie);
  const auto refused = manager_->login(peer("alice"), "test");
  ASSERT_FALSE(refused.grant);
  EXPECT_EQ(refused.refusal.reason, "too_many_sessions");
  EXPECT_FALSE(connect("alice", third.cookie).grant);
  login("bob");
  EXPECT_EQ(manager_->logins().refused.at("too_many_sessions"), 2U);
}

TEST_F(SessionManagerTest, SessionWithoutConnectionGivesWayToANewOne) {
  const LoginGrant lost = login("alice");
  event(bring_up("alice", lost.cookie), DataEvent::Kind::kChannelLost);
  bring_up("alice", login("alice").cookie);
  bring_up("alice", login("alice").cookie);
  EXPECT_EQ(session(lost.id), nullptr);
}

TEST_F(SessionManagerTest, LoginsThatAreNeverUsedDontPileUp) {
  for (int i = 0; i < 100; ++i)
    login("alice");
  EXPECT_LE(manager_->table().size(), 8U);
}

TEST_F(SessionManagerTest, IdleSessionIsEnded) {
  Rules with = rules();
  with.session.idle_timeout = 60s;
  make(with);
  const LoginGrant alice = login("alice");
  bring_up("alice", alice.cookie);
  DataPlaneStats stats;
  stats.sessions.resize(1);
  stats.sessions[0].id = alice.id;
  stats.sessions[0].counters.rx_packets = 5;
  now_ += 59s;
  manager_->on_stats(stats);
  now_ += 59s;
  manager_->on_stats(stats);
  EXPECT_TRUE(carrier_.ended.empty());
  now_ += 1s;
  manager_->on_stats(stats);
  EXPECT_EQ(carrier_.ended.size(), 1U);
}

TEST_F(SessionManagerTest, CountersSurviveTheDataThreadForgettingTheSession) {
  const LoginGrant alice = login("alice");
  bring_up("alice", alice.cookie);
  DataPlaneStats stats;
  stats.sessions.resize(1);
  stats.sessions[0].id = alice.id;
  stats.sessions[0].counters.rx_packets = 5;
  manager_->on_stats(stats);
  manager_->abandon(connect("alice", alice.cookie).grant->attachment);
  bring_up("alice", alice.cookie);
  stats.sessions[0].counters.rx_packets = 2;
  manager_->on_stats(stats);
  EXPECT_EQ(session(alice.id)->counters.rx_packets, 7U);
}

TEST_F(SessionManagerTest, FixedAddressAndNetworksAreTheUsers) {
  Rules with = rules();
  User alice;
  alice.name = "alice";
  alice.ipv4 = IpAddress::parse("10.99.0.77").value();
  alice.networks = {Prefix::parse("192.168.7.0/24").value()};
  with.users["alice"] = alice;
  make(with);
  const auto first = bring_up("alice", login("alice").cookie);
  EXPECT_EQ(session(first.id)->ipv4, alice.ipv4);
  EXPECT_EQ(session(first.id)->inside().size(), 3U);
  // A second device cannot have them as well, ...
  const auto second = bring_up("alice", login("alice").cookie);
  EXPECT_NE(session(second.id)->ipv4, alice.ipv4);
  EXPECT_TRUE(session(second.id)->networks.empty());
  // ... until the first is away.
  event(first, DataEvent::Kind::kChannelLost);
  event(second, DataEvent::Kind::kPeerEnded);
  const auto third = bring_up("alice", login("alice").cookie);
  EXPECT_EQ(session(third.id)->ipv4, alice.ipv4);
  EXPECT_EQ(session(third.id)->networks, alice.networks);
}

TEST_F(SessionManagerTest, AFamilyWithoutNetworksDoesNotGoIntoTheTunnelAsAWhole) {
  Rules with = rules();
  with.network.routes = {Prefix::parse("10.20.0.0/16").value()};
  make(std::move(with));
  const auto answer = connect("alice", login("alice").cookie);
  ASSERT_TRUE(answer.grant);
  const std::vector<Prefix> expected{Prefix::parse("10.20.0.0/16").value(),
                                     Prefix::parse("fd99::/64").value()};
  EXPECT_EQ(answer.grant->params.split_include, expected);

  make(rules());
  EXPECT_TRUE(connect("bob", login("bob").cookie).grant->params.split_include.empty());
}

TEST_F(SessionManagerTest, OnlyFamiliesThatTheClientTakesAreGiven) {
  const LoginGrant alice = login("alice");
  ConnectRequest request = connect_request("alice", alice.cookie);
  request.offer.full_ipv6 = false;
  const auto answer = connect(std::move(request));
  ASSERT_TRUE(answer.grant);
  EXPECT_TRUE(answer.grant->params.ipv4);
  EXPECT_FALSE(answer.grant->params.ipv6);
  ConnectRequest nothing = connect_request("bob", login("bob").cookie);
  nothing.offer.want_ipv4 = nothing.offer.want_ipv6 = false;
  EXPECT_EQ(connect(std::move(nothing)).refusal.reason, "no_address");
}

TEST_F(SessionManagerTest, ReloadEndsWhomTheNewStateForbidsAndNobodyElse) {
  const tls::Identity ca = tls::make_ca("CA");
  const tls::Identity alice = tls::make_client(ca, "alice");
  const tls::Identity bob = tls::make_client(ca, "bob");
  const tls::Identity server = tls::make_server(ca, {"vpn.example.com"});
  const auto config = [&](const std::vector<std::string>& revoked) {
    tls::TlsOptions options;
    options.role = tls::Role::kServer;
    options.certificate_chain_pem = server.certificate;
    options.private_key_pem = server.key.clone();
    options.trusted_ca_pem = ca.certificate;
    options.crl_pem = tls::make_crl(ca, revoked);
    options.crl_required = true;
    return tls::TlsConfig::build(options).value();
  };
  // recheck() wants DER: what a handshake would have left.
  const auto der_of = [](const std::string& pem) {
    std::string base64;
    for (const std::string_view line : split(pem, '\n')) {
      if (line.rfind("-----", 0) != 0) base64 += trim(line);
    }
    static constexpr std::string_view kDigits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::vector<std::byte> der;
    uint32_t bits = 0;
    int count = 0;
    for (const char c : base64) {
      if (c == '=') break;
      bits = bits << 6 | static_cast<uint32_t>(kDigits.find(c));
      count += 6;
      if (count < 8) continue;
      count -= 8;
      der.push_back(static_cast<std::byte>(bits >> count & 0xff));
    }
    return der;
  };
  const auto come_in = [&](const tls::Identity& who) {
    ProvenPeer proven;
    proven.certificate = tls::read_certificate(who.certificate).value();
    proven.chain = {der_of(who.certificate)};
    proven.remote = peer("x").remote;
    const auto granted = manager_->login(proven, "test");
    ConnectRequest request;
    request.peer = proven;
    request.offer.cookie = granted.grant->cookie;
    const auto connected = connect(std::move(request));
    manager_->attach(
        {.attachment = connected.grant->attachment, .socket = {}, .tls = {}, .leftover = {}});
    return connected.grant->attachment;
  };
  const Attachment of_alice = come_in(alice);
  const Attachment of_bob = come_in(bob);
  EXPECT_TRUE(manager_->apply(rules(), *config({})).empty());
  event(of_alice, DataEvent::Kind::kChannelLost);
  EXPECT_EQ(manager_->apply(rules(), *config({alice.certificate})), std::vector{of_alice.id});
  EXPECT_EQ(session(of_alice.id), nullptr);
  EXPECT_EQ(session(of_bob.id)->state, SessionState::kAttached);

  Rules strict = rules();
  strict.unknown_users = UnknownUsers::kRefuse;
  EXPECT_EQ(manager_->apply(strict, *config({})), std::vector{of_bob.id});
}

}  // namespace
}  // namespace culvert::server
