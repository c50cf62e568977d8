// Handover: what the data threads pass on to each other, because the kernel gave it to the wrong
// one: packets from the TUN and datagrams for sessions that live elsewhere. A PacketRing for each
// pair of threads and direction, and a descriptor for each thread that wakes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/base/result.h"
#include "common/base/strong.h"
#include "common/base/unique_fd.h"
#include "common/net/udp_arena.h"
#include "server/packet_ring.h"

namespace culvert::server {

class Handover {
 public:
  class Sink {
   public:
    virtual ~Sink() = default;
    // From the TUN of another thread; `header` lies directly before the packet. Both may be
    // written to, and so may be the bytes before them, as many as PacketRing::kHeadroom in all.
    virtual void on_packet(SessionId session, MutableBytes header, MutableBytes packet) = 0;
    virtual void on_train(const net::UdpTrain& train) = 0;
    // About 64 KB are through, or there is nothing more: the memory is given back after this.
    virtual void on_batch_end() = 0;
  };

  // For threads number 0 to `threads` - 1. Errors: no descriptors.
  static Result<std::unique_ptr<Handover>> create(size_t threads);
  Handover(const Handover&) = delete;
  Handover& operator=(const Handover&) = delete;

  // ---- Called by the thread that passes on. Never block or allocate; no system call but the one
  // of publish(), if somebody sleeps.

  // False: no room, the caller counts a drop. REQUIRES: from != to.
  [[nodiscard]] bool push_packet(size_t from, size_t to, SessionId session, Bytes header,
                                 Bytes packet);
  [[nodiscard]] bool push_train(size_t from, size_t to, const net::UdpPath& path, Bytes datagrams,
                                size_t segment_size);
  // Makes visible what was pushed. Once a batch.
  void publish(size_t from);

  // ---- Called by the thread that takes.

  // Readable when take() has something to do; to be polled, not read.
  [[nodiscard]] int wake_fd(size_t to) const { return inboxes_[to].wake.get(); }
  // One turn: what is there, but not much more than 256 KB; then the descriptor stays readable.
  void take(size_t to, Sink& sink);

 private:
  struct Inbox {
    UniqueFd wake;
    std::vector<std::unique_ptr<PacketRing>> from;  // by producer; none from itself
  };

  explicit Handover(std::vector<Inbox> inboxes);
  void wake(size_t to);
  [[nodiscard]] bool push(size_t from, size_t to, uint64_t key, uint8_t kind, Bytes header,
                          Bytes packet);

  std::vector<Inbox> inboxes_;
  std::vector<std::vector<uint8_t>> touched_;  // [from][to]: pushed since the last publish()
};

}  // namespace culvert::server
