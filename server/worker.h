// Worker: one thread that carries packets. It has its own loop, a TUN queue, a UDP socket, the
// sessions whose channels live here and the table that finds a session for a destination. Nothing
// of it is shared: the control thread talks to it by messages and hears events (data_plane.h); what
// the kernel has given to the wrong worker goes through the Handover.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/loop/loop.h"
#include "common/loop/poll.h"
#include "common/net/tun_device.h"
#include "common/net/udp_socket.h"
#include "common/tunnel/tunnel.h"
#include "server/data_plane.h"
#include "server/handover.h"
#include "server/route_table.h"

namespace culvert::server {

// Where a session lives, as told to all other workers.
struct Presence {
  SessionId id;
  size_t worker = 0;
  std::vector<Prefix> inside;
  std::optional<tls::AppId> app_id;
};

// Everything but loop().post() belongs to the worker's thread, or to its owner while it does not
// run.
class Worker final : private tunnel::Router,
                     private tunnel::TunnelObserver,
                     private tunnel::Neighbours,
                     private Handover::Sink {
 public:
  struct Place {
    size_t number = 0;
    size_t count = 1;
    Handover* handover = nullptr;  // must outlive the worker; nothing if it is alone
  };
  // The UDP channel's part: one socket, and what is the same for all workers.
  struct Udp {
    net::UdpSocket socket;
    std::shared_ptr<const tls::DtlsConfig> config;
    std::shared_ptr<const tls::DtlsCookieKey> cookie_key;
  };

  // `to_control` is called on the worker's thread and must only post.
  Worker(Place place, net::TunDevice queue, std::optional<Udp> udp,
         std::function<void(DataEvent)> to_control);
  ~Worker() override;

  loop::Loop& loop() { return loop_; }
  Status start();
  void run() { loop_.run(); }

  // As DataPlane's.
  void attach(AttachRequest request);
  void end(SessionId id, EndKind kind, const std::string& reason);
  void forget(SessionId id);
  // A session of another worker is there, or has other networks; and is gone.
  void publish(Presence presence);
  void withdraw(SessionId id);
  void add_to(DataPlaneStats& stats);

 private:
  // Who gets a packet: a session of ours, or another worker's.
  struct Target {
    SessionId id;
    size_t worker = 0;
    tunnel::TunnelSession* session = nullptr;
    friend bool operator==(const Target&, const Target&) = default;
  };

  void route(std::span<const MutableBytes> packets,
             std::span<tunnel::TunnelSession*> sessions) override;
  void route_end() override;
  void pass_on(const Target& target, MutableBytes packet);

  void on_channel_end(tunnel::TunnelSession& session, const tunnel::ChannelEnd& end) override;
  void on_carrier_changed(tunnel::TunnelSession& session) override;
  void on_path_mtu(tunnel::TunnelSession& session, Mtu mtu) override;
  void on_tun_lost() override;
  void tell(tunnel::TunnelSession& session, DataEvent::Kind kind);

  void hand_over(size_t front, const net::UdpPath& path, Bytes datagrams,
                 size_t segment_size) override;
  void hand_over_end() override;

  void on_packet(SessionId id, MutableBytes header, MutableBytes packet) override;
  void on_train(const net::UdpTrain& train) override;
  void on_batch_end() override;

  [[nodiscard]] std::optional<tunnel::UdpSpec> udp_spec(const AttachRequest& request) const;
  [[nodiscard]] SessionStats stats_of(tunnel::TunnelSession& session) const;
  void announce(const std::vector<Prefix>& inside, const Target& target);

  Place place_;
  loop::Loop loop_;
  loop::Poll wake_;
  std::function<void(DataEvent)> to_control_;
  RouteTable<Target> routes_;
  std::unordered_map<SessionId, std::vector<Prefix>> announced_;  // what each has in routes_
  std::unordered_map<SessionId, tls::AppId> elsewhere_;           // as told to the front
  std::unordered_map<SessionId, uint64_t> attachments_;           // number of the newest connection
  tunnel::Tunnel tunnel_;
  std::optional<Udp> udp_;  // its socket is the tunnel's after start()
  size_t header_size_;      // what the TUN puts before each packet
  uint64_t unrouted_ = 0;
  uint64_t packets_handed_over_ = 0;
  uint64_t handover_drops_ = 0;
  bool passed_on_ = false;   // packets, in this call of route()
  bool took_train_ = false;  // since the last batch end
};

}  // namespace culvert::server
