// Tunnel: the packet loop of one thread. It joins one TUN queue with the sessions that live on the
// thread:
//
//   TUN ── read_batch ──► Router: whose packet? ──► session ── channel ──► peer
//   TUN ◄─ write_batch ── source check ◄─ session ◄─ channel ◄── peer
//
// Server and client use the same code; they differ in the Router (a route table, or the one session
// there is) and in the source check (the session's addresses, or none).
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/base/address.h"
#include "common/base/strong.h"
#include "common/loop/loop.h"
#include "common/loop/poll.h"
#include "common/loop/timer.h"
#include "common/net/gro_merge.h"
#include "common/net/tun_device.h"
#include "common/tunnel/channel.h"
#include "common/tunnel/cstp_channel.h"
#include "common/tunnel/stats.h"

namespace culvert::tunnel {

class TunnelSession;

// Whose packet is it?
class Router {
 public:
  virtual ~Router() = default;
  // For each packet the session it goes to, or nullptr. One call a batch; must not allocate.
  virtual void route(std::span<const MutableBytes> packets, std::span<TunnelSession*> sessions) = 0;
};

class TunnelObserver {
 public:
  virtual ~TunnelObserver() = default;
  // The session's channel is gone (it was not replaced). The session itself stays until remove(),
  // which may be called from here.
  virtual void on_channel_end(TunnelSession& session, const ChannelEnd& end) = 0;
  virtual void on_alive(TunnelSession& /*session*/) {}
  // Somebody deleted the TUN device: no packet will pass any more. The log has it already.
  virtual void on_tun_lost() {}
};

struct SessionSpec {
  SessionId id;
  // Inner source addresses that the peer may use; empty: any.
  std::vector<Prefix> sources;
  CstpOptions cstp;
};

// The data-plane half of one session: its channel, what it may send, what it has carried.
class TunnelSession final : private ChannelObserver {
 public:
  [[nodiscard]] SessionId id() const { return spec_.id; }
  [[nodiscard]] const Counters& counters() const { return counters_; }
  [[nodiscard]] const SessionSpec& spec() const { return spec_; }
  // nullptr when there is none.
  [[nodiscard]] CstpChannel* channel() { return channel_.get(); }
  // A packet from the TUN; without a channel it is counted and dropped. flush() once a batch.
  void add(MutableBytes packet);
  // The same for a superpacket whose header has passed check_vnet().
  void add_superpacket(const net::VnetHeader& header, MutableBytes packet);
  void flush();

 private:
  friend class Tunnel;
  TunnelSession(class Tunnel& tunnel, SessionSpec spec) : tunnel_(tunnel), spec_(std::move(spec)) {}

  void on_packets(Channel& channel, net::PacketBatch& batch) override;
  void on_superpacket(Channel& channel, const net::VnetHeader& header,
                      MutableBytes packet) override;
  void on_alive(Channel& channel) override;
  void on_channel_end(Channel& channel, const ChannelEnd& end) override;
  [[nodiscard]] bool admits(Bytes packet);

  class Tunnel& tunnel_;
  SessionSpec spec_;
  Counters counters_;
  std::unique_ptr<CstpChannel> channel_;
};

class Tunnel {
 public:
  // Takes over the TUN queue. `router` and `observer` must outlive the tunnel.
  Tunnel(loop::Loop& loop, net::TunDevice tun, Router& router, TunnelObserver& observer);
  ~Tunnel();
  Tunnel(const Tunnel&) = delete;
  Tunnel& operator=(const Tunnel&) = delete;

  Status start();

  // The session of this id, made or brought up to date. No channel yet, or still the old one.
  TunnelSession& open(SessionSpec spec);
  // Gives an open session a channel over the given connection; one that it had is closed without a
  // word. The observer may be called before this returns. REQUIRES: open() was called for `id`.
  Status attach(SessionId id, UniqueFd socket, std::unique_ptr<tls::TlsSession> tls,
                Bytes leftover);
  // Forgets the session and closes its channel at once.
  void remove(SessionId id);
  // nullptr if there is none.
  [[nodiscard]] TunnelSession* find(SessionId id);
  template <typename F>
  void for_each(F f) {
    for (auto& entry : sessions_)
      f(*entry.second);
  }

  [[nodiscard]] const net::TunDevice& tun() const { return tun_; }
  // Packets that had no session.
  [[nodiscard]] const Counters& unrouted() const { return unrouted_; }

 private:
  friend class TunnelSession;
  void on_tun_readable();
  void distribute();
  void add_from_kernel(TunnelSession& owner, MutableBytes packet);
  void write_inside(net::PacketBatch& batch, TunnelSession& from);
  void write_superpacket(const net::VnetHeader& header, MutableBytes packet, TunnelSession& from);
  net::WriteOutcome write_alone(const net::VnetHeader& header, MutableBytes packet, size_t packets);
  void tick();

  loop::Loop& loop_;
  net::TunDevice tun_;
  Router& router_;
  TunnelObserver& observer_;
  loop::Poll poll_;
  loop::Timer timer_;
  ChannelScratch scratch_;
  net::PacketBatch outbound_;           // packets and superpackets of one TUN read
  std::vector<TunnelSession*> owners_;  // of the packets in outbound_
  std::vector<MutableBytes> admitted_;  // packets of one write
  net::GroMerger merger_;
  std::unordered_map<SessionId, std::unique_ptr<TunnelSession>> sessions_;
  std::vector<SessionId> ticking_;  // scratch of tick()
  Counters unrouted_;
};

}  // namespace culvert::tunnel
