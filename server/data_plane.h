// DataPlane: the thread that carries packets. It has its own loop, one TUN queue, the sessions
// whose channels live here and the table that finds a session for a destination. Nothing of it is
// shared: the other threads talk to it by messages, and it answers by messages.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/address.h"
#include "common/base/strong.h"
#include "common/base/unique_fd.h"
#include "common/loop/loop.h"
#include "common/net/tun_device.h"
#include "common/net/udp_socket.h"
#include "common/tls/dtls_config.h"
#include "common/tls/dtls_cookie.h"
#include "common/tls/tls_session.h"
#include "common/tunnel/stats.h"
#include "common/tunnel/tunnel.h"
#include "common/wire/culvert_features.h"

namespace culvert::server {

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

// What it takes to serve UDP: a bound socket, and what all its sessions share.
struct UdpService {
  net::UdpSocket socket;
  std::shared_ptr<const tls::DtlsConfig> config;
  std::shared_ptr<const tls::DtlsCookieKey> cookie_key;
};

struct SessionStats {
  SessionId id;
  tunnel::Counters counters;
  std::string channel;         // what carries packets: "tls" or "dtls"; empty: none at the moment
  std::string channel_reason;  // why; empty without a UDP channel
  std::string tls_version, cipher;
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
  // Of the UDP socket; nothing if UDP is not served.
  struct Udp {
    bool gso = false, gro = false;
    tunnel::UdpPort::Stats traffic;
    tunnel::DtlsFront::Stats strangers;
  };
  std::optional<Udp> udp;
};

class DataPlane {
 public:
  // `to_control` is called on the data thread and must only post.
  DataPlane(net::TunDevice queue, std::optional<UdpService> udp,
            std::function<void(DataEvent)> to_control);
  ~DataPlane();  // REQUIRES: not started, or stop_and_join() was called

  // Starts the thread.
  Status start();
  // Closes every channel without a DISCONNECT frame ("come back") and ends the thread.
  void stop_and_join();

  // These may be called from any thread and take effect in the order of the calls.
  // attach() with a known id replaces the channel (same addresses); AttachRequest::mode says what
  // becomes of the old ones, as of tunnel::Tunnel::attach().
  void attach(AttachRequest request);
  // An event of kind kEnded follows, also if the session has no channel or is unknown.
  void end(SessionId id, EndKind kind, std::string reason);
  // Forgets the session at once; no event follows.
  void forget(SessionId id);
  // `done` is called on the data thread and must only post.
  void snapshot(std::function<void(DataPlaneStats)> done);

 private:
  class Thread;
  std::unique_ptr<Thread> thread_state_;
  std::thread thread_;
};

}  // namespace culvert::server
