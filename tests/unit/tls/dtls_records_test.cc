// Records of an established DtlsSession: opened once, in any order, whichever way they take, and
// with connection IDs.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "common/tls/dtls_session.h"
#include "tests/unit/tls/dtls_pair.h"

namespace culvert::tls {
namespace {

struct DtlsRecords : testing::Test {
  DtlsRecords() {
    pair.shake_hands();
    EXPECT_TRUE(pair.both_done());
  }
  DtlsPair pair;
};

// Records are opened where they lie, but for the first and what may be a hidden alert: small ones
// with a connection ID. Nobody must be able to tell.
struct DtlsRecordOrder : testing::TestWithParam<std::tuple<bool, size_t>> {
  DtlsRecordOrder() : pair(std::move(with_cids() ? options.with_cids() : options)) {
    pair.shake_hands();
    EXPECT_TRUE(pair.both_done());
  }
  static bool with_cids() { return std::get<0>(GetParam()); }
  static std::string text(int number) {
    std::string text = std::to_string(number);
    return text + std::string(std::get<1>(GetParam()), '.');
  }

  DtlsPairOptions options;
  DtlsPair pair;
};
INSTANTIATE_TEST_SUITE_P(All, DtlsRecordOrder,
                         testing::Combine(testing::Bool(), testing::Values(0, 200)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param) ? "Cids" : "NoCids") +
                                  (std::get<1>(test.param) != 0 ? "Large" : "Small");
                         });

TEST_P(DtlsRecordOrder, RecordsAreOpenedOnce) {
  for (const int number : {1, 2, 3}) {
    const Datagram record = DtlsPair::seal(*pair.client, text(number));
    EXPECT_EQ(text(number), DtlsPair::open(*pair.server, record).text);
    EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, record).what);
  }
  EXPECT_EQ(3u, pair.server->records_received());
}

TEST_F(DtlsRecords, AreOpenedWhereTheyLie) {
  expect_both_ways(pair);
  Datagram record = DtlsPair::seal(*pair.client, "some text");
  Datagram other(record.size());
  const auto opened = pair.server->open(record, other);
  ASSERT_EQ(Opened::kOk, opened.what);
  EXPECT_EQ(record.data() + kDtlsRecordHeader + 8, opened.plaintext.data());
}

TEST_F(DtlsRecords, AreNotDisturbedByWhatIsAppended) {
  for (size_t extra = 1; extra < 40; ++extra) {
    Datagram record = DtlsPair::seal(*pair.client, "first");
    record.resize(record.size() + extra, std::byte{23});
    EXPECT_EQ("first", DtlsPair::open(*pair.server, record).text);
    // A whole record of another epoch, and then a piece: unauthenticated, and fatal to mbedTLS.
    Datagram forged(13 + 4 + extra % 13, std::byte{0});
    forged[0] = std::byte{23};
    store_be16(MutableBytes(forged).subspan(1), 0xfefd);
    forged[12] = std::byte{4};
    EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, forged).what);
  }
  expect_both_ways(pair);
}

TEST_P(DtlsRecordOrder, RecordsAreTakenOutOfOrderWithinAWindowAndOnlyTheNewestSaysSo) {
  std::vector<Datagram> records;
  records.reserve(5000);
  for (int i = 0; i < 5000; ++i)
    records.push_back(DtlsPair::seal(*pair.client, text(i)));
  EXPECT_TRUE(DtlsPair::open(*pair.server, records[4900]).newest);
  // 63 and 64: mbedTLS's own memory, and ours.
  for (const int age : {1, 63, 64, 65, 1000, 4095}) {
    const Datagram& record = records[static_cast<size_t>(4900 - age)];
    Datagram forged = record;
    forged.back() ^= std::byte{1};
    EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, forged).what) << age;
    const auto older = DtlsPair::open(*pair.server, record);
    EXPECT_EQ(text(4900 - age), older.text);
    EXPECT_FALSE(older.newest);
    for (const Datagram& again : {record, records[4900]})
      EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, again).what) << age;
  }
  EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, records[4900 - 4096]).what);
  EXPECT_TRUE(DtlsPair::open(*pair.server, records[4901]).newest);
  EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, records[4900 - 1000]).what);
}

