// Connection: carries out what the Connector decides, and tells it what became of it. It owns the
// transport while HTTP is spoken and the tunnel afterwards; the system's side is Inside's.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/answers.h"
#include "client/connector.h"
#include "client/dns.h"
#include "client/inside.h"
#include "client/login_dialogue.h"
#include "client/marked_sockets.h"
#include "client/network_watch.h"
#include "client/profile.h"
#include "client/racer.h"
#include "client/renewal.h"
#include "client/status_view.h"
#include "client/transport.h"
#include "common/loop/loop.h"
#include "common/loop/resolver.h"
#include "common/loop/timer.h"
#include "common/net/system_ops.h"
#include "common/net/tun_device.h"
#include "common/tls/dtls_config.h"
#include "common/tls/tls_config.h"
#include "common/tunnel/tunnel.h"
#include "common/wire/tunnel_params.h"

namespace culvert::client {

// The one session that a client has.
inline constexpr SessionId kSession{1};

class Connection final : private Transport::Observer,
                         private Renewal::Observer,
                         private tunnel::TunnelObserver,
                         private tunnel::Router {
 public:
  class Observer {
   public:
    virtual ~Observer() = default;
    // One step on the way up, a line for a person.
    virtual void on_progress(const std::string& line) = 0;
    // The tunnel carries packets; called once, however often it is reconnected.
    virtual void on_up() = 0;
    // Everything is put back. The last call; the connection must not be destroyed in it.
    virtual void on_finished(const std::optional<Error>& error) = 0;
  };

  // Everything referred to must outlive the connection.
  struct Parts {
    loop::Loop& loop;
    const Profile& profile;
    std::shared_ptr<const tls::TlsConfig> tls;
    net::SystemOps& system;
    MarkedSockets& sockets;
    Dns& dns;
    Answers* answers;  // to the server's forms; null: nobody can be asked
    Observer& observer;
  };

  Connection(const Parts& parts, net::TunDevice tun, const Connector::Options& options);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  Status start();
  // Without an error the end counts as a success. on_finished() follows when all is put back.
  void stop(std::optional<Error> error = std::nullopt);

  [[nodiscard]] TunnelStatus status();

 private:
  void on_connected() override;
  void on_secured() override;
  void on_response(wire::HttpResponse response) override;
  void on_transport_failed(const Error& error, bool unanswered) override;
  void on_renewed(wire::TunnelParams params, Transport::Handover handover) override;
  void on_renewal_failed(const Error& error, bool cookie_refused) override;
  void on_channel_end(tunnel::TunnelSession& session, const tunnel::ChannelEnd& end) override;
  void on_alive(tunnel::TunnelSession& session) override;
  void on_tun_lost() override;
  void on_carrier_changed(tunnel::TunnelSession& session) override;
  void on_path_mtu(tunnel::TunnelSession& session, Mtu mtu) override;
  void route(std::span<const MutableBytes> packets,
             std::span<tunnel::TunnelSession*> sessions) override;

  void handle(Event event);
  void note_state();
  void act(const action::Resolve& action);
  void act(const action::Connect& action);
  void act(const action::Secure& action);
  void act(const action::LogIn& action);
  void act(const action::Answer& action);
  void act(const action::Attach& action);
  void act(const action::Configure& action);
  void act(const action::Probe& action);
  void act(const action::Renew& action);
  void act(const action::DropRenewal& action);
  void act(const action::StartTimer& action);
  void act(const action::StopTimer& action);
  void act(const action::DropTransport& action);
  void act(const action::Undo& action);
  void act(const action::Finish& action);

  void on_raced(Result<Racer::Winner> winner);
  void fail_if_error(Status status);
  void on_login_answer(const wire::HttpResponse& response);
  void on_attach_answer(const wire::HttpResponse& response);
  void take_parameters(wire::TunnelParams params);
  void note_parameters(wire::TunnelParams params);
  void take_connection(Transport::Handover handover, wire::AttachMode mode);
  [[nodiscard]] wire::AttachMode mode_of(const wire::TunnelParams& params);
  void follow_parameters();
  void note_secured(const tls::TlsSession& tls);
  [[nodiscard]] std::vector<IpAddress> inside_now() const;
  void look_after_connection();
  void on_network_change(NetworkWatch::Why why);
  void judge_silence();
  void connection_lost(const std::string& why);
  [[nodiscard]] bool keys_worn(const tunnel::CstpChannel& channel);
  [[nodiscard]] bool can_roam();
  [[nodiscard]] bool address_changed();
  [[nodiscard]] std::optional<IpAddress> source_now();
  // All that is on its way to a connection, and nothing that is one.
  void drop_attempts();
  void undone_in_part();
  void report(const std::string& line);
  [[nodiscard]] tunnel::CstpChannel* channel();
  [[nodiscard]] tunnel::SessionSpec session_spec() const;
  [[nodiscard]] std::optional<tunnel::UdpSpec> udp_spec();
  [[nodiscard]] Mtu device_mtu() const;
  [[nodiscard]] RouteInput route_input();
  [[nodiscard]] Mtu mtu() const;
  [[nodiscard]] std::string routes_text() const;
  void add_data_path(TunnelStatus& status);
  void add_inside(TunnelStatus& status) const;

  Parts parts_;
  Connector connector_;
  Inside inside_;
  tunnel::Tunnel tunnel_;
  loop::Timer timer_;
  loop::Timer watch_timer_;
  NetworkWatch network_;
  loop::Timer proof_timer_;
  TimePoint asked_at_{};  // for the proof that the TLS connection has survived a change
  loop::Resolver resolver_;
  LoginDialogue dialogue_;
  std::unique_ptr<Racer> racer_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Renewal> renewal_;             // beside the tunnel
  std::optional<Transport::Handover> handover_;  // between Attached and Probe
  std::optional<wire::TunnelParams> params_;     // of the latest CONNECT

  std::vector<std::string> strict_devices_;  // found so, and loosened by us where it matters

  std::deque<Event> events_;
  bool handling_ = false;
  int undo_parts_left_ = 0;
  bool carrying_ = false;        // the channel's end would be news
  bool saying_goodbye_ = false;  // the channel's end is awaited
  std::optional<Error> undo_error_;

  State noted_state_ = State::kIdle;
  WallTime since_{};
  Endpoint endpoint_;
  std::string server_certificate_;
  std::string tls_version_, cipher_;
  std::optional<Mtu> path_mtu_;  // what the path takes of the granted MTU
  std::optional<WallTime> carrier_since_;
  uint64_t times_up_ = 0;
  TimePoint keys_since_{};           // of the TLS connection
  std::optional<IpAddress> source_;  // where its packets left from, when it was new
  std::array<UniqueFd, 2> probes_;   // to ask for that, one a family
  unsigned looks_since_switch_ = 0;  // of the server on the present connection
  uint64_t rekeys_ = 0, roams_ = 0;
  bool following_ = false;  // parameters of a renewed connection are being put into effect
};

}  // namespace culvert::client
