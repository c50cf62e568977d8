// CstpChannel: the session's packets as CSTP frames in a TLS connection.
//
// Sending: one frame, one TLS record (stock peers drop or die otherwise, openconnect-protocol 5.1);
// the records of a batch leave in one write(2). What the socket does not take waits in a FlowQueue,
// and TCP_NOTSENT_LOWAT keeps the kernel's own unsent part short, so that the queue that can drop
// wisely is ours. Receiving: one read brings many records; frames are taken from the byte stream,
// so that a peer may cut them as it likes.
//
// To a Culvert peer that has agreed on it (packaging/man/culvert-protocol.7), superpackets go and
// come whole, also through the queue, and small frames share records.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/strong.h"
#include "common/base/unique_fd.h"
#include "common/loop/loop.h"
#include "common/loop/poll.h"
#include "common/net/packet_batch.h"
#include "common/tls/tls_session.h"
#include "common/tunnel/channel.h"
#include "common/tunnel/flow_queue.h"
#include "common/tunnel/frame_reader.h"
#include "common/tunnel/liveness.h"
#include "common/tunnel/stats.h"
#include "common/wire/cstp.h"
#include "common/wire/culvert_features.h"

namespace culvert::tunnel {

// What the channels of one thread share: scratch memory used within one call, and the pool.
// Must outlive the channels.
struct ChannelScratch {
  // The bounds are those of the memory of all queues of the thread together.
  explicit ChannelScratch(size_t max_packet, size_t max_queued_packets = 1U << 16,
                          size_t max_queued_superpackets = 1U << 12);

  std::vector<std::byte> received;  // ciphertext of one read
  net::PacketBatch inbound;         // frames of one read
  PacketPool pool;                  // queued packets of all sessions
};

struct CstpOptions {
  Liveness::Options liveness;
  FlowQueue::Limits queue;
  wire::CulvertFeatures features;  // what both sides have agreed on: see agree()
  size_t mtu = 65535;              // of the session: nothing larger may come out of a superpacket

  // With superpackets, a queue of the usual size would hold sixteen of them: less than what one
  // turn brings from a fast sender. The bound of time stays.
  static constexpr size_t kSuperpacketQueue = 4U << 20;
  void agree(const wire::CulvertFeatures& both, Mtu session_mtu) {
    features = both;
    mtu = session_mtu.value();
    if (features.superpacket) queue.max_bytes = kSuperpacketQueue;
  }
};

class CstpChannel final : public Channel {
 public:
  // Takes over the connected, non-blocking socket and the TLS session that spoke CONNECT on it.
  // The counters and everything referred to must outlive the channel.
  CstpChannel(loop::Loop& loop, ChannelScratch& scratch, UniqueFd socket,
              std::unique_ptr<tls::TlsSession> tls, const CstpOptions& options,
              ChannelObserver& observer, Counters& counters);
  ~CstpChannel() override;

  // Begins to listen. `leftover`: decrypted bytes that followed the CONNECT exchange. The observer
  // may hear of packets or of the end before this returns. A held channel sends, but takes nothing
  // from the peer until resume(): what comes waits in the kernel, and the peer's silence counts for
  // nothing.
  enum class Begin : uint8_t { kAtOnce, kHeld };
  Status start(Bytes leftover, Begin begin = Begin::kAtOnce);
  // Does nothing unless held. The observer may hear of packets or of the end before this returns.
  void resume();

  void add(MutableBytes packet) override;
  void add_superpacket(const net::VnetHeader& header, MutableBytes packet) override;
  void flush() override;
  void tick() override;
  void probe() override;
  [[nodiscard]] std::string_view name() const override { return "tls"; }

  // Sends a DISCONNECT frame with the given reason byte and text, then closes; on_channel_end
  // (kClosed, with the text) follows when the peer has closed too, or after two seconds.
  void disconnect(uint8_t code, std::string_view text);
  // Sends a SWITCH frame behind everything that was added; what is added later is dropped and
  // counted. REQUIRES: options.features.rekey.
  void send_switch();
  // The SWITCH frame, and so everything before it, has been handed to the kernel.
  [[nodiscard]] bool switch_sent() const;
  // A SWITCH frame has come, and everything before it was delivered.
  [[nodiscard]] bool peer_switched() const { return peer_switched_; }
  // Closes without a DISCONNECT frame: "come back". on_channel_end (kClosed) follows as above.
  void close(std::string_view text);

  [[nodiscard]] const tls::TlsSession& tls() const { return *tls_; }
  [[nodiscard]] size_t queued_bytes() const { return queue_.bytes(); }
  // When something last came from the peer: a record, or the acknowledgement of its kernel, which
  // also comes when what was sent last is still on its way. To a millisecond.
  [[nodiscard]] TimePoint last_heard() const;

 private:
  enum class State { kOpen, kClosing, kEnded };

  void on_ready(unsigned ready, int error);
  void update_interest();
  void take_leftover(Bytes leftover);
  // Each of these returns false once the channel has ended (and may be gone).
  bool receive();
  bool take_records();
  bool take_stream(Bytes bytes);
  bool take_frames();
  bool take_frame(uint8_t type, MutableBytes payload);
  void take_data(Bytes payload);
  void take_superpacket(MutableBytes payload);
  void take_switch();
  void deliver();

  // A frame's payload, and what it stands for.
  struct Unit {
    wire::CstpType type;
    MutableBytes payload;  // with kCstpHeaderSize writable bytes before it
    uint16_t packets;
    size_t bytes;  // of IP
  };
  void add_unit(const Unit& unit, Bytes packet);
  [[nodiscard]] bool has_room() const;
  [[nodiscard]] size_t sealed_bytes() const;
  void seal(const Unit& unit);
  void write_frame(Bytes frame);
  void seal_packed();
  void enqueue(const Unit& unit, uint32_t flow);
  void count_queue_drops();
  void refill();
  void send_control(wire::CstpType type, Bytes payload);
  void fail_later(std::string text);

  void begin_closing(std::string_view text);
  void shut_down_sending();
  void end(ChannelEnd::Kind kind, std::string text, std::optional<uint8_t> code = {});

  loop::Loop& loop_;
  ChannelScratch& scratch_;
  ChannelObserver& observer_;
  Counters& counters_;
  UniqueFd socket_;
  std::unique_ptr<tls::TlsSession> tls_;
  loop::Poll poll_;
  FlowQueue queue_;
  FlowQueue::Drops counted_drops_;
  Liveness liveness_;
  const wire::CulvertFeatures features_;
  const net::VnetBounds bounds_;  // of superpackets that come
  FrameReader reader_;
  std::vector<std::byte> packed_;         // small frames that will share a record
  std::vector<std::byte> control_frame_;  // scratch of send_control()
  std::optional<std::string> failure_;    // a send error that is still to be reported
  State state_ = State::kOpen;
  bool switch_due_ = false;  // SWITCH follows when the queue is empty
  bool switched_ = false;    // and no more packets after it
  bool peer_switched_ = false;
  bool held_ = false;                // nothing is taken from the peer
  std::vector<std::byte> leftover_;  // of start(), while held
  bool blocked_ = false;             // the socket took less than offered; waiting for writability
  bool half_closed_ = false;         // our sending side is shut down
  std::string closing_text_;
  TimePoint closing_deadline_{};
};

}  // namespace culvert::tunnel
