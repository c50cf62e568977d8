#include "common/tls/dtls_hello.h"

#include <algorithm>

namespace culvert::tls {
namespace {

constexpr unsigned kTypeChangeCipherSpec = 20;
constexpr unsigned kTypeAlert = 21;
constexpr unsigned kTypeHandshake = 22;
constexpr unsigned kTypeApplication = 23;
constexpr unsigned kTypeConnectionId = 25;
constexpr unsigned kMessageClientHello = 1;
constexpr std::byte kVersionMajor{0xfe};  // DTLS counts its versions downwards
constexpr uint8_t kVersionMinor12 = 0xfd;
constexpr size_t kRandomSize = 32;
constexpr size_t kMaxSessionId = 32;

unsigned value(std::byte b) {
  return std::to_integer<unsigned>(b);
}

uint32_t load_be24(Bytes b) {
  return value(b[0]) << 16 | load_be16(b.subspan(1));
}

RecordKind kind_of(unsigned type, size_t cid_size) {
  switch (type) {
    case kTypeChangeCipherSpec:
      return RecordKind::kChangeCipherSpec;
    case kTypeAlert:
      return RecordKind::kAlert;
    case kTypeHandshake:
      return RecordKind::kHandshake;
    case kTypeApplication:
      return RecordKind::kApplication;
    case kTypeConnectionId:
      return cid_size != 0 ? RecordKind::kConnectionId : RecordKind::kInvalid;
    default:
      return RecordKind::kInvalid;
  }
}

// Length-prefixed opaque data.
std::optional<Bytes> take8(ByteReader& reader) {
  const auto size = reader.u8();
  return size ? reader.take(*size) : std::nullopt;
}
std::optional<Bytes> take16(ByteReader& reader) {
  const auto size = reader.be16();
  return size ? reader.take(*size) : std::nullopt;
}

// The body of an unfragmented ClientHello message that fills its record.
std::optional<Bytes> hello_body(Bytes content, uint16_t& message_sequence) {
  constexpr size_t kHeader = 12;
  if (content.size() < kHeader || value(content[0]) != kMessageClientHello) return std::nullopt;
  const size_t length = load_be24(content.subspan(1));
  const bool whole = load_be24(content.subspan(6)) == 0 && load_be24(content.subspan(9)) == length;
  if (!whole || length != content.size() - kHeader) return std::nullopt;
  message_sequence = load_be16(content.subspan(4));
  return content.subspan(kHeader);
}

// Extensions may be absent; if they are there, they fill the rest and each fills its place.
bool extensions_are_sound(ByteReader& reader) {
  if (reader.rest().empty()) return true;
  const auto all = take16(reader);
  if (!all || !reader.rest().empty()) return false;
  ByteReader each(*all);
  while (!each.rest().empty()) {
    if (!each.be16() || !take16(each)) return false;
  }
  return true;
}

bool parse_body(Bytes body, ClientHello& hello) {
  ByteReader reader(body);
  const auto major = reader.u8();
  const auto minor = reader.u8();
  if (!minor || std::byte{*major} != kVersionMajor || *minor > kVersionMinor12) return false;
  const auto random = reader.take(kRandomSize);
  const auto session_id = take8(reader);
  const auto cookie = take8(reader);
  const auto suites = take16(reader);
  const auto compression = take8(reader);
  if (!compression || compression->empty()) return false;
  if (suites->empty() || suites->size() % 2 != 0 || session_id->size() > kMaxSessionId) {
    return false;
  }
  if (std::all_of(random->begin(), random->end(), [](std::byte b) { return b == std::byte{}; })) {
    return false;
  }
  hello.random = *random;
  hello.session_id = *session_id;
  hello.cookie = *cookie;
  hello.cipher_suites = *suites;
  return extensions_are_sound(reader);
}

}  // namespace

RecordView first_record(Bytes datagram, size_t cid_size) {
  if (datagram.size() < kDtlsRecordHeader || datagram[1] != kVersionMajor) return {};
  RecordView record;
  record.kind = kind_of(value(datagram[0]), cid_size);
  if (record.kind == RecordKind::kInvalid) return {};
  const size_t id_size = record.kind == RecordKind::kConnectionId ? cid_size : 0;
  const size_t header = kDtlsRecordHeader + id_size;
  if (datagram.size() < header) return {};
  const size_t length = load_be16(datagram.subspan(header - 2));
  if (length == 0 || datagram.size() - header < length) return {};
  record.epoch = load_be16(datagram.subspan(3));
  record.sequence = uint64_t{load_be16(datagram.subspan(5))} << 32 | load_be32(datagram.subspan(7));
  record.connection_id = datagram.subspan(11, id_size);
  record.size = header + length;
  const bool hello = record.kind == RecordKind::kHandshake && record.epoch == 0 &&
                     value(datagram[header]) == kMessageClientHello;
  if (hello) record.kind = RecordKind::kClientHello;
  return record;
}

size_t whole_records(Bytes datagram, size_t cid_size) {
  size_t size = 0;
  for (;;) {
    const size_t next = first_record(datagram.subspan(size), cid_size).size;
    if (next == 0) return size;
    size += next;
  }
}

std::optional<AppId> ClientHello::app_id() const {
  if (session_id.size() != kAppIdSize) return std::nullopt;
  AppId id;
  std::copy(session_id.begin(), session_id.end(), id.begin());
  return id;
}

std::optional<ClientHello> parse_client_hello(Bytes datagram) {
  const RecordView record = first_record(datagram, 0);
  if (record.kind != RecordKind::kClientHello) return std::nullopt;
  ClientHello hello;
  hello.record_version = load_be16(datagram.subspan(1));
  hello.record_sequence = record.sequence;
  const Bytes content = datagram.first(record.size).subspan(kDtlsRecordHeader);
  const auto body = hello_body(content, hello.message_sequence);
  if (!body || !parse_body(*body, hello)) return std::nullopt;
  return hello;
}

}  // namespace culvert::tls
