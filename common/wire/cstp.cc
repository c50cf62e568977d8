#include "common/wire/cstp.h"

#include <algorithm>
#include <array>
#include <cassert>

namespace culvert::wire {
namespace {

constexpr std::array kMagic = {std::byte{'S'}, std::byte{'T'}, std::byte{'F'}, std::byte{1}};
constexpr size_t kMaxReasonText = 256;

constexpr size_t max_payload(CstpType type) {
  return type == CstpType::kSuperpacket ? kCstpMaxSuperpacket : kCstpMaxPayload;
}

std::string printable(std::string_view text) {
  std::string out(text.substr(0, kMaxReasonText));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '.');
  return out;
}

}  // namespace

void write_cstp_header(MutableBytes at, CstpType type, size_t payload_length) {
  assert(at.size() >= kCstpHeaderSize && payload_length <= max_payload(type));
  std::copy(kMagic.begin(), kMagic.end(), at.begin());
  store_be16(at.subspan(4), static_cast<uint16_t>(payload_length));
  at[6] = static_cast<std::byte>(type);
  at[7] = std::byte{0};
}

CstpParse parse_cstp(Bytes buffer, bool superpackets) {
  using Verdict = CstpParse::Verdict;
  CstpParse result;
  const size_t seen = std::min(buffer.size(), kMagic.size());
  if (!std::equal(kMagic.begin(), kMagic.begin() + seen, buffer.begin())) {
    result.verdict = Verdict::kBadMagic;
    return result;
  }
  if (buffer.size() < kCstpHeaderSize) return result;
  const size_t length = load_be16(buffer.subspan(4));
  const auto type = static_cast<CstpType>(buffer[6]);
  const size_t limit = superpackets ? max_payload(type) : kCstpMaxPayload;
  if (buffer[7] != std::byte{0}) {
    result.verdict = Verdict::kBadMagic;
  } else if (length > limit) {
    result.verdict = Verdict::kTooLong;
  } else if (buffer.size() >= kCstpHeaderSize + length) {
    result.verdict = Verdict::kFrame;
    result.type = std::to_integer<uint8_t>(buffer[6]);
    result.payload = buffer.subspan(kCstpHeaderSize, length);
    result.consumed = kCstpHeaderSize + length;
  }
  return result;
}

DisconnectReason parse_disconnect(Bytes payload) {
  DisconnectReason reason;
  if (payload.empty()) return reason;
  reason.code = std::to_integer<uint8_t>(payload[0]);
  reason.text = printable(as_text(payload.subspan(1)));
  return reason;
}

std::vector<std::byte> write_disconnect(const DisconnectReason& reason) {
  std::vector<std::byte> payload;
  if (!reason.code && reason.text.empty()) return payload;
  payload.push_back(static_cast<std::byte>(reason.code.value_or(kReasonUser)));
  const std::string text = printable(reason.text);
  const Bytes bytes = as_bytes(text);
  payload.insert(payload.end(), bytes.begin(), bytes.end());
  return payload;
}

}  // namespace culvert::wire
