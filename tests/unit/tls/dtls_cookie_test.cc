#include "common/tls/dtls_cookie.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/unit/tls/dtls_pair.h"

namespace culvert::tls {
namespace {

using std::chrono::seconds;

struct DtlsCookie : testing::Test {
  DtlsCookie() : responder(std::move(*DtlsCookieResponder::create(key))) {
    pair.client->handshake(pair.now);
    first.assign(pair.client->output().begin(), pair.client->output().end());
    pair.client->pop_output();
    Datagram room(100);
    const MutableBytes answer =
        responder->answer(*parse_client_hello(first), address, pair.now, room);
    request.assign(answer.begin(), answer.end());
    pair.client->handshake(pair.now, request);
    second.assign(pair.client->output().begin(), pair.client->output().end());
  }
  bool proven(const Datagram& datagram) {
    return responder->proves_address(*parse_client_hello(datagram), address, pair.now);
  }

  const std::shared_ptr<const DtlsCookieKey> key = DtlsCookieKey::generate();
  std::unique_ptr<DtlsCookieResponder> responder;
  DtlsPair pair;  // its client
  const std::vector<std::byte> address = bytes_from("192.0.2.1:1000");
  Datagram first;    // ClientHello
  Datagram request;  // HelloVerifyRequest
  Datagram second;   // ClientHello with the cookie
};

TEST_F(DtlsCookie, IsProofOfTheAddressForTheSecondHelloOnly) {
  EXPECT_FALSE(proven(first));
  EXPECT_TRUE(proven(second));
  EXPECT_EQ(kCookieSize, parse_client_hello(second)->cookie.size());
  EXPECT_EQ(1u, parse_client_hello(second)->message_sequence);
}

TEST_F(DtlsCookie, AnswerIsSmallerThanAnyRequestAndShowsItsNumbers) {
  EXPECT_EQ(kHelloVerifyRequestSize, request.size());
  // A ClientHello with nothing in it that may be left out.
  constexpr size_t kSmallestHello = 13 + 12 + 2 + 32 + 1 + 1 + (2 + 2) + (1 + 1);
  EXPECT_LT(request.size(), kSmallestHello);
  const auto hello = parse_client_hello(second);
  Datagram again(kHelloVerifyRequestSize);
  responder->answer(*hello, address, pair.now, again);
  EXPECT_EQ(RecordKind::kHandshake, first_record(again, 0).kind);
  EXPECT_EQ(hello->record_sequence, first_record(again, 0).sequence);
  EXPECT_EQ(1u, first_record(again, 0).sequence);
  EXPECT_EQ(hello->message_sequence, load_be16(Bytes(again).subspan(17)));
}

TEST_F(DtlsCookie, IsOfNoUseElsewhere) {
  const auto hello = parse_client_hello(second);
  EXPECT_FALSE(responder->is_ours(*hello, bytes_from("192.0.2.1:1001")));
  EXPECT_FALSE(responder->is_ours(*hello, bytes_from("192.0.2.1:100")));
  EXPECT_FALSE(responder->is_ours(*hello, {}));
  const auto other = std::move(*DtlsCookieResponder::create(DtlsCookieKey::generate()));
  EXPECT_FALSE(other->is_ours(*hello, address));
  const auto same = std::move(*DtlsCookieResponder::create(key));  // another thread's
  EXPECT_TRUE(same->is_ours(*hello, address));
}

TEST_F(DtlsCookie, IsBoundToRandomAndAppIdAndEveryByteOfItself) {
  std::vector<size_t> places = {27, 58, 60, 91};
  for (size_t i = 0; i < kCookieSize; ++i)
    places.push_back(93 + i);
  for (const size_t at : places) {
    Datagram changed = second;
    changed[at] ^= std::byte{1};
    EXPECT_FALSE(proven(changed)) << at;
  }
  EXPECT_TRUE(proven(second));
}

TEST_F(DtlsCookie, AgesAndDoesNotComeFromTheFuture) {
  const auto hello = parse_client_hello(second);
  const auto proven_at = [&](TimePoint time) {
    return responder->proves_address(*hello, address, time);
  };
  EXPECT_TRUE(proven_at(pair.now + DtlsCookieResponder::kLifetime));
  EXPECT_FALSE(proven_at(pair.now + 2 * DtlsCookieResponder::kLifetime));
  EXPECT_FALSE(proven_at(pair.now - DtlsCookieResponder::kLifetime));
  EXPECT_TRUE(responder->is_ours(*hello, address));
}

TEST_F(DtlsCookie, AnExpiredOneIsAnsweredAfresh) {
  pair.now += 10 * DtlsCookieResponder::kLifetime;
  EXPECT_FALSE(proven(second));
  Datagram out(kHelloVerifyRequestSize);
  responder->answer(*parse_client_hello(second), address, pair.now, out);
  // The client of mbedTLS takes a second HelloVerifyRequest as well.
  pair.client->pop_output();
  pair.client->handshake(pair.now, out);
  ASSERT_FALSE(pair.client->output().empty());
  EXPECT_TRUE(proven(Datagram(pair.client->output().begin(), pair.client->output().end())));
}

}  // namespace
}  // namespace culvert::tls
