#include "common/wire/cstp.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>

#include "common/base/text.h"

namespace culvert::wire {
namespace {

using Verdict = CstpParse::Verdict;

std::vector<std::byte> hex(std::string_view digits) {
  std::string compact(digits);
  std::erase(compact, ' ');
  return from_hex(compact).value();
}

std::vector<std::byte> frame(CstpType type, std::string_view payload) {
  std::vector<std::byte> out(kCstpHeaderSize);
  write_cstp_header(out, type, payload.size());
  const Bytes bytes = as_bytes(payload);
  out.insert(out.end(), bytes.begin(), bytes.end());
  return out;
}

// Frames captured from stock peers.
struct Golden {
  const char* name;
  const char* header;
  CstpType type;
  const char* payload;
};
constexpr Golden kGolden[] = {
    {"DPD request", "53544601 0000 03 00", CstpType::kDpdRequest, ""},
    {"DPD request with payload", "53544601 0003 03 00", CstpType::kDpdRequest, "abc"},
    {"ocserv's DPD response", "53544601 0003 04 00", CstpType::kDpdResponse, "abc"},
    {"openconnect's DPD response", "53544601 0000 04 00", CstpType::kDpdResponse, ""},
    {"keepalive", "53544601 0000 07 00", CstpType::kKeepalive, ""},
    {"server disconnect", "53544601 0000 05 00", CstpType::kDisconnect, ""},
    {"client disconnect", "53544601 0012 05 00", CstpType::kDisconnect,
     "\xb0"
     "Aborted by caller"},
    {"reply to kick", "53544601 000f 05 00", CstpType::kDisconnect,
     "\xb0"
     "Server request"},
    {"protocol error", "53544601 0018 05 00", CstpType::kDisconnect,
     "\xb0"
     "Unknown packet received"},
};

TEST(Cstp, WritesAndReadsGoldenFrames) {
  for (const Golden& golden : kGolden) {
    SCOPED_TRACE(golden.name);
    const auto bytes = frame(golden.type, golden.payload);
    EXPECT_EQ(to_hex(Bytes(bytes).first(kCstpHeaderSize)), to_hex(hex(golden.header)));
    const auto parsed = parse_cstp(bytes);
    ASSERT_EQ(parsed.verdict, Verdict::kFrame);
    EXPECT_EQ(parsed.type, static_cast<uint8_t>(golden.type));
    EXPECT_EQ(as_text(parsed.payload), golden.payload);
    EXPECT_EQ(parsed.consumed, bytes.size());
  }
}

TEST(Cstp, ReadsADataFrameWithAnIpv6Packet) {
  const auto bytes = hex("53544601 0030 00 00 6000000000083aff");
  auto whole = bytes;
  whole.resize(kCstpHeaderSize + 0x30);
  const auto parsed = parse_cstp(whole);
  ASSERT_EQ(parsed.verdict, Verdict::kFrame);
  EXPECT_EQ(parsed.payload.size(), 48U);
  EXPECT_EQ(parsed.payload[0], std::byte{0x60});
}

// The limit of a frame depends on its type and on what was agreed.
TEST(Cstp, OnlyAnAgreedSuperpacketMayBeLongerThanARecord) {
  struct Case {
    uint8_t type;
    uint16_t length;
    bool superpackets;
    Verdict verdict;
  };
  for (const Case& c :
       {Case{0x20, 16376, false, Verdict::kNeedMore}, Case{0x20, 16377, false, Verdict::kTooLong},
        Case{0x20, 16377, true, Verdict::kNeedMore}, Case{0x20, 65535, true, Verdict::kNeedMore},
        Case{0x00, 16377, true, Verdict::kTooLong}, Case{0x03, 65535, true, Verdict::kTooLong},
        Case{0x21, 16377, true, Verdict::kTooLong}}) {
    std::vector<std::byte> header = hex("53544601 0000 00 00");
    store_be16(MutableBytes(header).subspan(4), c.length);
    header[6] = std::byte{c.type};
    EXPECT_EQ(parse_cstp(header, c.superpackets).verdict, c.verdict)
        << int{c.type} << ", " << c.length << ", " << c.superpackets;
  }
}

TEST(Cstp, WritesAndReadsTheLongestSuperpacket) {
  const std::string payload(kCstpMaxSuperpacket, 's');
  const auto bytes = frame(CstpType::kSuperpacket, payload);
  const auto parsed = parse_cstp(bytes, true);
  ASSERT_EQ(parsed.verdict, Verdict::kFrame);
  EXPECT_EQ(as_text(parsed.payload), payload);
}

TEST(Cstp, WantsMoreAtEveryCut) {
  const auto bytes = frame(CstpType::kData, "packet");
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto parsed = parse_cstp(Bytes(bytes).first(size));
    EXPECT_EQ(parsed.verdict, Verdict::kNeedMore) << size;
    EXPECT_EQ(parsed.consumed, 0U);
  }
}

TEST(Cstp, ReadsFramesBackToBackFromOneRecord) {
  auto stream = frame(CstpType::kData, "one");
  const auto second = frame(CstpType::kKeepalive, "");
  stream.insert(stream.end(), second.begin(), second.end());
  const auto first = parse_cstp(stream);
  ASSERT_EQ(first.verdict, Verdict::kFrame);
  EXPECT_EQ(as_text(first.payload), "one");
  const auto next = parse_cstp(Bytes(stream).subspan(first.consumed));
  ASSERT_EQ(next.verdict, Verdict::kFrame);
  EXPECT_EQ(next.type, 7);
}

TEST(Cstp, RefusesWrongMagicAtItsFirstWrongByte) {
  for (const size_t wrong : {0U, 1U, 2U, 3U, 7U}) {
    auto bytes = frame(CstpType::kDpdRequest, "");
    bytes[wrong] ^= std::byte{0x20};
    EXPECT_EQ(parse_cstp(Bytes(bytes).first(wrong + 1)).verdict, Verdict::kBadMagic) << wrong;
  }
}

TEST(Cstp, TakesTheLongestPayloadAndNoLonger) {
  struct {
    const char* header;
    Verdict verdict;
  } const cases[] = {
      {"53544601 3ff8 00 00", Verdict::kNeedMore},  // 16376
      {"53544601 3ff9 00 00", Verdict::kTooLong},
      {"53544601 ffff 00 00", Verdict::kTooLong},
  };
  for (const auto& c : cases)
    EXPECT_EQ(parse_cstp(hex(c.header)).verdict, c.verdict) << c.header;
  EXPECT_EQ(parse_cstp(frame(CstpType::kData, std::string(kCstpMaxPayload, 'x'))).verdict,
            Verdict::kFrame);
}

TEST(Cstp, LeavesUnknownTypesToTheCaller) {
  const auto bytes = frame(static_cast<CstpType>(0x20), "x");
  EXPECT_EQ(parse_cstp(bytes).verdict, Verdict::kFrame);
  EXPECT_EQ(parse_cstp(bytes).type, 0x20);
}

TEST(Disconnect, ReadsCodeAndText) {
  const auto reason =
      parse_disconnect(as_bytes("\xb0"
                                "Aborted by caller"));
  EXPECT_EQ(reason.code, kReasonUser);
  EXPECT_EQ(reason.text, "Aborted by caller");
}

TEST(Disconnect, EmptyPayloadHasNoCode) {
  EXPECT_FALSE(parse_disconnect({}).code.has_value());
  EXPECT_TRUE(write_disconnect({}).empty());
}

TEST(Disconnect, MakesTextPrintableAndShort) {
  const auto reason = parse_disconnect(as_bytes("\xb0\x1b[2J\xff" + std::string(500, 'a')));
  EXPECT_EQ(reason.text.substr(0, 5), ".[2J.");
  EXPECT_EQ(reason.text.size(), 256U);
}

TEST(Disconnect, TextWithoutCodeIsAnExplicitEnd) {
  const auto payload = write_disconnect({std::nullopt, "bye\n"});
  EXPECT_EQ(as_text(payload),
            "\xb0"
            "bye.");
}

}  // namespace
}  // namespace culvert::wire
