// What one run of the server leaves to the next.
#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "server/session_manager.h"
#include "tests/unit/tls/pki.h"

namespace culvert::server {
namespace {

using namespace std::chrono_literals;

class QuietSystem final : public net::SystemOps {
 public:
  void submit(std::vector<net::SystemRequest> requests, Answers done) override {
    done(std::vector<net::SystemAnswer>(requests.size()));
  }
  void undo_all(Finished done) override { done({}); }
};

class QuietCarrier final : public Carrier {
 public:
  void attach(AttachRequest /*request*/) override {}
  void end(SessionId id, EndKind kind, std::string /*reason*/) override {
    ended.emplace_back(id, kind);
  }
  void forget(SessionId /*id*/) override {}
  std::vector<std::pair<SessionId, EndKind>> ended;
};

class MemoryStore final : public Store {
 public:
  void save(StoredSession session) override {
    last_id = std::max(last_id, session.id.value());
    const SessionId id = session.id;
    sessions[id] = std::move(session);
  }
  void remove(SessionId id) override { sessions.erase(id); }
  void note_lease(Lease lease) override { leases.push_back(std::move(lease)); }
  void note_alive(WallTime now) override { alive_at = now; }

  [[nodiscard]] StoredState state() const {
    StoredState made;
    for (const auto& entry : sessions)
      made.sessions.push_back(entry.second);
    made.leases = leases;
    made.last_id = last_id;
    made.alive_at = alive_at;
    return made;
  }

  std::map<SessionId, StoredSession> sessions;
  std::vector<Lease> leases;
  uint64_t last_id = 0;
  WallTime alive_at{};
};

// RFC 7468.
std::vector<std::byte> der_of(const std::string& pem) {
  std::vector<std::byte> der;
  const size_t begin = pem.find('\n') + 1;
  unsigned bits = 0, count = 0;
  for (const char c : pem.substr(begin, pem.find("-----END") - begin)) {
    constexpr std::string_view kAlphabet =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t value = kAlphabet.find(c);
    if (value == std::string_view::npos) continue;
    bits = bits << 6 | static_cast<unsigned>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    der.push_back(static_cast<std::byte>(bits >> count & 0xff));
  }
  return der;
}

class SessionRestoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    crl_ = tls::make_crl(ca_, {});
    start();
  }

  static Rules rules() {
    Rules made;
    made.network.ipv4 = Prefix::parse("10.99.0.0/24").value();
    made.network.ipv6 = Prefix::parse("fd99::/64").value();
    made.session.cookie_timeout = 300s;
    return made;
  }
  // Another run, with what the store holds.
  size_t start(Rules with = rules()) {
    tls::TlsOptions options;
    options.role = tls::Role::kServer;
    options.trusted_ca_pem = ca_.certificate;
    options.crl_pem = crl_;
    options.certificate_chain_pem = server_.certificate;
    options.private_key_pem = server_.key.clone();
    tls_ = tls::TlsConfig::build(options).value();
    manager_ = SessionManager::create({.system = system_,
                                       .carrier = carrier_,
                                       .device = "tun9",
                                       .udp_port = {},
                                       .now = [this] { return now_; }},
                                      std::move(with))
                   .value();
    return manager_->restore(store_, store_.state(), *tls_);
  }

  ProvenPeer peer(const tls::Identity& identity) {
    ProvenPeer made;
    made.certificate = tls::read_certificate(identity.certificate).value();
    made.chain = {der_of(identity.certificate)};
    made.remote = Endpoint::parse("198.51.100.7:1234").value();
    return made;
  }
  Answer<ConnectGrant> connect(const tls::Identity& identity, const std::string& cookie) {
    ConnectRequest request;
    request.peer = peer(identity);
    request.offer.cookie = cookie;
    request.offer.full_ipv6 = true;
    std::optional<Answer<ConnectGrant>> result;
    manager_->connect(std::move(request),
                      [&](Answer<ConnectGrant> answer) { result = std::move(answer); });
    return result.value();
  }
  std::string bring_up(const tls::Identity& identity) {
    const auto login = manager_->login(peer(identity), "test");
    EXPECT_TRUE(login.grant) << login.refusal.text;
    const auto granted = connect(identity, login.grant->cookie);
    EXPECT_TRUE(granted.grant) << granted.refusal.text;
    manager_->attach(
        {.attachment = granted.grant->attachment, .socket = {}, .tls = {}, .leftover = {}});
    return login.grant->cookie;
  }
  const Session& only_session() {
    EXPECT_EQ(manager_->table().size(), 1U);
    return *manager_->table().find(manager_->table().ids().at(0));
  }