TEST_P(DtlsRecordOrder, RecordsAreOpenedOnceWhateverTheirOrder) {
  std::vector<std::pair<int, Datagram>> records;
  records.reserve(3000);
  for (int i = 0; i < 3000; ++i)
    records.emplace_back(i, DtlsPair::seal(*pair.client, text(i)));
  std::shuffle(records.begin(), records.end(), std::minstd_rand(11));
  for (const auto& [number, record] : records)
    EXPECT_EQ(text(number), DtlsPair::open(*pair.server, record).text);
  for (const auto& [number, record] : records)
    EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, record).what) << number;
}

TEST_P(DtlsRecordOrder, RecordsAreNotOpenedWhenAnyByteIsChanged) {
  EXPECT_EQ(text(0), DtlsPair::carry(*pair.client, *pair.server, text(0)));
  const Datagram record = DtlsPair::seal(*pair.client, text(1));
  for (size_t at = 0; at < record.size(); ++at) {
    for (const int bit : {0, 7}) {
      Datagram changed = record;
      changed[at] ^= static_cast<std::byte>(1 << bit);
      // The low bits of the version, which may be FEFF or FEFD, are not looked at but
      // authenticated.
      EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, changed).what) << at;
    }
  }
  for (size_t size = 0; size < record.size(); ++size) {
    EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, Bytes(record).first(size)).what);
  }
  EXPECT_EQ(text(1), DtlsPair::open(*pair.server, record).text);
}

// Those that came together can't be told apart afterwards, so none of them is opened again.
TEST_F(DtlsRecords, OfATrainAreNotOpenedAgainOneByOne) {
  std::vector<Datagram> records;
  Datagram train;
  for (int i = 0; i < 3; ++i) {
    records.push_back(DtlsPair::seal(*pair.client, std::to_string(i)));
    train.insert(train.end(), records.back().begin(), records.back().end());
  }
  EXPECT_EQ("0", DtlsPair::open(*pair.server, train).text);
  while (pair.server->more())
    EXPECT_EQ(Opened::kOk, DtlsPair::open(*pair.server, {}).what);
  for (int i = 0; i < 200; ++i)
    EXPECT_EQ(Opened::kOk, DtlsPair::open(*pair.server, DtlsPair::seal(*pair.client, "more")).what);
  for (const Datagram& record : records)
    EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, record).what);
}

TEST_F(DtlsRecords, SeveralInADatagramComeOneByOne) {
  Datagram train;
  for (const char* text : {"one", "two", "three"}) {
    const Datagram record = DtlsPair::seal(*pair.client, text);
    train.insert(train.end(), record.begin(), record.end());
  }
  EXPECT_EQ("one", DtlsPair::open(*pair.server, train).text);
  ASSERT_TRUE(pair.server->more());
  EXPECT_EQ("two", DtlsPair::open(*pair.server, {}).text);
  ASSERT_TRUE(pair.server->more());
  EXPECT_EQ("three", DtlsPair::open(*pair.server, {}).text);
  EXPECT_FALSE(pair.server->more());
  EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, {}).what);
}

TEST_F(DtlsRecords, NeverExceedTheMtu) {
  pair.client->set_mtu(1280);
  EXPECT_EQ(1280u - pair.client->expansion(), pair.client->max_plaintext());
  EXPECT_EQ(37u, pair.client->expansion());
  Datagram out(2000);
  const std::string fits(pair.client->max_plaintext(), 'x');
  EXPECT_EQ(1280u, pair.client->seal(as_bytes(fits), out));
  EXPECT_EQ(0u, pair.client->seal(as_bytes(fits + "x"), out));
  EXPECT_EQ(0u, pair.client->seal({}, out));
  EXPECT_EQ(0u, pair.client->seal(as_bytes(fits), MutableBytes(out).first(1279)));
  pair.client->set_mtu(0);
  EXPECT_EQ(16384u, pair.client->max_plaintext());
  const std::string longest(16384, 'y');
  EXPECT_TRUE(longest == DtlsPair::carry(*pair.client, *pair.server, longest));
  EXPECT_EQ(2u, pair.client->records_sent());
}

