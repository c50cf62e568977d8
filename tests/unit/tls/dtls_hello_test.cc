#include "common/tls/dtls_hello.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "common/base/text.h"

namespace culvert::tls {
namespace {

using Datagram = std::vector<std::byte>;

void append16(Datagram& to, size_t value) {
  to.push_back(static_cast<std::byte>(value >> 8));
  to.push_back(static_cast<std::byte>(value & 0xff));
}
void append(Datagram& to, const Datagram& what) {
  to.insert(to.end(), what.begin(), what.end());
}
Datagram bytes(std::initializer_list<unsigned> values) {
  Datagram all;
  for (const unsigned value : values)
    all.push_back(static_cast<std::byte>(value));
  return all;
}

// The first datagram of openconnect 9.01 (GnuTLS 3.7.9).
constexpr std::string_view kOpenconnectHello =
    "16feff0000000000000000009b0100008f000000000000008ffefd62b7fc955347215bc5ad02c2d6bace"
    "cc0b17da128c448539d0206cd6462d95c720b0badb50a8df7852067fdbbc3306c65d7f1201a6ac04cecd"
    "0bd5b7e0191882b000001000a9ccabc0a5008d00a8c0a4008c00ae01000035000d002200200401080908"
    "04040308070501080a0805050308080601080b080606030201020300230000ff01000100001c00024000";

// A ClientHello in its parts, each of which a test may spoil.
struct Hello {
  Datagram version = bytes({0xfe, 0xfd});
  Datagram random = Datagram(32, std::byte{0x11});
  Datagram session_id = Datagram(32, std::byte{0x22});
  Datagram cookie{};
  Datagram suites = bytes({0x00, 0xa9, 0xcc, 0xab, 0x00, 0xa8});
  Datagram compression = bytes({0});
  Datagram extensions = bytes({0xff, 0x01, 0x00, 0x01, 0x00});  // renegotiation_info
  bool has_extensions = true;
  unsigned type = 22, record_version = 0xfeff, epoch = 0, message = 1;
  size_t offset = 0;
  int fragment_change = 0;  // what the fragment is said to be longer than the message
  int length_change = 0;    // what the message is said to be longer than it is

