#include "common/tls/dtls_session.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/tls/dtls_pair.h"
#include "tests/unit/tls/pki.h"
#include "tests/unit/tls/tls_pair.h"

namespace culvert::tls {
namespace {

class DtlsHandshake : public testing::TestWithParam<std::tuple<bool, bool>> {
 protected:
  static DtlsPairOptions options() {
    DtlsPairOptions all;
    if (std::get<0>(GetParam())) all.with_cookies();
    if (std::get<1>(GetParam())) all.with_cids();
    return all;
  }
  static bool cookies() { return std::get<0>(GetParam()); }
};

TEST_P(DtlsHandshake, IsDoneInOneRoundTripMoreWithCookies) {
  DtlsPair pair(options());
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done());
  EXPECT_EQ(cookies() ? 1 : 0, pair.cookies_sent);
  EXPECT_EQ(0, pair.waits);
  EXPECT_FALSE(pair.client->deadline().has_value());
  EXPECT_FALSE(pair.server->deadline().has_value());
  expect_both_ways(pair);
}

TEST_P(DtlsHandshake, SurvivesTheLossOfAnyDatagram) {
  for (int lost = 0; lost < 4; ++lost) {
    for (const bool to_server : {false, true}) {
      DtlsPair pair(options());
      bool hit = false;
      pair.fate = [&](bool direction, int number, const Datagram&) {
        const bool drop = direction == to_server && number == lost;
        hit = hit || drop;
        return drop ? 0 : 1;
      };
      pair.shake_hands();
      ASSERT_TRUE(pair.both_done()) << to_server << lost;
      EXPECT_EQ(hit, pair.waits > 0);
      expect_both_ways(pair);
    }
  }
}

TEST_P(DtlsHandshake, SurvivesDuplicates) {
  DtlsPair pair(options());
  pair.fate = [](bool, int, const Datagram&) { return 3; };
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done());
  expect_both_ways(pair);
}

TEST_P(DtlsHandshake, SurvivesReordering) {
  DtlsPairOptions all = options();
  all.mtu = 256;  // so that flights are of several datagrams
  DtlsPair pair(std::move(all));
  pair.newest_first = true;
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done());
  expect_both_ways(pair);
}

TEST_P(DtlsHandshake, SurvivesANetworkThatIsBadInEveryWay) {
  int done = 0;
  for (unsigned seed = 1; seed <= 60; ++seed) {
    DtlsPair pair(options());
    std::minstd_rand random(seed);
    pair.fate = [&random](bool, int, const Datagram&) { return static_cast<int>(random() % 3); };
    pair.newest_first = seed % 2 == 0;
    pair.shake_hands();
    if (!pair.both_done()) continue;
    ++done;
    expect_both_ways(pair);
  }
  EXPECT_GE(done, 55);  // a third of the datagrams is lost; six tries are not always enough
}

TEST_P(DtlsHandshake, IgnoresWhatIsAppendedToADatagram) {
  DtlsPair pair(options());
  pair.fate = [&pair](bool to_server, int, const Datagram& datagram) {
    // mbedTLS itself never recovers from a remainder of less than a record header.
    Datagram longer = datagram;
    longer.resize(longer.size() + 5, std::byte{22});
    if (to_server && pair.server->deadline())
      pair.server_state = pair.server->handshake(pair.now, longer);
    if (!to_server) pair.client_state = pair.client->handshake(pair.now, longer);
    return 1;
  };
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done());
  expect_both_ways(pair);
}

// Whatever becomes of the handshake (nothing in it is authenticated before its end).
TEST_P(DtlsHandshake, SurvivesDamage) {
  std::minstd_rand random(11);
  for (int i = 0; i < 300; ++i) {
    DtlsPair pair(options());
    pair.fate = [&](bool to_server, int, const Datagram& datagram) {
      Datagram changed = datagram;
      changed[random() % changed.size()] = static_cast<std::byte>(random());
      if (random() % 4 == 0) changed.resize(random() % (changed.size() + 9) + 1);
      auto& state = to_server ? pair.server_state : pair.client_state;
      auto& session = to_server ? *pair.server : *pair.client;
      if (state == Handshake::kWaiting) state = session.handshake(pair.now, changed);
      return static_cast<int>(random() % 2);
    };
    pair.shake_hands();
    if (pair.both_done()) expect_both_ways(pair);
  }
}

