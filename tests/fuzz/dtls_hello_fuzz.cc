// What is done with a datagram before it is authenticated: records, ClientHellos, cookies.
#include <algorithm>
#include <array>
#include <vector>

#include "common/tls/dtls_cookie.h"
#include "common/tls/dtls_hello.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

namespace {

using Datagram = std::vector<std::byte>;
constexpr TimePoint kNow{std::chrono::hours(1)};

bool is_within(Bytes part, Bytes whole) {
  return part.empty() ||
         (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

void check_records(Bytes datagram, size_t cid_size) {
  const size_t whole = tls::whole_records(datagram, cid_size);
  require(whole <= datagram.size(), "records are within the datagram");
  require(tls::whole_records(datagram.first(whole), cid_size) == whole, "whole stays whole");
  size_t at = 0;
  while (at < whole) {
    const auto record = tls::first_record(datagram.subspan(at), cid_size);
    require(record.kind != tls::RecordKind::kInvalid, "whole records are valid");
    require(record.size > tls::kDtlsRecordHeader, "a record has content");
    require(is_within(record.connection_id, datagram), "the connection ID is in the datagram");
    const bool has_id = record.kind == tls::RecordKind::kConnectionId;
    require(record.connection_id.size() == (has_id ? cid_size : 0), "its length is ours");
    const auto cut = tls::first_record(datagram.subspan(at, record.size - 1), cid_size);
    require(cut.kind == tls::RecordKind::kInvalid, "a cut record is none");
    at += record.size;
  }
  require(at == whole, "they are the records one after the other");

  const auto first = tls::first_record(datagram, cid_size);
  const bool is_lone =
      first.size == datagram.size() && first.size != 0 &&
      (first.kind == tls::RecordKind::kApplication || first.kind == tls::RecordKind::kConnectionId);
  const auto lone = tls::lone_record(datagram, cid_size);
  require(lone.has_value() == is_lone, "both know a lone record");
  if (!lone) return;
  const bool has_cid = first.kind == tls::RecordKind::kConnectionId;
  require(lone->has_cid == has_cid && lone->epoch == first.epoch &&
              lone->sequence == first.sequence &&
              lone->header == tls::kDtlsRecordHeader + first.connection_id.size(),
          "and say the same about it");
}

// The same datagram with this cookie instead of the one in it: lengths are adapted, nothing else.
Datagram with_cookie(Bytes datagram, const tls::ClientHello& hello, Bytes cookie) {
  const size_t record = tls::first_record(datagram, 0).size;
  const auto at =
      static_cast<size_t>(hello.session_id.data() - datagram.data()) + hello.session_id.size();
  Datagram out(datagram.begin(), datagram.begin() + static_cast<ptrdiff_t>(at));
  out.push_back(static_cast<std::byte>(cookie.size()));
  out.insert(out.end(), cookie.begin(), cookie.end());
  const Bytes rest = datagram.first(record).subspan(at + 1 + hello.cookie.size());
  out.insert(out.end(), rest.begin(), rest.end());
  const MutableBytes all(out);
  const size_t length = out.size() - tls::kDtlsRecordHeader;
  store_be16(all.subspan(11), static_cast<uint16_t>(length));
  store_be16(all.subspan(15), static_cast<uint16_t>(length - 12));
  store_be16(all.subspan(23), static_cast<uint16_t>(length - 12));
  return out;
}

void check_cookie(Bytes datagram, const tls::ClientHello& hello) {
  Secret key(32);
  std::fill(key.bytes().begin(), key.bytes().end(), std::byte{1});
  const auto responder = std::move(
      *tls::DtlsCookieResponder::create(std::make_shared<tls::DtlsCookieKey>(std::move(key))));
  const Bytes here = as_bytes("here");
  Datagram room(tls::kHelloVerifyRequestSize);
  const Bytes answer = responder->answer(hello, here, kNow, room);
  require(answer.size() <= datagram.size(), "the answer is not larger than the request");
  const auto record = tls::first_record(answer, 0);
  require(record.kind == tls::RecordKind::kHandshake && record.size == answer.size() &&
              record.sequence == hello.record_sequence,
          "the answer is a record with the number of the request");
  if (tls::first_record(datagram, 0).size > 60000) return;  // no room for a cookie
  const Datagram second = with_cookie(datagram, hello, answer.last(tls::kCookieSize));
  const auto parsed = tls::parse_client_hello(second);
  require(parsed.has_value(), "a ClientHello with another cookie is one");
  require(responder->proves_address(*parsed, here, kNow), "the cookie is good");
  require(!responder->proves_address(*parsed, as_bytes("there"), kNow), "but nowhere else");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Bytes datagram = fuzz::input(data, size);
  for (const size_t cid_size : {0, 8}) {
    check_records(datagram, cid_size);
  }
  const auto hello = tls::parse_client_hello(datagram);
  if (!hello) return 0;
  require(tls::first_record(datagram, 8).kind == tls::RecordKind::kClientHello, "kinds agree");
  require(hello->random.size() == 32 && hello->session_id.size() <= 32, "sizes are bounded");
  require(hello->app_id().has_value() == (hello->session_id.size() == 32),
          "32 bytes are an App-ID");
  for (const Bytes part : {hello->random, hello->session_id, hello->cookie, hello->cipher_suites}) {
    require(is_within(part, datagram), "every part is in the datagram");
  }
  check_cookie(datagram, *hello);
  return 0;
}