  tls::Identity ca_ = tls::make_ca("CA");
  tls::Identity server_ = tls::make_server(ca_, {"vpn.example.com"});
  tls::Identity alice_ = tls::make_client(ca_, "alice");
  tls::Identity bob_ = tls::make_client(ca_, "bob");
  std::string crl_;
  std::shared_ptr<const tls::TlsConfig> tls_;
  TimePoint now_{100h};
  QuietSystem system_;
  QuietCarrier carrier_;
  MemoryStore store_;
  std::unique_ptr<SessionManager> manager_;
};

TEST_F(SessionRestoreTest, ACookieIsGoodInTheNextRunAndKeepsItsAddresses) {
  bring_up(bob_);
  const std::string cookie = bring_up(alice_);
  const SessionId id = manager_->table().ids().at(1);
  const auto ipv4 = manager_->table().find(id)->ipv4;
  EXPECT_EQ(start(), 2U);
  const Session& waiting = *manager_->table().find(id);
  EXPECT_EQ(waiting.state, SessionState::kDetached);
  EXPECT_EQ(waiting.user, "alice");
  const auto again = connect(alice_, cookie);
  ASSERT_TRUE(again.grant) << again.refusal.text;
  EXPECT_EQ(again.grant->attachment.id, id);
  EXPECT_EQ(again.grant->params.ipv4->address, ipv4);
  const auto login = manager_->login(peer(bob_), "test");
  EXPECT_GT(login.grant->id, id) << "ids are not used twice";
}

TEST_F(SessionRestoreTest, ACookieIsStillBoundToItsKey) {
  const std::string cookie = bring_up(alice_);
  start();
  EXPECT_FALSE(connect(bob_, cookie).grant);
  EXPECT_FALSE(connect(tls::make_client(ca_, "alice"), cookie).grant) << "another key";
}

TEST_F(SessionRestoreTest, WhatHasEndedStaysOver) {
  const std::string cookie = bring_up(alice_);
  ASSERT_TRUE(manager_->end(only_session().id, "kicked"));
  EXPECT_EQ(start(), 0U) << "also before the data thread has confirmed";
  EXPECT_FALSE(connect(alice_, cookie).grant);
}

TEST_F(SessionRestoreTest, ALoginWithoutAConnectionIsNotKept) {
  ASSERT_TRUE(manager_->login(peer(alice_), "test").grant);
  EXPECT_EQ(start(), 0U);
}

TEST_F(SessionRestoreTest, TheTimeWithoutAServerCounts) {
  bring_up(alice_);
  store_.alive_at = wall_now() - 200s;
  EXPECT_EQ(start(), 1U);
  now_ += 95s;  // the wall clock goes on meanwhile
  manager_->tick();
  EXPECT_EQ(manager_->table().size(), 1U);
  now_ += 6s;
  manager_->tick();
  EXPECT_EQ(manager_->table().size(), 0U);

  bring_up(alice_);
  store_.alive_at = wall_now() - 301s;
  EXPECT_EQ(start(), 0U);
  EXPECT_TRUE(store_.sessions.empty());
}

TEST_F(SessionRestoreTest, TheTimeBeforeTheEndCountsToo) {
  bring_up(alice_);
  DataEvent lost;
  lost.id = only_session().id;
  lost.attachment = only_session().attachment;
  lost.kind = DataEvent::Kind::kChannelLost;
  manager_->on_data_event(std::move(lost));
  ASSERT_TRUE(store_.sessions.begin()->second.expires);
  *store_.sessions.begin()->second.expires -= 250s;
  EXPECT_EQ(start(), 1U);
  now_ += 51s;
  manager_->tick();
  EXPECT_EQ(manager_->table().size(), 0U);
}

TEST_F(SessionRestoreTest, AClockThatWasSetBackLeavesNoMoreThanTheTimeout) {
  bring_up(alice_);
  store_.alive_at = wall_now() + 24h;
  EXPECT_EQ(start(), 1U);
  now_ += 301s;
  manager_->tick();
  EXPECT_EQ(manager_->table().size(), 0U);
}

