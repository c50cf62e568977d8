// DTLS 1.2 records and ClientHellos as bytes, for whoever has to decide where a datagram belongs
// before any DTLS session is involved (RFC 6347 section 4, RFC 9146 section 4). Pure; nothing here
// is authenticated, so what it says is a hint for demultiplexing and nothing more.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "common/base/bytes.h"

namespace culvert::tls {

constexpr size_t kDtlsRecordHeader = 13;  // without a connection ID
constexpr size_t kAppIdSize = 32;
using AppId = std::array<std::byte, kAppIdSize>;

enum class RecordKind : uint8_t {
  kInvalid,  // not DTLS 1.x, an unknown type, or less than one whole record
  kChangeCipherSpec,
  kAlert,
  kClientHello,   // a handshake record of epoch 0 that starts with a ClientHello
  kHandshake,     // any other, readable or encrypted
  kApplication,   // content type 23
  kConnectionId,  // content type 25: encrypted, whatever is inside (in a handshake, the Finished)
};

struct RecordView {
  RecordKind kind = RecordKind::kInvalid;
  uint16_t epoch = 0;
  uint64_t sequence = 0;  // 48 bits
  Bytes connection_id{};  // kConnectionId: `cid_size` bytes of the datagram; else empty
  size_t size = 0;        // with its header; 0 if kInvalid
};

// The first record of a datagram. `cid_size`: how long the connection IDs are that we give to
// peers; 0 if we give none (then content type 25 is kInvalid).
[[nodiscard]] RecordView first_record(Bytes datagram, size_t cid_size);

// A record that may be application data and is its whole datagram.
struct LoneRecord {
  bool has_cid = false;
  uint16_t epoch = 0;
  uint64_t sequence = 0;  // 48 bits
  size_t header = 0;      // bytes before its payload
};
// The same as first_record() would tell of such a datagram, in the time that there is for each of
// them: nearly all are like that. Nothing of any other.
[[nodiscard]] inline std::optional<LoneRecord> lone_record(Bytes datagram, size_t cid_size) {
  constexpr std::byte kVersionMajor{0xfe};
  constexpr std::byte kApplicationData{23};
  constexpr std::byte kTls12Cid{25};
  if (datagram.size() <= kDtlsRecordHeader || datagram[1] != kVersionMajor) return std::nullopt;
  const bool has_cid = datagram[0] == kTls12Cid && cid_size != 0;
  if (!has_cid && datagram[0] != kApplicationData) return std::nullopt;
  const size_t header = kDtlsRecordHeader + (has_cid ? cid_size : 0);
  if (datagram.size() <= header ||
      load_be16(datagram.subspan(header - 2)) != datagram.size() - header) {
    return std::nullopt;
  }
  const uint64_t number = load_be64(datagram.subspan(3));
  return LoneRecord{has_cid, static_cast<uint16_t>(number >> 48), number & 0xffffffffffff, header};
}

// How many bytes of the datagram are whole records, one after the other. What follows them is
// damage or malice: mbedTLS 3.6 must not see it, because a remainder shorter than a record header
// puts it into a state that it never leaves.
[[nodiscard]] size_t whole_records(Bytes datagram, size_t cid_size);

// A ClientHello for DTLS 1.2. All spans point into the datagram.
struct ClientHello {
  uint16_t record_version = 0;  // 0xfeff or 0xfefd; says nothing about what the client can do
  uint64_t record_sequence = 0;
  uint16_t message_sequence = 0;  // 0, or 1 when it answers a HelloVerifyRequest
  Bytes random{};                 // 32 bytes
  Bytes session_id{};             // at most 32 bytes
  Bytes cookie{};                 // at most 255 bytes; empty in the first one
  Bytes cipher_suites{};          // two bytes each, at least one

  // What the client was told in X-DTLS-App-ID: the session ID, if it has that length. (The TLS
  // extension 48018, in which openconnect of 2016 to 2018 sent it, is not looked at.)
  [[nodiscard]] std::optional<AppId> app_id() const;
};

// Nothing unless the first record of the datagram is one whole, unfragmented ClientHello of epoch 0
// whose every length is consistent, that offers DTLS 1.2 or later and has a random that is not all
// zero. Peers fragment ClientHellos only when they exceed the path MTU, which none does here.
[[nodiscard]] std::optional<ClientHello> parse_client_hello(Bytes datagram);

}  // namespace culvert::tls
