// Tunnel: the packet loop of one thread. It joins one TUN queue with the sessions that live on the
// thread:
//
//   TUN ── read_batch ──► Router: whose packet? ──► session ─┬─ DTLS ──► peer
//   TUN ◄─ write_batch ── source check ◄──────────── session ◄┴─ TLS ◄─── peer
//
// TLS is always there; which of the two carries a session's packets is its CarrierChoice's to say.
// While its keys are renewed a session has two TLS connections: packets leave by the new one, and
// those that come are taken from the old one until it is drained (culvert-protocol(7)).
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
#include "common/loop/deferred.h"
#include "common/loop/loop.h"
#include "common/loop/poll.h"
#include "common/loop/timer.h"
#include "common/net/gro_merge.h"
#include "common/net/sys.h"
#include "common/net/tun_device.h"
#include "common/tls/dtls_cookie.h"
#include "common/tunnel/carrier_choice.h"
#include "common/tunnel/channel.h"
#include "common/tunnel/cstp_channel.h"
#include "common/tunnel/dtls_channel.h"
#include "common/tunnel/dtls_front.h"
#include "common/tunnel/stats.h"
#include "common/wire/culvert_features.h"

namespace culvert::tunnel {

// The largest packet that one read of the TUN brings, bytes.
inline constexpr size_t kMaxSuperpacket = 65535;

class TunnelSession;

// Whose packet is it?
class Router {
 public:
  virtual ~Router() = default;
  // For each packet the session of this thread that it goes to; nullptr: none, and the router has
  // done with it what is to be done. One call a batch; must not allocate.
  virtual void route(std::span<const MutableBytes> packets, std::span<TunnelSession*> sessions) = 0;
  // No more batches in this turn of the loop: what route() has passed on may go.
  virtual void route_end() {}
};

class TunnelObserver {
 public:
  virtual ~TunnelObserver() = default;
  // The session's channel is gone (it was not replaced), or the peer has ended the session on the
  // one that it had before. The session itself stays until remove(), which may be called from here.
  virtual void on_channel_end(TunnelSession& session, const ChannelEnd& end) = 0;
  // A DPD answer came over TLS.
  virtual void on_alive(TunnelSession& /*session*/) {}
  // Packets go over the other channel now: see TunnelSession::choice().
  virtual void on_carrier_changed(TunnelSession& /*session*/) {}
  // The largest packet that the session's carrier takes without a detour: what routes into the
  // tunnel should say.
  virtual void on_path_mtu(TunnelSession& /*session*/, Mtu /*mtu*/) {}
  // Somebody deleted the TUN device: no packet will pass any more. The log has it already.
  virtual void on_tun_lost() {}
};

struct SessionSpec {
  SessionId id;
  // Inner source addresses that the peer may use; empty: any.
  std::vector<Prefix> sources;
  CstpOptions cstp;
  // What CONNECT granted: the largest packet that the kernel hands us for this session.
  Mtu mtu{1500};
  // We are the side that closes an old connection when it is drained.
  bool client = false;
};

// The UDP channel of a connection.
struct UdpSpec {
  // The key is filled in by Tunnel::attach().
  DtlsOptions dtls;
  CarrierChoice::Options choice;
  // An IPv6 address is assigned inside: a path that takes less than 1,280 bytes is of no use.
  bool inner_ipv6 = false;
  // The association is renewed after this long (client); 0: never.
  Duration rekey{};
};

// The data-plane half of one session: its channels, what it may send, what it has carried.
class TunnelSession final : private DtlsObserver {
 public:
  [[nodiscard]] SessionId id() const { return spec_.id; }
  [[nodiscard]] const Counters& counters() const { return counters_; }
  [[nodiscard]] const SessionSpec& spec() const { return spec_; }
  // nullptr when there is none.
  [[nodiscard]] CstpChannel* channel() { return channel_.get(); }
  // The connection before that one is still to be drained.
  [[nodiscard]] bool draining() const { return old_ != nullptr; }
  [[nodiscard]] DtlsChannel* dtls() { return dtls_.get(); }
  // Nothing without a UDP channel.
  [[nodiscard]] const std::optional<CarrierChoice>& choice() const { return choice_; }
  // The one that carries packets now; nullptr when there is none.
  [[nodiscard]] Channel* carrier();
  // As told to TunnelObserver::on_path_mtu().
  [[nodiscard]] Mtu path_mtu() const { return path_mtu_; }
  // Bytes that packets may be cut to for the carrier of now.
  [[nodiscard]] size_t cut() const;
  // A packet from the TUN; without a channel it is counted and dropped. flush_datagrams() once a
  // batch, flush_stream() once a turn: datagrams leave while they are in the cache, but a stream is
  // the cheaper for its receiver the more of it comes at once.
  void add(MutableBytes packet);
  // The same for a superpacket whose header has passed check_vnet().
  void add_superpacket(const net::VnetHeader& header, MutableBytes packet);
  void flush_datagrams();
  void flush_stream();
  // The network under the channels is not the one that it was: both are asked for a sign of life,
  // and what was given up about UDP is tried again.
  void path_changed();
  // As CstpChannel's, on every connection that there is; the end is reported once.
  void disconnect(uint8_t code, std::string_view text);
  void close(std::string_view text);

