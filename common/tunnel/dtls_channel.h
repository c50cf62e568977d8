// DtlsChannel: the session's packets as DTLS 1.2 records in UDP datagrams, either role.
//
// A channel has up to three associations: the one in use, one whose handshake is under way beside
// it, and for a moment the one that was replaced, whose last datagrams are still on their way. So a
// renewed key, a new port or a restarted peer never interrupt what works. Sending keeps no queue: a
// datagram that the kernel has no room for is lost. How large datagrams may be is probed
// (mtu_prober.h); what is larger is the caller's to send otherwise.
//
// It says what happens and leaves the choice between the channels to others (carrier_choice.h).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/secret.h"
#include "common/loop/loop.h"
#include "common/net/packet_batch.h"
#include "common/net/sys.h"
#include "common/tls/dtls_config.h"
#include "common/tls/dtls_hello.h"
#include "common/tls/dtls_session.h"
#include "common/tunnel/channel.h"
#include "common/tunnel/mtu_prober.h"
#include "common/tunnel/stats.h"
#include "common/tunnel/udp_port.h"

namespace culvert::tunnel {

class DtlsChannel;
class DtlsFront;

// What becomes of a channel, beside the packets. Calls come from the loop.
class DtlsObserver : public ChannelObserver {
 public:
  // A handshake was finished; records can be sealed. Comes again after each later handshake.
  virtual void on_dtls_up(DtlsChannel& channel) = 0;
  // Authentic records of any kind came; once for each receive.
  virtual void on_dtls_received(DtlsChannel& channel) = 0;
  // There is no association any more, or a handshake has failed. `text` is for the log.
  virtual void on_dtls_down(DtlsChannel& channel, const std::string& text) = 0;
  // The largest packet that gets through has changed: see max_packet().
  virtual void on_path_mtu(DtlsChannel& channel) = 0;
  // The peer shows up from another address, and was authentic (RFC 9146 section 6).
  virtual void on_moved(DtlsChannel& /*channel*/) {}
  // next_due() may be earlier than it was.
  virtual void on_due_changed(DtlsChannel& channel) = 0;
};

// What all DTLS channels of a thread share: memory that is used within one call. Must outlive them.
struct DtlsScratch {
  DtlsScratch();

  net::UdpArena received;
  net::PacketBatch inbound;  // opened packets of one receive
};

struct DtlsOptions {
  std::shared_ptr<const tls::DtlsConfig> config;
  Secret psk;            // of the TLS connection of CONNECT
  tls::AppId app_id{};   // that CONNECT granted
  uint16_t floor = 0;    // UDP payload that is taken for granted, bytes
  uint16_t ceiling = 0;  // UDP payload that the link takes, bytes; at least the floor

  // The peer answers DPD requests with what they held, so that the way to it can be measured.
  // Stock clients don't; they measure for themselves, and what reaches us of that is taken as the
  // measure of the way back.
  bool peer_echoes = true;
  // Both sides may send packets without checksum (culvert-protocol(7), "unsummed").
  bool unsummed = false;

  // Client only: where to and how.
  std::optional<Endpoint> server;
  // A socket for UdpSocket::adopt(); empty: the channel opens one itself.
  std::function<Result<UniqueFd>(Family)> open_socket;
  bool gso = true;
  bool gro = true;
};

class DtlsChannel final : public Channel, private UdpPort::Sink {
 public:
  // Server: handshakes come through `front`; otherwise it is nullptr. Everything referred to must
  // outlive the channel.
  DtlsChannel(loop::Loop& loop, DtlsScratch& scratch, net::Sys& sys, DtlsFront* front,
              DtlsOptions options, DtlsObserver& observer, Counters& counters);
  ~DtlsChannel() override;

  // Client: begins a handshake from a new UDP port, beside what there is; one that is under way is
  // given up. Errors: no socket.
  Status dial();

  // Later handshakes are keyed and named (App-ID) by these options; one that is under way is given
  // up, the association in use stays. REQUIRES: the same role.
  void renew(DtlsOptions options);

