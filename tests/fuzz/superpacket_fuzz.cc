// A stream of CSTP frames with superpackets among them, as a hostile peer may cut and fill it: one
// byte that says how records are cut, then the stream. What is read must not depend on the cuts,
// and what passes the check must be good enough for everything behind it.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "common/net/gso_split.h"
#include "common/net/ip_packet.h"
#include "common/tunnel/channel.h"
#include "common/tunnel/frame_reader.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

namespace {

constexpr net::VnetBounds kBounds{.origin = net::VnetOrigin::kPeer, .max_packet = 1400};
using Frames = std::vector<std::pair<uint8_t, std::vector<std::byte>>>;

Frames read_at_once(Bytes rest) {
  Frames frames;
  for (;;) {
    const auto parsed = wire::parse_cstp(rest, true);
    if (parsed.verdict != wire::CstpParse::Verdict::kFrame) return frames;
    frames.emplace_back(parsed.type,
                        std::vector<std::byte>(parsed.payload.begin(), parsed.payload.end()));
    rest = rest.subspan(parsed.consumed);
  }
}

// The splitter takes it, and each piece is a packet if the whole is one.
void split(const net::VnetHeader& header, MutableBytes packet) {
  const bool ip = net::parse_ip(packet).has_value();
  const size_t count = net::segments_of(header, packet.size());
  require(count >= 1 && count <= kBounds.max_segments, "there are not too many segments");
  net::GsoSplitter splitter(header, packet, kBounds.max_packet);
  require(splitter.count() == count, "every segment fits the MTU");
  size_t pieces = 0;
  for (MutableBytes next = splitter.next(); !next.empty(); next = splitter.next(), ++pieces) {
    require(next.size() <= kBounds.max_packet, "no piece is larger than the MTU");
    const auto view = net::parse_ip(next);
    require(view.has_value() == ip, "each piece of a packet is a packet");
    require(!header.is_superpacket() || view->total_length == next.size(), "of the right length");
  }
  require(pieces == count, "as many pieces as were announced");
}

void take_superpacket(MutableBytes payload) {
  auto header = net::decode_vnet(payload);
  if (!header) return;
  const MutableBytes packet = payload.subspan(net::kVnetHeaderSize);
  if (net::check_vnet(*header, packet, kBounds) != net::VnetVerdict::kOk) return;
  net::encode_vnet(payload.first(net::kVnetHeaderSize), *header);  // as it goes to the TUN
  require(net::decode_vnet(payload) == *header, "written and read alike");
  split(*header, packet);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes rest = fuzz::input(data, size);
  if (rest.empty()) return 0;
  const size_t piece = 1 + std::to_integer<size_t>(rest[0]) * std::to_integer<size_t>(rest[0]);
  rest = rest.subspan(1);
  const Frames expected = read_at_once(rest);

  static net::PacketBatch batch(2, tunnel::FrameReader::kSlotSize, tunnel::kBatchHeadroom);
  tunnel::FrameReader reader(batch, true);
  size_t read = 0;
  while (!rest.empty()) {
    const MutableBytes room = reader.room();
    const Bytes part = rest.first(std::min({piece, rest.size(), room.size()}));
    std::copy(part.begin(), part.end(), room.begin());
    reader.added(part.size());
    rest = rest.subspan(part.size());
    tunnel::FrameReader::Frame frame = reader.next();
    for (; frame.verdict == tunnel::FrameReader::Verdict::kFrame; frame = reader.next()) {
      require(read < expected.size() && expected[read].first == frame.type &&
                  std::equal(frame.payload.begin(), frame.payload.end(),
                             expected[read].second.begin(), expected[read].second.end()),
              "frames do not depend on how they are cut");
      ++read;
      if (frame.type == static_cast<uint8_t>(wire::CstpType::kSuperpacket))
        take_superpacket(frame.payload);
    }
    if (frame.verdict != tunnel::FrameReader::Verdict::kNeedMore) break;
    reader.park();
  }
  require(read == expected.size(), "no frame is missing");
  return 0;
}
