// DataPlane: the threads that carry packets, seen from the control thread. It knows on which of
// them each session lives (its home), tells the others where that is, and hears of events by
// messages. What happens on such a thread is worker.h's business.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "common/base/address.h"
#include "common/base/strong.h"
#include "common/base/unique_fd.h"
#include "common/loop/loop.h"
#include "common/net/tun_device.h"
#include "common/net/tun_steering.h"
#include "common/net/udp_socket.h"
#include "common/tls/dtls_config.h"
#include "common/tls/dtls_cookie.h"
#include "common/tls/tls_session.h"
#include "common/tunnel/key_life.h"
#include "common/tunnel/stats.h"
#include "common/tunnel/tunnel.h"
#include "common/wire/culvert_features.h"

namespace culvert::server {

class Handover;
class Worker;

struct AttachRequest {
  SessionId id;
  uint64_t attachment = 0;               // said again in the events of this connection
  UniqueFd socket;                       // connected, non-blocking
  std::unique_ptr<tls::TlsSession> tls;  // after the CONNECT answer was written to the socket
  std::vector<std::byte> leftover;       // decrypted bytes that followed the CONNECT request
  std::vector<Prefix> inside;            // addresses of the peer and networks behind it
  std::chrono::seconds dpd{}, keepalive{};
  Mtu mtu{1500};                                          // inside, as granted
  std::optional<std::array<std::byte, 32>> udp_app_id{};  // the UDP channel was granted
  uint16_t base_mtu = 1500;                               // of the path outside, as granted
  Family outer = Family::kV4;                             // of the connection
  wire::CulvertFeatures features{};                       // as granted; none: a stock client
  wire::AttachMode mode = wire::AttachMode::kNone;        // what becomes of the channels it had
};

// What it takes to serve UDP: a socket for each thread, bound to the same port in the order of the
// threads, and what all sessions share.
struct UdpService {
  std::vector<net::UdpSocket> sockets;
  std::shared_ptr<const tls::DtlsConfig> config;
  std::shared_ptr<const tls::DtlsCookieKey> cookie_key;
};

struct SessionStats {
  SessionId id;
  size_t worker = 0;  // number of the thread that it lives on
  tunnel::Counters counters;
  std::string channel;         // what carries packets: "tls" or "dtls"; empty: none at the moment
  std::string channel_reason;  // why; empty without a UDP channel
  std::string tls_version, cipher;
  tunnel::KeyUse tls_use;   // of its TLS connection; the age is not told
  std::string dtls_cipher;  // empty: no UDP channel
  Mtu path_mtu;
  size_t queued_bytes = 0;
};

struct DataEvent {
  enum class Kind {
    kChannelLost,  // the session may come back with its cookie
    kPeerEnded,    // the peer sent DISCONNECT: the session is over
    kEnded,        // as asked by end()
    kCarrier,      // another channel carries the packets, see stats
    kPathMtu,      // the path takes packets of another size, see stats
    kTunLost,      // of no session: somebody has deleted the TUN device
  };
  SessionId id;
  uint64_t attachment = 0;  // of the connection that it is about: one that was replaced meanwhile?
  Kind kind;
  std::string reason;  // may hold the peer's words
  SessionStats stats;
};

enum class EndKind {
  kKick,   // DISCONNECT frame with the reason: the client must not come back by itself
  kClose,  // plain close: the client comes back with its cookie
};

struct DataPlaneStats {
  std::vector<SessionStats> sessions;
  uint64_t unrouted = 0;  // packets from the TUN that nobody owns
  struct Worker {
    size_t sessions = 0;
    uint64_t packets_handed_over = 0;  // from its TUN queue to another worker; counted as read
    uint64_t trains_handed_over = 0;   // the same from its UDP socket
    uint64_t handover_drops = 0;       // the other one did not keep up
  };
  std::vector<Worker> workers;
  // Of the UDP sockets together; nothing if UDP is not served.
  struct Udp {
    bool gso = true, gro = true;  // all of them have it
    tunnel::UdpPort::Stats traffic;
    tunnel::DtlsFront::Stats strangers;
  };
  std::optional<Udp> udp;
};

// Everything but the constructor's callback belongs to the control thread.
class DataPlane {
 public:
  // A thread for each queue, all of one device, which `steering` steers if there is any; if UDP is
  // served, as many sockets. `to_control` is called on the data threads and must only post; the
  // control thread shows each event to note() before anybody else deals with it. Errors: no
  // descriptors.
  static Result<std::unique_ptr<DataPlane>> create(std::vector<net::TunDevice> queues,
                                                   std::optional<net::TunSteering> steering,
                                                   std::optional<UdpService> udp,
                                                   std::function<void(DataEvent)> to_control);
  ~DataPlane();  // REQUIRES: not started, or stop_and_join() was called
  DataPlane(const DataPlane&) = delete;
  DataPlane& operator=(const DataPlane&) = delete;

  // Starts the threads. After an error call stop_and_join().
  Status start();
  // Closes every channel without a DISCONNECT frame ("come back") and ends the threads.
  void stop_and_join();

  // These take effect in the order of the calls.
  // attach() with a known id replaces the channel (same addresses); AttachRequest::mode says what
  // becomes of the old ones, as of tunnel::Tunnel::attach().
  void attach(AttachRequest request);
  // An event of kind kEnded follows, also if the session has no channel or is unknown.
  void end(SessionId id, EndKind kind, std::string reason);
  // Forgets the session at once; no event follows.
  void forget(SessionId id);
  // `done` is called on a data thread and must only post.
  void snapshot(std::function<void(DataPlaneStats)> done);
  // What an event says about where sessions are.
  void note(const DataEvent& event);

  [[nodiscard]] size_t workers() const { return workers_.size(); }
  // The kernel gives packets to the thread of their session; it may stop doing so.
  [[nodiscard]] bool steered() const { return steering_.has_value(); }

 private:
  struct Home {
    size_t worker = 0;
    uint64_t attachment = 0;
    std::vector<Prefix> inside;  // what is steered there
  };

  DataPlane();
  [[nodiscard]] size_t least_loaded() const;
  void leave(SessionId id);
  void steer(Home& home, const std::vector<Prefix>& inside);
  template <typename F>
  void post(size_t worker, F task);

  std::optional<net::TunSteering> steering_;
  std::unique_ptr<Handover> handover_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::thread> threads_;
  std::unordered_map<SessionId, Home> homes_;
  std::vector<size_t> load_;  // sessions of each worker
};

}  // namespace culvert::server