TEST_F(DtlsRecords, AreNotOpenedIntoTooLittleRoom) {
  Datagram record = DtlsPair::seal(*pair.client, "some text");
  Datagram small(record.size() - 1);
  EXPECT_EQ(Opened::kNothing, pair.server->open(record, small).what);
  EXPECT_EQ("some text", DtlsPair::open(*pair.server, record).text);
}

TEST_F(DtlsRecords, AndTheirBlocksAreCounted) {
  pair.client->set_mtu(1472);
  DtlsPair::carry(*pair.client, *pair.server, std::string(1390, 'x'));
  DtlsPair::carry(*pair.client, *pair.server, "x");
  EXPECT_EQ(2u, pair.client->records_sent());
  EXPECT_EQ(2u, pair.server->records_received());
  EXPECT_EQ(88u + 2u, pair.client->blocks_sent());
  EXPECT_EQ(88u + 2u, pair.server->blocks_received());
  EXPECT_EQ(0u, pair.server->blocks_sent());
}

TEST_F(DtlsRecords, EndWithACloseNotify) {
  pair.client->close_notify();
  const Datagram alert(pair.client->output().begin(), pair.client->output().end());
  ASSERT_FALSE(alert.empty());
  EXPECT_EQ(Opened::kClosed, DtlsPair::open(*pair.server, alert).what);
  EXPECT_EQ(Opened::kClosed, DtlsPair::open(*pair.server, {}).what);
}

TEST_F(DtlsRecords, SurviveAnythingThatANetworkCanDoToThem) {
  std::minstd_rand random(7);
  std::vector<Datagram> seen;
  int opened = 0;
  for (int i = 0; i < 3000; ++i) {
    seen.push_back(DtlsPair::seal(*pair.client, "packet " + std::to_string(i)));
    Datagram mangled = seen[seen.size() - 1 - random() % std::min<size_t>(seen.size(), 70)];
    for (unsigned changes = random() % 4; changes > 0; --changes)
      mangled[random() % std::min<size_t>(mangled.size(), 30)] = static_cast<std::byte>(random());
    if (random() % 3 == 0) mangled.resize(random() % (mangled.size() + 20), std::byte{1});
    const auto result = DtlsPair::open(*pair.server, mangled);
    ASSERT_TRUE(result.what == Opened::kOk || result.what == Opened::kNothing) << i;
    opened += result.what == Opened::kOk;
  }
  EXPECT_GT(opened, 300);
  expect_both_ways(pair);
}

// After losses mbedTLS thinks the path has an MTU of 508 until application data comes.
TEST(DtlsSession, LossesInTheHandshakeDoNotLowerTheMtu) {
  DtlsPair pair;
  pair.fate = [](bool to_server, int number, const Datagram&) {
    return to_server && number < 3 ? 0 : 1;
  };
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done());
  EXPECT_EQ(1400u - 37u, pair.client->max_plaintext());
  const std::string full(pair.client->max_plaintext(), 'x');
  EXPECT_TRUE(full == DtlsPair::carry(*pair.client, *pair.server, full));
}

TEST(DtlsSession, SmallerBuffersCarryWhatTheyAreFor) {
  DtlsPairOptions options;
  options.server.largest_plaintext = 1500;
  DtlsPair pair(std::move(options));
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done());
  pair.server->set_mtu(0);
  EXPECT_EQ(2048u, pair.server->max_plaintext());
  const std::string full(2048, 'x');
  EXPECT_TRUE(full == DtlsPair::carry(*pair.server, *pair.client, full));
  pair.client->set_mtu(0);
  const std::string longer(9000, 'y');
  EXPECT_TRUE(longer == DtlsPair::carry(*pair.client, *pair.server, longer));
}

TEST(DtlsSession, ClientMayAskTheServerForSmallerRecords) {
  DtlsPairOptions options;
  options.client.largest_plaintext = 4000;
  options.mtu = 0;
  DtlsPair pair(std::move(options));
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done());
  EXPECT_EQ(4096u, pair.server->max_plaintext());
  EXPECT_EQ(4096u, pair.client->max_plaintext());
  expect_both_ways(pair);
}

// --- Connection IDs.