  [[nodiscard]] Datagram body() const {
    Datagram out = version;
    append(out, random);
    for (const Datagram* part : {&session_id, &cookie}) {
      out.push_back(static_cast<std::byte>(part->size()));
      append(out, *part);
    }
    append16(out, suites.size());
    append(out, suites);
    out.push_back(static_cast<std::byte>(compression.size()));
    append(out, compression);
    if (has_extensions) {
      append16(out, extensions.size());
      append(out, extensions);
    }
    return out;
  }
  [[nodiscard]] Datagram datagram() const {
    const Datagram content = body();
    const size_t length = content.size() + static_cast<size_t>(length_change);
    Datagram out = bytes({type});
    append16(out, record_version);
    append16(out, epoch);
    append(out, bytes({0, 0, 0, 0, 3, 7}));
    append16(out, content.size() + 12);
    append(out, bytes({message, 0}));
    append16(out, length);
    append16(out, 1);  // message sequence
    out.push_back(std::byte{0});
    append16(out, offset);
    out.push_back(std::byte{0});
    append16(out, length + static_cast<size_t>(fragment_change));
    append(out, content);
    return out;
  }
};

TEST(DtlsHello, FindsTheAppIdAndTheCookie) {
  Hello hello;
  hello.cookie = Datagram(20, std::byte{0x33});
  const Datagram datagram = hello.datagram();
  const auto parsed = parse_client_hello(datagram);
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(0xfeff, parsed->record_version);
  EXPECT_EQ(0x307u, parsed->record_sequence);
  EXPECT_EQ(1u, parsed->message_sequence);
  EXPECT_TRUE(std::ranges::equal(hello.random, parsed->random));
  EXPECT_TRUE(std::ranges::equal(hello.cookie, parsed->cookie));
  EXPECT_TRUE(std::ranges::equal(hello.suites, parsed->cipher_suites));
  EXPECT_TRUE(std::ranges::equal(hello.session_id, *parsed->app_id()));
  EXPECT_EQ(datagram.data() + 60, parsed->session_id.data());
}

TEST(DtlsHello, FindsTheAppIdOfOpenconnect) {
  const Datagram datagram = from_hex(kOpenconnectHello).value();
  ASSERT_EQ(168u, datagram.size());
  EXPECT_EQ(RecordKind::kClientHello, first_record(datagram, 8).kind);
  const auto hello = parse_client_hello(datagram);
  ASSERT_TRUE(hello.has_value());
  const Datagram id =
      from_hex("b0badb50a8df7852067fdbbc3306c65d7f1201a6ac04cecd0bd5b7e0191882b0").value();
  EXPECT_TRUE(std::ranges::equal(id, *hello->app_id()));
  EXPECT_TRUE(hello->cookie.empty());
  EXPECT_EQ(16u, hello->cipher_suites.size());
}

TEST(DtlsHello, AnotherSessionIdIsNoAppId) {
  for (const size_t size : {0, 1, 31}) {
    Hello hello;
    hello.session_id.resize(size);
    const Datagram datagram = hello.datagram();
    ASSERT_TRUE(parse_client_hello(datagram).has_value());
    EXPECT_FALSE(parse_client_hello(datagram)->app_id().has_value());
  }
}

TEST(DtlsHello, TakesWhatClientsDoDifferently) {
  const std::vector<std::function<void(Hello&)>> variants = {
      [](Hello& h) { h.record_version = 0xfefd; },
      [](Hello& h) { h.has_extensions = false; },
      [](Hello& h) { h.extensions.clear(); },
      [](Hello& h) { h.cookie.resize(255); },
      [](Hello& h) {
        h.compression = bytes({1, 0});
      },
      // 48018, the App-ID of old clients: not looked at.
      [](Hello& h) {
        h.extensions = bytes({0xbb, 0x92, 0, 3, 2, 7, 7});
      },
  };
  for (size_t i = 0; i < variants.size(); ++i) {
    Hello hello;
    variants[i](hello);
    const Datagram datagram = hello.datagram();
    const auto parsed = parse_client_hello(datagram);
    ASSERT_TRUE(parsed.has_value()) << i;
    EXPECT_TRUE(parsed->app_id().has_value()) << i;
  }
}

TEST(DtlsHello, RefusesWhatIsNotOneWholeConsistentClientHello) {
  const std::vector<std::function<void(Hello&)>> faults = {
      [](Hello& h) { h.type = 23; },
      [](Hello& h) { h.record_version = 0x0303; },
      [](Hello& h) { h.epoch = 1; },
      [](Hello& h) { h.message = 2; },
      [](Hello& h) { h.offset = 1; },
      [](Hello& h) { h.fragment_change = -1; },
      [](Hello& h) { h.fragment_change = 1; },
      [](Hello& h) { h.length_change = 1; },
      [](Hello& h) { h.length_change = -1; },
      [](Hello& h) {
        h.version = bytes({0xfe, 0xff});
      },  // DTLS 1.0 at most
      [](Hello& h) {
        h.version = bytes({0x03, 0x03});
      },
      [](Hello& h) { h.random.assign(32, std::byte{0}); },
      [](Hello& h) { h.session_id.resize(33); },
      [](Hello& h) { h.suites.clear(); },
      [](Hello& h) { h.suites.resize(3); },
      [](Hello& h) { h.compression.clear(); },
      [](Hello& h) { h.extensions.pop_back(); },
      [](Hello& h) { h.extensions.push_back(std::byte{0}); },
      [](Hello& h) { h.extensions[3] = std::byte{2}; },
  };
  for (size_t i = 0; i < faults.size(); ++i) {
    Hello hello;
    faults[i](hello);
    EXPECT_FALSE(parse_client_hello(hello.datagram()).has_value()) << i;
  }
}

TEST(DtlsHello, RefusesEveryTruncation) {
  Hello hello;
  hello.cookie.resize(32);
  const Datagram datagram = hello.datagram();
  for (size_t size = 0; size < datagram.size(); ++size) {
    EXPECT_FALSE(parse_client_hello(Bytes(datagram).first(size)).has_value()) << size;
  }
}

TEST(DtlsHello, RefusesEveryWrongLengthInside) {
  Hello hello;
  hello.cookie.resize(32);
  const Datagram good = hello.datagram();
  for (const size_t at : {11, 12, 14, 15, 16, 22, 23, 24, 59, 92, 125, 126, 133, 135, 136, 140}) {
    for (const unsigned change : {0x01U, 0x80U}) {
      Datagram bad = good;
      bad[at] ^= static_cast<std::byte>(change);
      EXPECT_FALSE(parse_client_hello(bad).has_value()) << at;
    }
  }
}

// --- Records.

Datagram record(unsigned type, unsigned epoch, const Datagram& id, const Datagram& content) {
  Datagram out = bytes({type, 0xfe, 0xfd});
  append16(out, epoch);
  append(out, bytes({1, 2, 3, 4, 5, 6}));
  append(out, id);
  append16(out, content.size());
  append(out, content);
  return out;
}

TEST(DtlsRecordView, TellsTheKinds) {
  struct Case {
    unsigned type, epoch, first;
    RecordKind kind;
  };
  const Case cases[] = {
      {20, 0, 1, RecordKind::kChangeCipherSpec}, {21, 0, 1, RecordKind::kAlert},
      {22, 0, 1, RecordKind::kClientHello},      {22, 0, 16, RecordKind::kHandshake},
      {22, 1, 1, RecordKind::kHandshake},        {23, 1, 0, RecordKind::kApplication},
      {24, 1, 0, RecordKind::kInvalid},          {26, 1, 0, RecordKind::kInvalid},
      {0, 0, 0, RecordKind::kInvalid},
  };
  for (const Case& one : cases) {
    const Datagram datagram = record(one.type, one.epoch, {}, bytes({one.first, 0, 0}));
    const RecordView view = first_record(datagram, 8);
    EXPECT_EQ(one.kind, view.kind) << one.type;
    if (one.kind == RecordKind::kInvalid) continue;
    EXPECT_EQ(one.epoch, view.epoch);
    EXPECT_EQ(0x010203040506u, view.sequence);
    EXPECT_EQ(datagram.size(), view.size);
    EXPECT_TRUE(view.connection_id.empty());
  }
}

TEST(DtlsRecordView, FindsTheConnectionId) {
  const Datagram id = bytes({1, 2, 3, 4, 5, 6, 7, 8});
  const Datagram datagram = record(25, 1, id, Datagram(30));
  const RecordView view = first_record(datagram, 8);
  EXPECT_EQ(RecordKind::kConnectionId, view.kind);
  EXPECT_TRUE(std::ranges::equal(id, view.connection_id));
  EXPECT_EQ(13u + 8u + 30u, view.size);
  EXPECT_EQ(RecordKind::kInvalid, first_record(datagram, 0).kind);
}

TEST(DtlsRecordView, RefusesWhatIsNotThere) {
  for (const unsigned type : {23U, 25U}) {
    const Datagram id(type == 25 ? 8 : 0, std::byte{1});
    const Datagram whole = record(type, 1, id, Datagram(5, std::byte{1}));
    for (size_t size = 0; size < whole.size(); ++size) {
      EXPECT_EQ(RecordKind::kInvalid, first_record(Bytes(whole).first(size), 8).kind) << size;
    }
    EXPECT_EQ(RecordKind::kInvalid, first_record(record(type, 1, id, {}), 8).kind);
    Datagram tls = whole;
    tls[1] = std::byte{3};
    EXPECT_EQ(RecordKind::kInvalid, first_record(tls, 8).kind);
  }
}

TEST(DtlsRecordView, OfALoneRecordIsToldTheSameInLessTime) {
  const Datagram id = bytes({1, 2, 3, 4, 5, 6, 7, 8});
  const auto with_id = lone_record(record(25, 1, id, Datagram(30)), 8);
  ASSERT_TRUE(with_id);
  EXPECT_TRUE(with_id->has_cid);
  EXPECT_EQ(1u, with_id->epoch);
  EXPECT_EQ(0x010203040506u, with_id->sequence);
  EXPECT_EQ(21u, with_id->header);
  const Datagram plain = record(23, 258, {}, Datagram(30));
  const auto without = lone_record(plain, 8);
  ASSERT_TRUE(without);
  EXPECT_FALSE(without->has_cid);
  EXPECT_EQ(258u, without->epoch);
  EXPECT_EQ(13u, without->header);

  EXPECT_FALSE(lone_record(record(25, 1, id, Datagram(30)), 0)) << "no IDs are given";
  for (const unsigned type : {20U, 21U, 22U, 24U, 26U})
    EXPECT_FALSE(lone_record(record(type, 1, {}, Datagram(30)), 8)) << type;
  for (size_t size = 0; size < plain.size(); ++size)
    EXPECT_FALSE(lone_record(Bytes(plain).first(size), 8)) << size;
  Datagram two = plain;
  two.insert(two.end(), plain.begin(), plain.end());
  EXPECT_FALSE(lone_record(two, 8));
  EXPECT_FALSE(lone_record(record(25, 1, id, {}), 8));
  EXPECT_FALSE(lone_record(record(23, 1, {}, {}), 8));
}

TEST(DtlsRecordView, WholeRecordsEndWhereTheDamageBegins) {
  Datagram train = record(22, 0, {}, Datagram(10));
  const size_t one = train.size();
  append(train, record(25, 1, Datagram(8), Datagram(10)));
  const size_t two = train.size();
  append(train, record(23, 1, {}, Datagram(10)));
  EXPECT_EQ(train.size(), whole_records(train, 8));
  EXPECT_EQ(two, whole_records(Bytes(train).first(train.size() - 1), 8));
  EXPECT_EQ(two, whole_records(Bytes(train).first(two + 12), 8));
  EXPECT_EQ(one, whole_records(Bytes(train).first(two - 1), 8));
  EXPECT_EQ(one, whole_records(train, 0));
  EXPECT_EQ(0u, whole_records({}, 8));
}

}  // namespace
}  // namespace culvert::tls
