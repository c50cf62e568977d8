#include "common/tunnel/frame_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "common/tunnel/channel.h"

namespace culvert::tunnel {
namespace {

using Verdict = FrameReader::Verdict;

std::string frame(uint8_t type, const std::string& payload) {
  std::string out(wire::kCstpHeaderSize, '\0');
  wire::write_cstp_header(std::as_writable_bytes(std::span(out)), static_cast<wire::CstpType>(type),
                          payload.size());
  return out + payload;
}

struct FrameReaderTest : testing::Test {
  // Hands over `bytes` in pieces of at most `piece`, with a new call every `pieces_a_call` of them.
  // Everything that next() says is noted; DATA is put into the batch, as the channel does.
  void read(const std::string& bytes, size_t piece, size_t pieces_a_call = 1000) {
    size_t in_call = 0;
    for (size_t at = 0; at < bytes.size();) {
      if (batch.full()) batch.clear();
      const MutableBytes room = reader.room();
      ASSERT_FALSE(room.empty());
      const size_t size = std::min({piece, bytes.size() - at, room.size()});
      std::memcpy(room.data(), bytes.data() + at, size);
      reader.added(size);
      at += size;
      if (!take()) return;
      if (++in_call % pieces_a_call != 0) continue;
      reader.park();
      batch.clear();
      overwrite_batch();
    }
    reader.park();
    batch.clear();
  }

  bool take() {
    for (;;) {
      const FrameReader::Frame next = reader.next();
      if (next.verdict == Verdict::kNeedMore) return true;
      if (next.verdict != Verdict::kFrame) {
        failed = next.verdict;
        return false;
      }
      frames.push_back(frame(next.type, std::string(as_text(next.payload))));
      if (next.type != 0) continue;
      if (batch.full()) batch.clear();
      const MutableBytes slot = batch.free_space();
      in_place += slot.data() == next.payload.data() ? 1 : 0;
      std::memmove(slot.data(), next.payload.data(), next.payload.size());
      batch.commit(next.payload.size());
    }
  }

  // What another channel would do with it.
  void overwrite_batch() {
    while (!batch.full()) {
      const MutableBytes slot = batch.free_space();
      std::memset(slot.data() - kBatchHeadroom, 0x55, slot.size() + kBatchHeadroom);
      batch.commit(1);
    }
    batch.clear();
  }

  net::PacketBatch batch{4, FrameReader::kSlotSize, kBatchHeadroom};
  FrameReader reader{batch, true};
  std::vector<std::string> frames;
  size_t in_place = 0;
  Verdict failed = Verdict::kFrame;
};

TEST_F(FrameReaderTest, AFrameThatFillsItsRecordIsNotCopied) {
  for (int i = 0; i < 10; ++i) {
    const std::string one = frame(0, std::string(1400, 'a'));
    read(one, one.size());
  }
  EXPECT_EQ(frames.size(), 10U);
  EXPECT_EQ(in_place, 10U);
}

// Every way to cut a stream, with everything from an empty to the longest frame in it.
TEST_F(FrameReaderTest, FramesComeOutAsTheyWentInHoweverTheyAreCut) {
  std::mt19937 random(7);
  std::vector<std::string> sent;
  for (const size_t size :
       {0, 1, 52, 1400, 65535, 3, 16376, 9000, 65535, 65534, 20, 20, 20, 40000}) {
    std::string payload(size, '\0');
    for (char& c : payload)
      c = static_cast<char>(random());
    const bool longer = size > wire::kCstpMaxPayload;
    sent.push_back(frame(longer ? 0x20 : uint8_t(size % 2 * 0x20), payload));
  }
  std::string stream;
  for (const std::string& one : sent)
    stream += one;
  for (const size_t piece : {1, 2, 7, 8, 9, 100, 1408, 16383, 16384, 30000, 65543, 1000000}) {
    for (const size_t pieces_a_call : {1, 2, 3, 17, 1000}) {
      if (piece < 100 && pieces_a_call < 17) continue;  // slow, and nothing new
      frames.clear();
      read(stream, piece, pieces_a_call);
      ASSERT_EQ(frames, sent) << "pieces of " << piece << ", " << pieces_a_call << " a call";
    }
  }
}

TEST_F(FrameReaderTest, ManySmallFramesInARecordOutnumberTheSlots) {
  std::vector<std::string> sent;
  std::string stream;
  for (int i = 0; i < 1000; ++i) {
    sent.push_back(frame(0, std::to_string(i)));
    stream += sent.back();
  }
  read(stream, 16383);
  EXPECT_EQ(frames, sent);
}

TEST_F(FrameReaderTest, StopsAtWhatIsNoFrame) {
  read(frame(0, "E") + "nonsense", 1000);
  EXPECT_EQ(frames.size(), 1U);
  EXPECT_EQ(failed, Verdict::kBadMagic);
}

TEST_F(FrameReaderTest, KeepsToTheLimitOfOtherTypes) {
  read(std::string("STF\x01\xff\xff\0\0", 8), 8);
  EXPECT_EQ(failed, Verdict::kTooLong);
}

TEST_F(FrameReaderTest, ShrinkingLosesNothing) {
  const std::string one = frame(0x20, std::string(50000, 'x'));
  read(one.substr(0, 20000), 16383);
  reader.shrink();
  read(one.substr(20000), 16383);
  EXPECT_EQ(frames, std::vector<std::string>{one});
  reader.shrink();
  read(one, 16383);
  EXPECT_EQ(frames.size(), 2U);
}

}  // namespace
}  // namespace culvert::tunnel
