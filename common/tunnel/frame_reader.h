// FrameReader: from the records of one TLS connection to CSTP frames, however the peer cut them.
//
// Records are read where their frame will lie as a packet of the thread's batch, with headroom:
// what fills a record needs no copy, and a superpacket's records lie one behind the other. Only the
// beginning of a frame that is still incomplete when the reading ends is copied, to memory of our
// own, where its rest is read behind it.
#pragma once

#include <cstdint>
#include <memory>

#include "common/base/bytes.h"
#include "common/net/packet_batch.h"
#include "common/wire/cstp.h"

namespace culvert::tunnel {

class FrameReader {
 public:
  using Verdict = wire::CstpParse::Verdict;
  struct Frame {
    Verdict verdict = Verdict::kNeedMore;
    uint8_t type = 0;
    // May be written to. Valid until the next room(), and what of it lies in the batch's free slot
    // until something else is put there.
    MutableBytes payload;
  };
  // The size that the batch's slots must have.
  static constexpr size_t kSlotSize = wire::kCstpMaxSuperpacket;

  // Uses free slots of `batch` between room() and park(), and commits none. The batch must outlive
  // the reader. `superpackets`: they were negotiated.
  FrameReader(net::PacketBatch& batch, bool superpackets)
      : batch_(batch), superpackets_(superpackets) {}

  // Where to put what comes next; never empty. REQUIRES: next() has said kNeedMore since the last
  // added(); the batch is not full.
  [[nodiscard]] MutableBytes room();
  // The first `size` bytes of room() are filled now.
  void added(size_t size);
  // The next whole frame. After kBadMagic and kTooLong nothing more can be read.
  [[nodiscard]] Frame next();
  // The batch is going to be used for others: keeps what has begun.
  void park();
  // Gives back the memory of park(), if nothing is in it. Not for every packet: it will be
  // allocated again.
  void shrink();

 private:
  static constexpr size_t kMaxFrame = wire::kCstpHeaderSize + kSlotSize;

  net::PacketBatch& batch_;
  bool superpackets_;
  MutableBytes unread_;  // at the front of parked_, or in the batch
  std::unique_ptr<std::byte[]> parked_;
};

}  // namespace culvert::tunnel