TEST_F(SessionRestoreTest, WhomTheNewStateRefusesIsOut) {
  bring_up(alice_);
  bring_up(bob_);
  crl_ = tls::make_crl(ca_, {alice_.certificate});
  EXPECT_EQ(start(), 1U);
  EXPECT_EQ(only_session().user, "bob");
  Rules strict = rules();
  strict.unknown_users = UnknownUsers::kRefuse;
  EXPECT_EQ(start(strict), 0U);
}

TEST_F(SessionRestoreTest, AddressesThatBelongToOthersByNowAreNotTaken) {
  bring_up(alice_);
  Rules with = rules();
  User carol;
  carol.name = "carol";
  carol.ipv4 = only_session().ipv4;
  with.users["carol"] = carol;
  EXPECT_EQ(start(with), 0U);
  bring_up(alice_);
  Rules moved = rules();
  moved.network.ipv4 = Prefix::parse("10.98.0.0/24").value();
  EXPECT_EQ(start(moved), 0U);
  EXPECT_EQ(manager_->pool(Family::kV6)->used(), 0U);
}

TEST_F(SessionRestoreTest, UsersGetBackWhatTheyHadInAnEarlierRun) {
  bring_up(bob_);
  bring_up(alice_);
  const IpAddress had = *manager_->table().find(manager_->table().ids().at(1))->ipv4;
  for (const SessionId id : manager_->table().ids()) {
    DataEvent left;
    left.id = id;
    left.attachment = manager_->table().find(id)->attachment;
    left.kind = DataEvent::Kind::kPeerEnded;
    manager_->on_data_event(std::move(left));
  }
  start();
  bring_up(alice_);
  EXPECT_EQ(only_session().ipv4, had);
}

TEST_F(SessionRestoreTest, ASessionLastsNoLongerThanItMay) {
  Rules with = rules();
  with.session.max_lifetime = 1h;
  start(with);
  bring_up(alice_);
  const SessionId id = only_session().id;
  EXPECT_EQ(connect(alice_, "nonsense").refusal.reason, "unknown_cookie");
  now_ += 59min;
  manager_->tick();
  EXPECT_TRUE(carrier_.ended.empty());
  now_ += 1min;
  manager_->tick();
  ASSERT_EQ(carrier_.ended.size(), 1U);
  EXPECT_EQ(carrier_.ended[0], std::pair(id, EndKind::kKick));
}

TEST_F(SessionRestoreTest, ARestartDoesNotMakeASessionYounger) {
  Rules with = rules();
  with.session.max_lifetime = 1h;
  start(with);
  const std::string cookie = bring_up(alice_);
  store_.sessions.begin()->second.logged_in_at -= 50min;
  start(with);
  const auto again = connect(alice_, cookie);
  ASSERT_TRUE(again.grant);
  EXPECT_NEAR(static_cast<double>(again.grant->params.session_timeout->count()), 600, 5);
  now_ += 11min;
  manager_->tick();
  EXPECT_EQ(manager_->table().count(SessionState::kAttached), 0U);
}

TEST_F(SessionRestoreTest, AStockClientWithWornKeysIsAskedToComeAgain) {
  bring_up(alice_);
  DataPlaneStats stats;
  stats.sessions.resize(1);
  SessionStats& one = stats.sessions[0];
  one.id = only_session().id;
  one.tls_version = "TLSv1.3";
  one.tls_use.records = (uint64_t{1} << 23) - 1;
  manager_->on_stats(stats);
  EXPECT_TRUE(carrier_.ended.empty());
  ++one.tls_use.records;
  manager_->on_stats(stats);
  manager_->on_stats(stats);
  ASSERT_EQ(carrier_.ended.size(), 1U) << "once";
  EXPECT_EQ(carrier_.ended[0].second, EndKind::kClose);
  EXPECT_EQ(only_session().state, SessionState::kAttached) << "until the data thread confirms";
  one.tls_version = "TLSv1.2";
  one.tls_use = {.blocks = tunnel::kBlocksPerKey - 1, .records = UINT64_MAX};
  start();
  bring_up(bob_);
  manager_->on_stats(stats);
  EXPECT_EQ(carrier_.ended.size(), 1U);
}

}  // namespace
}  // namespace culvert::server