  // Server, called by the front: a ClientHello that has proved its address and shows our App-ID.
  void accept(UdpPort& port, const net::UdpPath& path, Bytes hello);
  // Datagrams for one of our associations; packets are delivered by deliver().
  void receive(UdpPort& port, const net::UdpTrain& train);
  void deliver();
  void too_large(uint16_t size);
  // An association exists whose handshake is over.
  [[nodiscard]] bool up() const { return current_.has_value(); }
  [[nodiscard]] bool handshaking() const { return next_.has_value(); }

  // REQUIRES for add(): packet.size() <= max_packet().
  void add(MutableBytes packet) override { add(packet, net::Sums::kDone); }
  // The same; kLeft only if takes_unsummed() and net::may_go_unsummed().
  void add(MutableBytes packet, net::Sums sums);
  [[nodiscard]] bool takes_unsummed() const { return current_ && current_->unsummed; }
  void flush() override;
  void tick() override;
  // Asks for a sign of life; on_alive() follows.
  void probe() override;
  [[nodiscard]] std::string_view name() const override { return "dtls"; }
  // When tick() has something to do.
  [[nodiscard]] TimePoint next_due() const;

  // The largest packet that is known to get through; 0 without an association.
  [[nodiscard]] size_t max_packet() const { return max_packet_; }
  // Still looking for more.
  [[nodiscard]] bool probing_mtu() const;

  // REQUIRES: up().
  [[nodiscard]] const tls::DtlsSession& dtls() const { return *current_->dtls; }
  [[nodiscard]] const net::UdpPath& path() const { return current_->path; }
  [[nodiscard]] const UdpPort& port() const { return *current_->port; }
  [[nodiscard]] const tls::AppId& app_id() const { return options_.app_id; }

 private:
  Result<net::UdpSocket> open_socket(const net::UdpOptions& options);
  struct Association {
    std::unique_ptr<UdpPort> own_port;  // client
    UdpPort* port = nullptr;
    net::UdpPath path;  // where its datagrams go to
    std::unique_ptr<tls::DtlsSession> dtls;
    std::array<std::byte, 32> hello_random{};  // server: of the ClientHello that began it
    std::vector<std::byte> cid;                // server: issued for it
    bool unsummed = false;                     // agreed on when it began
  };

  void on_train(UdpPort& port, const net::UdpTrain& train) override;
  void on_trains_end(UdpPort& port) override;
  void on_too_large(UdpPort& port, const net::UdpPath& path, uint16_t size) override;

  [[nodiscard]] Association* find(const UdpPort& port, const net::UdpPath& path, Bytes datagram);
  void take_datagram(UdpPort& port, const net::UdpPath& path, MutableBytes datagram);
  void open(Association& association, MutableBytes datagram, const net::UdpPath& path);
  void take(Association& association, MutableBytes plaintext);
  void pass_on();
  void take_answer(Bytes answer);
  Status begin(Association association);
  void advance(Bytes datagram);
  void after_step(tls::DtlsSession::Handshake step);
  void establish();
  void send_output(Association& association);
  void ask(size_t payload);
  bool seal(Association& association, Bytes plaintext);
  void move_to(Association& association, const net::UdpPath& path);
  void drop(std::optional<Association>& association);
  void settle();
  void update_max_packet();

  loop::Loop& loop_;
  DtlsScratch& scratch_;
  net::Sys& sys_;
  DtlsFront* front_;
  DtlsOptions options_;
  DtlsObserver& observer_;
  Counters& counters_;

  std::optional<Association> current_;
  std::optional<Association> next_;      // its handshake is under way
  std::optional<Association> previous_;  // replaced; still listened to
  TimePoint previous_until_{};
  // Why current_ or next_ is over. Noted where its port may be in use, and dealt with by settle().
  std::optional<std::string> lost_;
  std::optional<std::string> failed_;
  bool heard_ = false;  // something authentic since the last deliver()

  std::optional<MtuProber> prober_;  // if the peer echoes
  uint16_t heard_payload_ = 0;       // else: the largest DPD request that came
  TimePoint hears_until_{};          // and until when larger ones may come
  size_t max_packet_ = 0;
  bool sent_ = false;  // data, since the last flush()
};

}  // namespace culvert::tunnel
