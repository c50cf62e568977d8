// DtlsFront: what stands between a server's UDP port and its sessions' DTLS channels. It finds the
// channel that a datagram belongs to, by connection ID (RFC 9146) or by the addresses it came from
// and to, and answers strangers without keeping any state (RFC 6347 section 4.2.1): a ClientHello
// gets a HelloVerifyRequest, which is smaller, and only one that comes back with the cookie reaches
// the channel that waits for its App-ID. Everything else is counted and dropped.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "common/base/result.h"
#include "common/loop/loop.h"
#include "common/tls/dtls_config.h"
#include "common/tls/dtls_cookie.h"
#include "common/tls/dtls_hello.h"
#include "common/tunnel/dtls_channel.h"
#include "common/tunnel/udp_port.h"

namespace culvert::tunnel {

using ServerCid = std::array<std::byte, tls::kServerCidSize>;

// The first byte of a connection ID is the number of the front that issued it, so that the kernel
// can be told to deliver there (UdpSocket::steer_by_byte()).
constexpr uint8_t kConnectionIdType = 25;  // RFC 9146 section 3
constexpr size_t kCidOffset = 11;          // behind type, version, epoch and sequence number
constexpr size_t kMaxFronts = 256;

// The fronts of other threads that serve the same port. Which of them a datagram reaches is the
// kernel's choice; what belongs to a session of another one has to go there.
class Neighbours {
 public:
  virtual ~Neighbours() = default;
  // Datagrams of `segment_size` bytes each, the last may be shorter. To be copied in this call.
  virtual void hand_over(size_t front, const net::UdpPath& path, Bytes datagrams,
                         size_t segment_size) = 0;
  // After the datagrams of one receive.
  virtual void hand_over_end() = 0;
};

// Which front this is, of how many. Without neighbours: the only one.
struct FrontPlace {
  size_t number = 0;
  size_t count = 1;  // at most kMaxFronts
  Neighbours* neighbours = nullptr;
};

class DtlsFront final : private UdpPort::Sink {
 public:
  struct Stats {
    uint64_t challenged = 0;   // ClientHellos answered with a cookie
    uint64_t unknown_app = 0;  // with a good cookie, but nobody waited for the App-ID
    uint64_t stray = 0;        // datagrams of no session and no ClientHello
    uint64_t accepted = 0;     // handshakes begun
    uint64_t handed_over = 0;  // trains for another front

    Stats& operator+=(const Stats& other);
  };

  // Takes over the bound socket. `scratch` and the neighbours must outlive the front. kFailure if
  // the library lacks memory.
  static Result<std::unique_ptr<DtlsFront>> create(
      loop::Loop& loop, DtlsScratch& scratch, net::UdpSocket socket,
      std::shared_ptr<const tls::DtlsCookieKey> cookie_key, FrontPlace place = {});
  ~DtlsFront() override;

  Status start() { return port_->start(); }

  // Handshakes with this App-ID are for that channel, until withdraw().
  void expect(const tls::AppId& app_id, DtlsChannel& channel);
  void withdraw(const tls::AppId& app_id, const DtlsChannel& channel);
  // Hands over a ClientHello with the channel's App-ID that came before expect(), a moment ago: a
  // client that has the answer to its CONNECT may be faster than the news on its way to us.
  void catch_up(const tls::AppId& app_id);
  // Handshakes with this App-ID are for that other front, until forget_elsewhere().
  void expect_elsewhere(const tls::AppId& app_id, size_t front);
  void forget_elsewhere(const tls::AppId& app_id);
  // Datagrams that a neighbour has handed over, as if they had come to our own socket; taken_over()
  // after those of one batch.
  void take_over(const net::UdpTrain& train);
  void taken_over() { on_trains_end(*port_); }
  // Datagrams that come this way belong to the channel, until unbind(). A later bind() of the same
  // path replaces an earlier one.
  void bind(const net::UdpPath& path, DtlsChannel& channel);
  void unbind(const net::UdpPath& path, const DtlsChannel& channel);
  // A new connection ID that leads to the channel, until release().
  [[nodiscard]] ServerCid issue_cid(DtlsChannel& channel);
  void release_cid(Bytes cid);
  // A datagram that may be a stranger's first words: answers it, begins a handshake, or counts it.
  void greet(UdpPort& port, const net::UdpPath& path, Bytes datagram);

  [[nodiscard]] UdpPort& port() { return *port_; }
  [[nodiscard]] const Stats& stats() const { return stats_; }

  // What a record of content type 25 carries; nothing if it is none, or too short.
  [[nodiscard]] static std::optional<ServerCid> cid_of(Bytes datagram);
  // What a cookie is bound to: the peer's address and port.
  [[nodiscard]] static std::vector<std::byte> transport_id(const net::UdpPath& path);

 private:
  struct PathHash {
    size_t operator()(const net::UdpPath& path) const noexcept;
  };
  struct CidHash {
    size_t operator()(const ServerCid& cid) const noexcept;
  };
  struct AppIdHash {
    size_t operator()(const tls::AppId& id) const noexcept;
  };

  DtlsFront(loop::Loop& loop, std::unique_ptr<tls::DtlsCookieResponder> responder,
            FrontPlace place);

  void on_train(UdpPort& port, const net::UdpTrain& train) override;
  void on_trains_end(UdpPort& port) override;
  void on_too_large(UdpPort& port, const net::UdpPath& path, uint16_t size) override;
  [[nodiscard]] DtlsChannel* find(const net::UdpTrain& train) const;
  [[nodiscard]] std::optional<size_t> front_of(const net::UdpTrain& train) const;
  void hand_over(size_t front, const net::UdpPath& path, Bytes datagrams, size_t segment_size);
  [[nodiscard]] bool pass_on(const tls::AppId& app_id, const net::UdpPath& path, Bytes hello);
  void deliver();
  void keep(const tls::AppId& app_id, const net::UdpPath& path, Bytes hello, TimePoint now);

  loop::Loop& loop_;
  FrontPlace place_;
  std::unique_ptr<tls::DtlsCookieResponder> responder_;
  std::unique_ptr<UdpPort> port_;
  std::unordered_map<tls::AppId, DtlsChannel*, AppIdHash> expected_;
  std::unordered_map<net::UdpPath, DtlsChannel*, PathHash> by_path_;
  std::unordered_map<ServerCid, DtlsChannel*, CidHash> by_cid_;
  // Sessions of other fronts whose handshakes may come here: a session has one path at a time.
  struct Elsewhere {
    size_t front = 0;
    std::optional<net::UdpPath> path;
  };
  std::unordered_map<tls::AppId, Elsewhere, AppIdHash> elsewhere_;
  std::unordered_map<net::UdpPath, size_t, PathHash> elsewhere_by_path_;
  bool handed_over_ = false;  // something, since the last hand_over_end()
  bool taking_over_ = false;  // what was handed to us goes no further
  // Has proved its address, but nobody waits for it yet.
  struct Early {
    tls::AppId app_id{};
    net::UdpPath path;
    TimePoint came{};
    std::vector<std::byte> hello;
  };
  static constexpr size_t kEarly = 16;
  std::vector<Early> early_;           // the oldest goes first
  DtlsChannel* delivering_ = nullptr;  // has opened packets that are not passed on yet
  Stats stats_;
};

}  // namespace culvert::tunnel
