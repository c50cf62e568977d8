// CSTP: the 8-byte frame header that carries packets inside the TLS connection, and the payload of
// DISCONNECT. Pure: bytes in, bytes out; the stream, its buffers and its timers are the channel's.
//
//   offset  0   1   2   3   4      5      6     7     8...
//           'S' 'T' 'F' 01  len_hi len_lo type  00    payload (len bytes, big endian, payload only)
//
// common/wire holds the codecs of the protocol. Each of them takes hostile bytes, allocates no more
// than its stated limits and never touches a descriptor; every parser here has a fuzz target.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"

namespace culvert::wire {

inline constexpr size_t kCstpHeaderSize = 8;
// Header and payload must fit in one TLS record of 16384 bytes: stock peers take one frame from
// each record and nothing else.
inline constexpr size_t kCstpMaxPayload = 16384 - kCstpHeaderSize;
// Of a SUPERPACKET, which may lie in several records: all that the length field can say.
inline constexpr size_t kCstpMaxSuperpacket = 65535;

enum class CstpType : uint8_t {
  kData = 0x00,         // one IP packet
  kDpdRequest = 0x03,   // any payload; to be answered
  kDpdResponse = 0x04,  // ocserv echoes the payload, openconnect answers with none
  kDisconnect = 0x05,   // empty, or a reason byte and text: the session is over
  kKeepalive = 0x07,    // never answered
  kCompressed = 0x08,   // never negotiated by us
  kTerminate = 0x09,    // as kDisconnect; server to client only
  // Between Culvert peers that have agreed on it (packaging/man/culvert-protocol.7):
  kSuperpacket = 0x20,  // a virtio network header of 10 bytes and a packet
  kSwitch = 0x21,       // empty: what follows comes on the new connection
  kUnsummed = 0x22,     // over DTLS only: an IP packet without its TCP or UDP checksum
};

// Writes the header of a frame whose payload follows in the same buffer.
// REQUIRES: at.size() >= kCstpHeaderSize, payload_length <= kCstpMaxPayload, or of kSuperpacket
// <= kCstpMaxSuperpacket.
void write_cstp_header(MutableBytes at, CstpType type, size_t payload_length);

struct CstpParse {
  enum class Verdict {
    kFrame,     // one frame was read
    kNeedMore,  // what is there is a good beginning
    kBadMagic,  // not CSTP, or byte 7 is not 0: drop the connection
    kTooLong,   // more than the type may have announced: drop the connection
  };
  Verdict verdict = Verdict::kNeedMore;
  uint8_t type = 0;     // as received: unknown types are the caller's decision
  Bytes payload;        // points into the buffer that was given
  size_t consumed = 0;  // header and payload; 0 unless kFrame
};

// The frame at the front of `buffer`. Frames may lie back to back and be cut anywhere: call again
// with the bytes after `consumed`, or with the same bytes and more of them after kNeedMore. A bad
// header is noticed as soon as its first wrong byte is there. `superpackets`: they were negotiated,
// so that kSuperpacket may be longer than other types.
[[nodiscard]] CstpParse parse_cstp(Bytes buffer, bool superpackets = false);

// Why the other side left. A DISCONNECT may carry nothing at all (ocserv's never do).
struct DisconnectReason {
  std::optional<uint8_t> code;
  std::string text;  // printable ASCII after parsing: other bytes became dots, cut at 256 bytes
};

inline constexpr uint8_t kReasonUser = 0xb0;       // explicit end: the server forgets the cookie
inline constexpr uint8_t kReasonReconnect = 0x91;  // leaves to come back with the cookie
inline constexpr uint8_t kReasonLocalError = 0x70;

[[nodiscard]] DisconnectReason parse_disconnect(Bytes payload);
// The payload only. Text without a code gets kReasonUser in front, because the first byte always is
// the code; the text is made printable and cut as in parse_disconnect().
[[nodiscard]] std::vector<std::byte> write_disconnect(const DisconnectReason& reason);

}  // namespace culvert::wire
