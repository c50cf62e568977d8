// UdpPort: one UDP socket on a loop, the unit that DTLS channels send and receive through. What is
// sealed for a batch collects in one arena and leaves with as few system calls as possible; what
// arrives is handed on as trains. A server has one port for all sessions of a thread, a client one
// for each handshake. Knows nothing about what the datagrams contain.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/base/bytes.h"
#include "common/loop/loop.h"
#include "common/loop/poll.h"
#include "common/net/udp_arena.h"
#include "common/net/udp_plan.h"
#include "common/net/udp_socket.h"

namespace culvert::tunnel {

class UdpPort {
 public:
  class Sink {
   public:
    virtual ~Sink() = default;
    // Datagrams from one peer; the memory is the port's, valid during the call. The port must not
    // be destroyed in it.
    virtual void on_train(UdpPort& port, const net::UdpTrain& train) = 0;
    // After the trains of one receive: time to pass on what they brought. The port may be
    // destroyed.
    virtual void on_trains_end(UdpPort& port) = 0;
    // A datagram of that size was not sent, because the device or a known path does not take it.
    virtual void on_too_large(UdpPort& port, const net::UdpPath& path, uint16_t size) = 0;
  };

  // Of all datagrams; plain numbers of one thread.
  struct Stats {
    uint64_t sent = 0;
    uint64_t received = 0;
    uint64_t send_calls = 0;
    uint64_t receive_calls = 0;
    uint64_t dropped = 0;    // the kernel had no room
    uint64_t too_large = 0;  // EMSGSIZE
    uint64_t failed = 0;     // any other error
    uint64_t truncated = 0;  // larger than a slot of the arena, lost

    Stats& operator+=(const Stats& other);
  };

  // `received` is memory for incoming trains, which ports of one thread share; it and the sink must
  // outlive the port.
  UdpPort(loop::Loop& loop, net::UdpArena& received, net::UdpSocket socket, Sink& sink);
  ~UdpPort();
  UdpPort(const UdpPort&) = delete;
  UdpPort& operator=(const UdpPort&) = delete;

  Status start();

  // Memory for the next datagram, at least `size` bytes; flushes first when there is too little
  // left. Valid until commit() or flush(). REQUIRES: size <= 65535.
  [[nodiscard]] MutableBytes room(size_t size);
  // The first `size` bytes of room() are a datagram for `path`. It leaves with flush().
  void commit(size_t size, const net::UdpPath& path);
  // Sends what was committed. What the kernel does not take is lost, as datagrams may be. May call
  // Sink::on_too_large().
  void flush();

  [[nodiscard]] const net::UdpSocket& socket() const { return socket_; }
  [[nodiscard]] const Stats& stats() const { return stats_; }

 private:
  // One superpacket's worth with its records' expansion, twice.
  static constexpr size_t kSendBytes = 144U << 10;
  static constexpr size_t kMaxDatagrams = 512;

  void on_readable();

  net::UdpArena& received_;
  net::UdpSocket socket_;
  Sink& sink_;
  loop::Poll poll_;
  std::unique_ptr<std::byte[]> memory_;  // sealed datagrams, one behind the other
  size_t used_ = 0;
  std::vector<net::OutDatagram> batch_;  // capacity reserved
  std::vector<net::UdpPath> paths_;      // of the batch; capacity reserved
  Stats stats_;
  bool gso_loss_told_ = false;
  bool* destroyed_ = nullptr;  // set while the sink is called
};

}  // namespace culvert::tunnel
