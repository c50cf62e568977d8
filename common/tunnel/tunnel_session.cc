// TunnelSession: a session's channels, and which of them carries its packets.
#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/net/gso_split.h"
#include "common/net/ip_packet.h"
#include "common/net/unsummed.h"
#include "common/net/vnet_header.h"
#include "common/tunnel/key_life.h"
#include "common/tunnel/path_mtu.h"
#include "common/tunnel/tunnel.h"
#include "common/wire/cstp.h"

namespace culvert::tunnel {
namespace {

// A peer that does not drain its connection cannot keep it for ever.
constexpr Duration kDrainTime = std::chrono::seconds(10);

// A client that does not say that it ends the session comes back with its cookie, as to ocserv.
bool leaves_for_now(const ChannelEnd& end) {
  return end.kind == ChannelEnd::Kind::kPeerEnded && end.code != wire::kReasonUser;
}

}  // namespace

TunnelSession::TunnelSession(class Tunnel& tunnel, SessionSpec spec)
    : tunnel_(tunnel), spec_(std::move(spec)), path_mtu_(spec_.mtu) {}

Channel* TunnelSession::carrier() {
  if (over_dtls_ || (channel_ == nullptr && dtls_ != nullptr && dtls_->up())) return dtls_.get();
  return channel_.get();
}

size_t TunnelSession::cut() const {
  return dtls_ != nullptr && dtls_->up() ? dtls_->max_packet() : kMaxSuperpacket;
}

void TunnelSession::add(MutableBytes packet) {
  if (over_dtls_ && packet.size() <= dtls_->max_packet()) {
    sent_dtls_ = true;
    dtls_->add(packet);
  } else if (channel_ != nullptr) {
    // Also what does not fit into a datagram: size does not matter to TLS.
    channel_->add(packet);
  } else if (dtls_ != nullptr && packet.size() <= dtls_->max_packet()) {
    sent_dtls_ = true;
    dtls_->add(packet);  // TLS is coming back
  } else {
    counters_.drop(DropReason::kChannelDown);
  }
}

void TunnelSession::add_superpacket(const net::VnetHeader& header, MutableBytes packet) {
  if (!over_dtls_ && channel_ != nullptr) return channel_->add_superpacket(header, packet);
  if (dtls_ != nullptr && dtls_->takes_unsummed() && fits_datagrams(header, packet) &&
      net::may_go_unsummed(header, packet)) {
    return add_unsummed(header, packet);
  }
  // TCP is cut to what a datagram takes. A train of UDP keeps its cut: what is too large for a
  // datagram goes over TLS, packet by packet.
  const bool tcp = header.type == net::GsoType::kTcpV4 || header.type == net::GsoType::kTcpV6;
  net::GsoSplitter splitter(header, packet, tcp ? cut() : kMaxSuperpacket);
  for (MutableBytes next = splitter.next(); !next.empty(); next = splitter.next())
    add(next);
}

// Cut if need be.
bool TunnelSession::fits_datagrams(const net::VnetHeader& header, Bytes packet) const {
  const size_t most = dtls_->max_packet();
  if (!header.is_superpacket()) return packet.size() <= most;
  const bool udp = header.type == net::GsoType::kUdpL4;
  return header.header_length + (udp ? size_t{header.gso_size} : 1) <= most;
}

void TunnelSession::add_unsummed(const net::VnetHeader& header, MutableBytes packet) {
  net::GsoSplitter splitter(header, packet, dtls_->max_packet(), net::Sums::kLeft);
  sent_dtls_ = true;
  for (MutableBytes next = splitter.next(); !next.empty(); next = splitter.next())
    dtls_->add(next, net::Sums::kLeft);
}

void TunnelSession::flush_datagrams() {
  if (!std::exchange(sent_dtls_, false)) return;
  dtls_->flush();
  choice_->dtls_sent_data(tunnel_.loop_.now());
  tunnel_.schedule_udp(choice_->next_due());
}

void TunnelSession::flush_stream() {
  if (channel_ != nullptr) channel_->flush();
}

// What a peer may put inside: whole IP packets from its own addresses. Its kernel's link-scope
// chatter is expected and has a counter of its own, so that the spoofing counter means something.
bool TunnelSession::admits(Bytes packet) {
  const auto family = net::whole_ip_family(packet);
  if (!family) {
    counters_.drop(DropReason::kMalformed);
    return false;
  }
  if (spec_.sources.empty()) return true;
  const IpAddress source = net::source_of(packet, *family);
  for (const Prefix& own : spec_.sources)
    if (own.contains(source)) return true;
  const bool link_scope =
      source.is_link_local() || source.is_multicast() || source.is_unspecified();
  counters_.drop(link_scope ? DropReason::kLinkScope : DropReason::kSpoofedSource);
  return false;
}

void TunnelSession::on_packets(Channel& channel, net::PacketBatch& batch) {
  if (&channel != dtls_.get()) note_tls_data();
  tunnel_.write_inside(batch, *this);
}

void TunnelSession::note_tls_data() {
  if (!over_dtls_) return;
  choice_->tls_received_data(tunnel_.loop_.now());
  note_choice();
}

void TunnelSession::on_superpacket(Channel& /*channel*/, const net::VnetHeader& header,
                                   MutableBytes packet) {
  note_tls_data();
  tunnel_.write_superpacket(header, packet, *this);
}

void TunnelSession::on_alive(Channel& channel) {
  if (&channel != dtls_.get()) return tunnel_.observer_.on_alive(*this);
  choice_->probe_answered(tunnel_.loop_.now());
  judge_path();
}

void TunnelSession::on_channel_end(Channel& channel, const ChannelEnd& end) {
  // Gone before the observer hears of it, so that it may attach a new one or remove the session;
  // destroyed after everything else, because the caller is a function of the channel.
  const bool is_old = &channel == old_.get();
  const std::unique_ptr<CstpChannel> ended = std::move(is_old ? old_ : channel_);
  const bool may_return = !spec_.client && leaves_for_now(end);
  if (is_old) {
    tunnel_.settle_soon(*this);
    if (end.kind != ChannelEnd::Kind::kPeerEnded || may_return) return;
  } else {
    old_.reset();  // the peer has moved to the one that has ended
  }
  if (may_return) {
    const std::string text = "the client has left for now";
    return tunnel_.observer_.on_channel_end(
        *this,
        {ChannelEnd::Kind::kLost, end.text.empty() ? text : text + ": " + end.text, end.code});
  }
  tunnel_.observer_.on_channel_end(*this, end);
}

// ---- two TLS connections ------------------------------------------------------------------------

void TunnelSession::disconnect(uint8_t code, std::string_view text) {
  if (old_ != nullptr) old_->disconnect(code, text);
  if (channel_ != nullptr) channel_->disconnect(code, text);
}

void TunnelSession::close(std::string_view text) {
  if (old_ != nullptr) old_->close(text);
  if (channel_ != nullptr) channel_->close(text);
}

// The present connection becomes the old one; with it, whatever was old before.
void TunnelSession::retire_channel(TimePoint now) {
  old_ = std::move(channel_);
  if (old_ == nullptr) return;
  old_until_ = now + kDrainTime;
  old_->send_switch();
  tunnel_.settle_soon(*this);
}

bool TunnelSession::waits_for_old() const {
  return old_ != nullptr && !old_->peer_switched();
}

// Its receiver is in the middle of its frames, in memory that is shared: later.
void TunnelSession::on_switch(Channel& /*channel*/) {
  tunnel_.settle_soon(*this);
}

// The session may be gone afterwards.
void TunnelSession::settle(TimePoint now) {
  if (old_ != nullptr && now >= old_until_) old_.reset();
  const bool drained = old_ != nullptr && old_->peer_switched() && old_->switch_sent();
  // In order, and not by destroying it: the kernel would forget what is still to be sent.
  if (drained && spec_.client) old_->close({});
  if (channel_ != nullptr && !waits_for_old()) channel_->resume();
}

// ---- the UDP channel ----------------------------------------------------------------------------

void TunnelSession::start_udp(std::unique_ptr<DtlsChannel> channel, const UdpSpec& udp) {
  over_dtls_ = false;
  sent_dtls_ = false;
  choice_.reset();
  dtls_ = std::move(channel);
  dials_ = udp.dtls.server.has_value();
  inner_ipv6_ = udp.inner_ipv6;
  rekey_ = udp.rekey;
  udp_failure_.clear();
  path_mtu_ = spec_.mtu;
  if (dtls_ == nullptr) return;
  choice_.emplace(udp.choice, tunnel_.loop_.now());
  choice_->dtls_unusable(tunnel_.loop_.now());  // until it is known what the path takes
}

// The association in use goes on; the next handshake is another one's.
void TunnelSession::renew_udp(DtlsOptions options, const UdpSpec& udp) {
  inner_ipv6_ = udp.inner_ipv6;
  rekey_ = udp.rekey;
  udp_failure_.clear();
  dtls_->renew(std::move(options));
}

void TunnelSession::on_dtls_up(DtlsChannel& /*channel*/) {
  const TimePoint now = tunnel_.loop_.now();
  keys_since_ = now;
  udp_failure_.clear();
  choice_->dtls_up(now);
  judge_path();
}

void TunnelSession::on_dtls_received(DtlsChannel& /*channel*/) {
  choice_->dtls_received(tunnel_.loop_.now());
  note_choice();
}

// The same reason again and again is news once.
void TunnelSession::on_dtls_down(DtlsChannel& channel, const std::string& text) {
  if (text != udp_failure_) {
    udp_failure_ = text;
    log::info("tunnel", "no UDP channel", {{"session", id().value()}, {"why", text}});
  }
  // What is left may be an older association that still works.
  if (!channel.up()) choice_->dtls_gone(CarrierChoice::Reason::kEnded, tunnel_.loop_.now());
  if (!channel.handshaking()) {
    choice_->handshake_failed(CarrierChoice::Reason::kHandshakeFailed, tunnel_.loop_.now());
  }
  note_choice();
}

void TunnelSession::on_path_mtu(DtlsChannel& /*channel*/) {
  judge_path();
}

void TunnelSession::on_due_changed(DtlsChannel& channel) {
  tunnel_.schedule_udp(channel.next_due());
}

// Packets that take a detour over TLS because of their size would arrive out of order, so a path is
// used when all of them fit or when it is clear how much does.
void TunnelSession::judge_path() {
  const size_t fits = dtls_->max_packet();
  const size_t needed = inner_ipv6_ ? kMinIpv6Mtu : kMinIpv4Mtu;
  const bool known = dtls_->up() && (fits >= spec_.mtu.value() || !dtls_->probing_mtu());
  if (known) {
    if (fits >= needed) {
      choice_->dtls_usable(tunnel_.loop_.now());
    } else {
      choice_->dtls_unusable(tunnel_.loop_.now());
    }
  }
  note_choice();
}

// Makes the choice effective, and tells of what has changed.
void TunnelSession::note_choice() {
  const bool over_dtls = dtls_ != nullptr && dtls_->up() && choice_->carrier() == Carrier::kDtls;
  if (over_dtls != over_dtls_) {
    over_dtls_ = over_dtls;
    tunnel_.observer_.on_carrier_changed(*this);
  }
  if (over_dtls && !dtls_->probing_mtu()) {
    const Mtu mtu(static_cast<uint16_t>(std::min<size_t>(dtls_->max_packet(), spec_.mtu.value())));
    if (mtu != path_mtu_) {
      path_mtu_ = mtu;
      tunnel_.observer_.on_path_mtu(*this, mtu);
    }
  }
  tunnel_.schedule_udp(udp_due());
}

TimePoint TunnelSession::udp_due() const {
  return dtls_ == nullptr ? TimePoint::max() : std::min(dtls_->next_due(), choice_->next_due());
}

void TunnelSession::tick_udp(TimePoint now) {
  dtls_->tick();
  for (auto action = choice_->due(now); action != CarrierChoice::Action::kNone;
       action = choice_->due(now)) {
    if (action == CarrierChoice::Action::kProbe) {
      dtls_->probe();
    } else {
      dial();
    }
  }
  renew_keys(now);
  judge_path();
}

void TunnelSession::path_changed() {
  if (choice_) {
    choice_->path_changed(tunnel_.loop_.now());
    tunnel_.schedule_udp(udp_due());
  }
  if (channel_ != nullptr) channel_->probe();
}

// A new handshake beside the old association, from a new port (client).
void TunnelSession::renew_keys(TimePoint now) {
  if (!dials_ || !dtls_->up() || dtls_->handshaking()) return;
  KeyLimits limits;
  limits.age = rekey_ > Duration{} ? rekey_ : Duration::max();
  if (!worn(use_of(dtls_->dtls(), now - keys_since_), limits)) return;
  keys_since_ = now;
  dial();
}

void TunnelSession::dial() {
  choice_->handshake_started(tunnel_.loop_.now());
  if (const Status dialled = dtls_->dial(); !dialled) {
    on_dtls_down(*dtls_, dialled.error().message());
  }
}

}  // namespace culvert::tunnel