INSTANTIATE_TEST_SUITE_P(All, DtlsHandshake, testing::Combine(testing::Bool(), testing::Bool()),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param) ? "Cookies" : "NoCookies") +
                                  (std::get<1>(test.param) ? "Cids" : "NoCids");
                         });

TEST(DtlsSession, RefusesAnotherKeyOnBothSidesAndSaysSo) {
  DtlsPairOptions options;
  options.client_psk = make_psk(2);
  DtlsPair pair(std::move(options));
  pair.shake_hands();
  EXPECT_EQ(Handshake::kFailed, pair.server_state);
  EXPECT_EQ(Handshake::kFailed, pair.client_state);
  EXPECT_EQ(ErrorCode::kAuthRefused, pair.server->error().code);
  EXPECT_EQ(ErrorCode::kAuthRefused, pair.client->error().code) << pair.client->error().message();
  EXPECT_FALSE(pair.client->handshake_done());
}

TEST(DtlsSession, GivesUpAfterTheConfiguredTime) {
  DtlsPair pair;
  const TimePoint begin = pair.now;
  int tries = 0;
  pair.fate = [&tries](bool, int, const Datagram&) {
    ++tries;
    return 0;
  };
  pair.shake_hands();
  EXPECT_EQ(Handshake::kFailed, pair.client_state);
  EXPECT_EQ(ErrorCode::kNetwork, pair.client->error().code);
  EXPECT_EQ(5, tries);
  EXPECT_EQ(std::chrono::milliseconds(12400), pair.now - begin);
  EXPECT_FALSE(pair.client->deadline().has_value());
}

TEST(DtlsSession, RepeatsNothingBeforeItsTime) {
  DtlsPair pair;
  pair.client->handshake(pair.now);
  ASSERT_FALSE(pair.client->output().empty());
  pair.client->pop_output();
  EXPECT_EQ(pair.now + std::chrono::milliseconds(400), pair.client->deadline());
  EXPECT_EQ(Handshake::kWaiting,
            pair.client->on_timeout(pair.now + std::chrono::milliseconds(399)));
  EXPECT_TRUE(pair.client->output().empty());
  EXPECT_EQ(Handshake::kWaiting,
            pair.client->on_timeout(pair.now + std::chrono::milliseconds(400)));
  EXPECT_FALSE(pair.client->output().empty());
}

TEST(DtlsSession, ServerBeginsOnlyWithItsOwnAppId) {
  DtlsPair pair;
  pair.client->handshake(pair.now);
  Datagram hello(pair.client->output().begin(), pair.client->output().end());
  EXPECT_EQ(pair.app_id, parse_client_hello(hello)->app_id());
  Datagram other = hello;
  other[60] ^= std::byte{1};
  const Datagram garbage(100, std::byte{22});
  for (const Datagram& wrong : {other, garbage, Datagram()}) {
    EXPECT_EQ(Handshake::kWaiting, pair.server->handshake(pair.now, wrong));
    EXPECT_TRUE(pair.server->output().empty());
    EXPECT_FALSE(pair.server->deadline().has_value());
  }
  EXPECT_EQ(Handshake::kWaiting, pair.server->handshake(pair.now, hello));
  EXPECT_FALSE(pair.server->output().empty());
}

TEST(DtlsSession, ServerWithCookiesBeginsOnlyWithOne) {
  DtlsPairOptions options;
  DtlsPair pair(std::move(options.with_cookies()));
  pair.client->handshake(pair.now);
  EXPECT_EQ(Handshake::kWaiting, pair.server->handshake(pair.now, pair.client->output()));
  EXPECT_TRUE(pair.server->output().empty());
}

TEST(DtlsSession, EstablishedServerIgnoresALateClientHello) {
  for (const bool cookies : {false, true}) {
    DtlsPairOptions options;
    if (cookies) options.with_cookies();
    DtlsPair pair(std::move(options));
    std::vector<Datagram> hellos;
    pair.fate = [&hellos](bool to_server, int, const Datagram& datagram) {
      if (to_server && parse_client_hello(datagram)) hellos.push_back(datagram);
      return 1;
    };
    pair.shake_hands();
    ASSERT_TRUE(pair.both_done());
    for (const bool after_data : {false, true}) {
      for (const Datagram& hello : hellos) {
        EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, hello).what);
        EXPECT_TRUE(pair.server->output().empty()) << after_data;
      }
      expect_both_ways(pair);
    }
  }
}