 private:
  friend class Tunnel;
  TunnelSession(class Tunnel& tunnel, SessionSpec spec);

  void on_packets(Channel& channel, net::PacketBatch& batch) override;
  void on_superpacket(Channel& channel, const net::VnetHeader& header,
                      MutableBytes packet) override;
  void on_alive(Channel& channel) override;
  void on_switch(Channel& channel) override;
  void on_channel_end(Channel& channel, const ChannelEnd& end) override;
  void on_dtls_up(DtlsChannel& channel) override;
  void on_dtls_received(DtlsChannel& channel) override;
  void on_dtls_down(DtlsChannel& channel, const std::string& text) override;
  void on_path_mtu(DtlsChannel& channel) override;
  void on_due_changed(DtlsChannel& channel) override;
  [[nodiscard]] bool admits(Bytes packet);

  void retire_channel(TimePoint now);
  [[nodiscard]] bool fits_datagrams(const net::VnetHeader& header, Bytes packet) const;
  void add_unsummed(const net::VnetHeader& header, MutableBytes packet);
  [[nodiscard]] bool waits_for_old() const;
  void settle(TimePoint now);

  void start_udp(std::unique_ptr<DtlsChannel> channel, const UdpSpec& udp);
  void renew_udp(DtlsOptions options, const UdpSpec& udp);
  void tick_udp(TimePoint now);
  void dial();
  void renew_keys(TimePoint now);
  [[nodiscard]] TimePoint udp_due() const;
  void judge_path();
  void note_tls_data();
  void note_choice();

  class Tunnel& tunnel_;
  SessionSpec spec_;
  Counters counters_;
  std::unique_ptr<CstpChannel> channel_;
  std::unique_ptr<CstpChannel> old_;  // the one before, until it is drained
  TimePoint old_until_{};             // or its time is over
  std::unique_ptr<DtlsChannel> dtls_;
  std::optional<CarrierChoice> choice_;
  bool dials_ = false;       // client: we begin the handshakes
  bool inner_ipv6_ = false;  // as in UdpSpec, and so is:
  Duration rekey_{};
  bool over_dtls_ = false;   // choice_, for the packet path
  bool sent_dtls_ = false;   // since the last flush_datagrams()
  std::string udp_failure_;  // told once
  TimePoint keys_since_{};   // of the association in use
  Mtu path_mtu_{0};
  // The packets of a TUN batch that are this session's, chained by index.
  uint16_t first_in_batch_ = 0;
  uint16_t last_in_batch_ = 0;
  bool in_batch_ = false;
  bool in_turn_ = false;  // has had packets in this turn of the TUN
};

class Tunnel {
 public:
  // Takes over the TUN queue. `router` and `observer` must outlive the tunnel.
  Tunnel(loop::Loop& loop, net::TunDevice tun, Router& router, TunnelObserver& observer);
  ~Tunnel();
  Tunnel(const Tunnel&) = delete;
  Tunnel& operator=(const Tunnel&) = delete;

  Status start();
  // Server: DTLS handshakes are taken on this bound socket from now on. Before start(), once.
  Status serve_udp(net::UdpSocket socket, std::shared_ptr<const tls::DtlsCookieKey> cookie_key,
                   FrontPlace place = {});

