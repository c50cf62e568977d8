#include "server/handover.h"

#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <type_traits>

namespace culvert::server {
namespace {

constexpr uint8_t kPacket = 0;
constexpr uint8_t kTrain = 1;
// After this much the sink passes on what it has, and the ring's memory is free again.
constexpr size_t kBatchBytes = 64U << 10;
// What one turn of the loop takes before everybody else gets a turn.
constexpr size_t kTurnBytes = 256U << 10;
// The memory of all rings together, of which only what is used is ever touched.
constexpr size_t kAllRings = 64U << 20;
constexpr size_t kLargestRing = 4U << 20;

// What goes with a train. Between two threads of a process: as it lies in memory.
struct TrainNote {
  net::UdpPath path;
  size_t segment_size = 0;
};
static_assert(std::is_trivially_copyable_v<TrainNote>);
static_assert(sizeof(TrainNote) <= PacketRing::kHeadroom);

size_t ring_size(size_t threads) {
  const size_t rings = threads * (threads - 1);
  size_t size = kLargestRing;
  while (size > PacketRing::kMinCapacityForAll && size * rings > kAllRings)
    size /= 2;
  return size;
}

}  // namespace

Handover::Handover(std::vector<Inbox> inboxes)
    : inboxes_(std::move(inboxes)),
      touched_(inboxes_.size(), std::vector<uint8_t>(inboxes_.size())) {}

Result<std::unique_ptr<Handover>> Handover::create(size_t threads) {
  std::vector<Inbox> inboxes(threads);
  for (size_t to = 0; to < threads; ++to) {
    Inbox& inbox = inboxes[to];
    inbox.wake.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!inbox.wake.valid()) {
      return fail_errno(ErrorCode::kFailure, errno, "cannot set up the data threads");
    }
    inbox.from.resize(threads);
    for (size_t from = 0; from < threads; ++from) {
      if (from != to) inbox.from[from] = std::make_unique<PacketRing>(ring_size(threads));
    }
  }
  return std::unique_ptr<Handover>(new Handover(std::move(inboxes)));
}

bool Handover::push(size_t from, size_t to, uint64_t key, uint8_t kind, Bytes header,
                    Bytes packet) {
  if (!inboxes_[to].from[from]->push(key, kind, header, packet)) return false;
  touched_[from][to] = 1;
  return true;
}

bool Handover::push_packet(size_t from, size_t to, SessionId session, Bytes header, Bytes packet) {
  return push(from, to, session.value(), kPacket, header, packet);
}

bool Handover::push_train(size_t from, size_t to, const net::UdpPath& path, Bytes datagrams,
                          size_t segment_size) {
  const TrainNote note{path, segment_size};
  return push(from, to, 0, kTrain, std::as_bytes(std::span(&note, 1)), datagrams);
}

void Handover::publish(size_t from) {
  for (size_t to = 0; to < inboxes_.size(); ++to) {
    if (!std::exchange(touched_[from][to], 0)) continue;
    if (inboxes_[to].from[from]->publish()) wake(to);
  }
}

// The counter cannot overflow: it is cleared whenever its thread takes something.
void Handover::wake(size_t to) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_fd(to), &one, sizeof one);
}

void Handover::take(size_t to, Sink& sink) {
  // Cleared first: whoever publishes from here on is either seen below or wakes us again.
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(wake_fd(to), &count, sizeof count);
  bool more = false;
  for (const auto& ring : inboxes_[to].from) {
    if (ring == nullptr) continue;
    size_t bytes = 0;
    size_t batch = 0;
    const auto end_batch = [&] {
      sink.on_batch_end();
      ring->release();
      batch = 0;
    };
    do {
      while (bytes < kTurnBytes) {
        const auto item = ring->next();
        if (!item) break;
        if (item->kind == kTrain) {
          TrainNote note;
          std::memcpy(&note, item->header.data(), sizeof note);
          sink.on_train({item->packet, note.segment_size, note.path});
        } else {
          sink.on_packet(SessionId(item->key), item->header, item->packet);
        }
        bytes += item->packet.size();
        batch += item->packet.size();
        if (batch >= kBatchBytes) end_batch();
      }
      end_batch();
    } while (bytes < kTurnBytes && !ring->fall_asleep());
    more = more || bytes >= kTurnBytes;
  }
  if (more) wake(to);
}

}  // namespace culvert::server