TEST(DtlsSession, EstablishedSessionIgnoresForgedPlaintext) {
  DtlsPair pair;
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done());
  for (const unsigned type : {20U, 21U, 22U, 23U, 25U, 99U}) {
    for (const unsigned epoch : {0U, 1U, 2U}) {
      Datagram forged(13 + 2 + 30, std::byte{0});
      forged[0] = static_cast<std::byte>(type);
      store_be16(MutableBytes(forged).subspan(1), 0xfefd);
      forged[4] = static_cast<std::byte>(epoch);
      forged[10] = std::byte{77};
      for (const size_t length : {size_t{2}, size_t{32}, size_t{40}}) {
        store_be16(MutableBytes(forged).subspan(11), static_cast<uint16_t>(length));
        forged[13] = std::byte{2};  // as an alert: fatal
        EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, forged).what);
        EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.client, forged).what);
      }
    }
  }
  expect_both_ways(pair);
}

TEST(DtlsSession, RepeatsItsLastMessageForAPeerThatMissedIt) {
  DtlsPair pair;
  bool lost = false;
  pair.fate = [&](bool to_server, int, const Datagram&) {
    const bool last = !to_server && pair.server->handshake_done() && !lost;
    lost = lost || last;
    return last ? 0 : 1;
  };
  pair.shake_hands();
  EXPECT_TRUE(lost);
  ASSERT_TRUE(pair.both_done());
  EXPECT_GE(pair.waits, 1);
  expect_both_ways(pair);
}

TEST(DtlsSession, KeyFromATlsConnectionFits) {
  const Identity ca = make_ca("Test CA");
  const Identity server = make_server(ca, {"vpn.example.com"});
  const Identity client = make_client(ca, "alice");
  const auto config = [&ca](Role role, const Identity& own) {
    TlsOptions options;
    options.role = role;
    options.certificate_chain_pem = own.certificate;
    options.private_key_pem = own.key.clone();
    options.trusted_ca_pem = ca.certificate;
    return *TlsConfig::build(options);
  };
  Pair tls(config(Role::kClient, client), config(Role::kServer, server), "vpn.example.com");
  tls.shake_hands();
  ASSERT_TRUE(tls.both_done());
  DtlsPairOptions options;
  ASSERT_TRUE(tls.client.session->export_key(kDtlsPskLabel, options.client_psk.bytes()));
  ASSERT_TRUE(tls.server.session->export_key(kDtlsPskLabel, options.server_psk.bytes()));
  DtlsPair pair(std::move(options));
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done());
  expect_both_ways(pair);
}

TEST(DtlsSession, PrefersAes128UnlessAskedForMore) {
  DtlsPair usual;
  usual.shake_hands();
  EXPECT_EQ("TLS-PSK-WITH-AES-128-GCM-SHA256", usual.server->cipher());
  for (const Role strict : {Role::kClient, Role::kServer}) {
    DtlsPairOptions options;
    (strict == Role::kClient ? options.client : options.server).strength_256 = true;
    DtlsPair pair(std::move(options));
    pair.shake_hands();
    ASSERT_TRUE(pair.both_done());
    EXPECT_EQ("TLS-PSK-WITH-AES-256-GCM-SHA384", pair.client->cipher());
    expect_both_ways(pair);
  }
}

TEST(DtlsSession, RefusesOptionsThatCannotBe) {
  DtlsOptions options;
  options.cid_size = 33;
  EXPECT_FALSE(DtlsConfig::build(options));
  options.cid_size = 8;
  options.last_retransmission = options.first_retransmission / 2;
  EXPECT_FALSE(DtlsConfig::build(options));
  options.last_retransmission = std::chrono::seconds(1);
  const auto config = DtlsConfig::build(options);
  ASSERT_TRUE(config.has_value());
  const auto make = [&config](size_t psk, size_t cid, uint16_t mtu) {
    DtlsSessionOptions session;
    session.psk = Secret(psk);
    session.own_cid.resize(cid);
    session.mtu = mtu;
    return DtlsSession::create(*config, std::move(session)).has_value();
  };
  EXPECT_TRUE(make(32, 8, 1400));
  EXPECT_FALSE(make(31, 8, 1400));
  EXPECT_FALSE(make(32, 7, 1400));
  EXPECT_FALSE(make(32, 8, 100));
}

}  // namespace
}  // namespace culvert::tls