  // The session of this id, made or brought up to date. No channel yet, or still the old one.
  TunnelSession& open(SessionSpec spec);
  // Gives an open session a channel over the given connection, and one over UDP beside it, keyed
  // from it. The observer may be called before this returns. A UDP channel that cannot be had is
  // logged and done without. What becomes of the channels that the session had:
  //  - kNone: they are closed without a word;
  //  - kRekey: TLS is drained before anything is taken from the new connection, for ten seconds at
  //    most; the UDP association stays until a handshake with the new key has replaced it;
  //  - kRoam: TLS is closed without a word, UDP stays as it is and `udp` is not looked at.
  // REQUIRES: open() was called for `id`; serve_udp() if `udp` is a server's; kRekey: it was
  // negotiated on both connections.
  Status attach(SessionId id, UniqueFd socket, std::unique_ptr<tls::TlsSession> tls, Bytes leftover,
                std::optional<UdpSpec> udp = {}, wire::AttachMode mode = wire::AttachMode::kNone);
  // Forgets the session and closes its channel at once.
  void remove(SessionId id);
  // nullptr if there is none.
  [[nodiscard]] TunnelSession* find(SessionId id);

  // A packet for a session of ours that another thread has read from its queue of the same device;
  // what read_batch() has put before it is there as well. end_hand_in() after a batch of them,
  // end_turn() when there are no more for the moment.
  void hand_in(TunnelSession& session, MutableBytes packet);
  void end_hand_in();
  void end_turn();

  template <typename F>
  void for_each(F f) {
    for (auto& entry : sessions_)
      f(*entry.second);
  }

  [[nodiscard]] const net::TunDevice& tun() const { return tun_; }
  // nullptr without serve_udp().
  [[nodiscard]] DtlsFront* front() const { return front_.get(); }

 private:
  friend class TunnelSession;
  void on_tun_readable();
  size_t distribute();
  void join_turn(TunnelSession& session);
  void chain(TunnelSession& owner, uint16_t index);
  void add_from_kernel(TunnelSession& owner, MutableBytes packet);
  void write_inside(net::PacketBatch& batch, TunnelSession& from);
  void write_superpacket(const net::VnetHeader& header, MutableBytes packet, TunnelSession& from);
  net::WriteOutcome write_alone(const net::VnetHeader& header, MutableBytes packet, size_t packets);
  void tick();
  void schedule_udp(TimePoint due);
  void tick_udp();
  [[nodiscard]] DtlsScratch& dtls_scratch();
  void attach_udp(TunnelSession& session, tls::TlsSession& tls, std::optional<UdpSpec> udp,
                  wire::AttachMode mode);
  void settle_soon(TunnelSession& session);
  void settle();

  loop::Loop& loop_;
  net::TunDevice tun_;
  Router& router_;
  TunnelObserver& observer_;
  net::KernelSys sys_;
  loop::Poll poll_;
  loop::Timer timer_;
  loop::Timer udp_timer_;
  TimePoint udp_timer_due_ = TimePoint::max();
  ChannelScratch scratch_;
  std::unique_ptr<DtlsScratch> dtls_scratch_;  // made for the first UDP channel
  std::unique_ptr<DtlsFront> front_;
  net::PacketBatch outbound_;           // packets and superpackets of one TUN read
  std::vector<TunnelSession*> owners_;  // of the packets in outbound_
  std::vector<uint16_t> next_;          // the packet after packet i that has the same owner
  std::vector<TunnelSession*> group_;   // the owners in outbound_, each once
  std::vector<TunnelSession*> turn_;    // those of the turn
  std::vector<MutableBytes> admitted_;  // packets of one write
  std::vector<net::Sums> admitted_sums_;
  net::GroMerger merger_;
  std::unordered_map<SessionId, std::unique_ptr<TunnelSession>> sessions_;
  std::vector<SessionId> ticking_;      // scratch of tick()
  std::vector<SessionId> settling_;     // whose old connection has come to something
  TunnelSession* handed_to_ = nullptr;  // of the hand_in() before
  loop::Deferred settler_;
};

}  // namespace culvert::tunnel