TEST(DtlsCid, ClientsRecordsCarryTheServersIdAndNotTheReverse) {
  DtlsPairOptions options;
  DtlsPair pair(std::move(options.with_cookies().with_cids()));
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done());
  const std::vector<std::byte> id(kServerCidSize, std::byte{0xc5});
  EXPECT_TRUE(std::ranges::equal(id, pair.client->peer_cid()));
  EXPECT_TRUE(std::ranges::equal(id, pair.server->own_cid()));
  EXPECT_TRUE(pair.client->own_cid().empty());
  EXPECT_TRUE(pair.server->peer_cid().empty());
  EXPECT_EQ(46u, pair.client->expansion());
  EXPECT_EQ(37u, pair.server->expansion());

  const Datagram up = DtlsPair::seal(*pair.client, "up");
  const RecordView record = first_record(up, kServerCidSize);
  EXPECT_EQ(RecordKind::kConnectionId, record.kind);
  EXPECT_TRUE(std::ranges::equal(id, record.connection_id));
  EXPECT_EQ(up.size(), record.size);
  EXPECT_EQ("up", DtlsPair::open(*pair.server, up).text);
  const Datagram down = DtlsPair::seal(*pair.server, "down");
  EXPECT_EQ(RecordKind::kApplication, first_record(down, 0).kind);
  EXPECT_EQ("down", DtlsPair::open(*pair.client, down).text);
}

// The session knows no addresses: a rebind is a datagram that the demultiplexer found by its ID.
TEST(DtlsCid, OnlyTheNewestAuthenticRecordMovesAClient) {
  DtlsPairOptions options;
  DtlsPair pair(std::move(options.with_cids()));
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done());
  const Datagram first = DtlsPair::seal(*pair.client, "from the old port");
  const Datagram second = DtlsPair::seal(*pair.client, "from the new port");
  Datagram forged = second;
  forged.back() ^= std::byte{1};
  EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, forged).what);
  EXPECT_TRUE(DtlsPair::open(*pair.server, second).newest);
  const auto late = DtlsPair::open(*pair.server, first);
  EXPECT_EQ(Opened::kOk, late.what);
  EXPECT_FALSE(late.newest);
}

TEST(DtlsCid, IsNotUsedUnlessBothWantIt) {
  for (const bool client_can : {false, true}) {
    DtlsPairOptions options;
    if (client_can) options.client.cid_size = 0;
    if (!client_can) options.server.cid_size = kServerCidSize;
    DtlsPair pair(std::move(options));
    pair.shake_hands();
    ASSERT_TRUE(pair.both_done());
    EXPECT_TRUE(pair.client->peer_cid().empty());
    EXPECT_TRUE(pair.server->own_cid().empty());
    EXPECT_EQ(37u, pair.client->expansion());
    expect_both_ways(pair);
  }
}

TEST(DtlsCid, RecordsForAnotherIdAreIgnored) {
  DtlsPairOptions options;
  DtlsPair pair(std::move(options.with_cids()));
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done());
  Datagram record = DtlsPair::seal(*pair.client, "mine");
  record[11] ^= std::byte{1};
  EXPECT_EQ(Opened::kNothing, DtlsPair::open(*pair.server, record).what);
  expect_both_ways(pair);
}

// Behind a connection ID they look like records of data.
TEST(DtlsCid, AlertsBetweenRecordsAreHeard) {
  DtlsPairOptions options;
  DtlsPair pair(std::move(options.with_cids()));
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done());
  const std::string large(200, '.');
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(large, DtlsPair::carry(*pair.client, *pair.server, large));
  pair.client->close_notify();
  const Bytes out = pair.client->output();
  const Datagram alert(out.begin(), out.end());
  EXPECT_EQ(Opened::kClosed, DtlsPair::open(*pair.server, alert).what);
}

TEST(DtlsCid, BothMayGiveOne) {
  DtlsPairOptions options;
  options.client.cid_size = 5;
  options.server.cid_size = kServerCidSize;
  DtlsPair pair(std::move(options));
  pair.shake_hands();
  ASSERT_TRUE(pair.both_done());
  EXPECT_EQ(5u, pair.server->peer_cid().size());
  EXPECT_EQ(5u, pair.client->own_cid().size());
  EXPECT_EQ(kServerCidSize, pair.client->peer_cid().size());
  expect_both_ways(pair);
}

}  // namespace
}  // namespace culvert::tls
