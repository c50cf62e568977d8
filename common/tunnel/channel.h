// Channel: one way of carrying a session's packets to its peer (CSTP over TLS; later DTLS).
//
// common/tunnel is the module that server and client share: channels, the queue before them, what
// keeps them alive, and the packet loop between the TUN and them. It runs on one loop (one thread)
// and shares nothing with other threads.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/net/packet_batch.h"
#include "common/net/vnet_header.h"

namespace culvert::tunnel {

// How a channel ended.
struct ChannelEnd {
  enum class Kind {
    kPeerEnded,  // a DISCONNECT or TERMINATE frame; a client's means it only with kReasonUser
    kLost,       // end of stream, reset, TLS error: the session may come back on a new connection
    kDead,       // no sign of life for too long; as kLost
    kProtocol,   // the peer broke the framing
    kClosed,     // we ended it ourselves, as asked
  };
  Kind kind = Kind::kLost;
  std::string text;             // for the log and the user; may hold the peer's words: escape it
  std::optional<uint8_t> code;  // the reason byte of a DISCONNECT frame
};

class Channel;

class ChannelObserver {
 public:
  virtual ~ChannelObserver() = default;
  // Packets from the peer, not yet checked. The batch is the channel's: valid during the call.
  virtual void on_packets(Channel& channel, net::PacketBatch& batch) = 0;
  // A superpacket from the peer, or a packet whose checksum is left to us. The header has passed
  // check_vnet() with the session's bounds; the packet's inside is not checked. It may be split in
  // place, and net::kVnetHeaderSize bytes before it may be written: valid during the call. What
  // came before it was delivered before it.
  virtual void on_superpacket(Channel& /*channel*/, const net::VnetHeader& /*header*/,
                              MutableBytes /*packet*/) {}
  // A DPD answer came: the peer's tunnel end is alive.
  virtual void on_alive(Channel& /*channel*/) {}
  // A SWITCH frame: no more packets will come over this channel.
  virtual void on_switch(Channel& /*channel*/) {}
  // The last call. The channel may be destroyed in it.
  virtual void on_channel_end(Channel& channel, const ChannelEnd& end) = 0;
};

class Channel {
 public:
  virtual ~Channel() = default;

  // Seals the packet if there is room, else queues or drops (and counts) it; never blocks. The
  // packet is done with when this returns. What was added leaves with the next flush().
  // REQUIRES: kChannelHeadroom writable bytes before the packet; they are overwritten.
  virtual void add(MutableBytes packet) = 0;
  // The same for what the TUN gave us as one unit; `header` has passed check_vnet(). A channel that
  // cannot carry it whole adds the packets that it stands for, as this default does.
  // REQUIRES: as add(). The packet is used up.
  virtual void add_superpacket(const net::VnetHeader& header, MutableBytes packet);
  // Hands to the kernel what was sealed: once a batch.
  virtual void flush() = 0;
  // A whole batch.
  void send(std::span<const MutableBytes> packets) {
    for (const MutableBytes packet : packets)
      add(packet);
    flush();
  }
  // Liveness and queue upkeep; called about twice a second.
  virtual void tick() = 0;
  // Asks the peer for a sign of life now; on_alive() follows.
  virtual void probe() = 0;
  [[nodiscard]] virtual std::string_view name() const = 0;
};

// What the hungriest channel writes before a packet: a CSTP header and a virtio header.
constexpr size_t kChannelHeadroom = 8 + net::kVnetHeaderSize;
// What stands before the packets of a batch: that, or the TUN's virtio header.
constexpr size_t kBatchHeadroom = 32;
static_assert(kBatchHeadroom >= kChannelHeadroom && kBatchHeadroom >= net::kVnetHeaderSizeLong);

}  // namespace culvert::tunnel
