#include "common/tunnel/dtls_channel.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

#include "common/base/log.h"
#include "common/tunnel/dtls_front.h"
#include "common/wire/cstp.h"

namespace culvert::tunnel {
namespace {

using Handshake = tls::DtlsSession::Handshake;
using Opened = tls::DtlsSession::Opened;

// The packet types are those of CSTP; one byte in front of the body (openconnect-protocol 6.5).
constexpr auto kData = static_cast<std::byte>(wire::CstpType::kData);
constexpr auto kUnsummed = static_cast<std::byte>(wire::CstpType::kUnsummed);
constexpr auto kDpdRequest = static_cast<std::byte>(wire::CstpType::kDpdRequest);
constexpr auto kDpdResponse = static_cast<std::byte>(wire::CstpType::kDpdResponse);
static_assert(kChannelHeadroom >= 1);

// The other content type of what a session opens, beside kConnectionIdType (RFC 6347 section 4.1).
constexpr auto kApplicationType = std::byte{23};

// Trains of one receive: beyond a few, the packets would leave the second-level cache before they
// are written.
constexpr size_t kTrains = 8;
// A train and a little: then they are still in the first-level cache, or nearly so.
constexpr size_t kInboundPackets = 64;
// Jumbo frames; a larger record than this is not opened.
constexpr size_t kInboundSlot = 9728;
// Handshake messages are small; this much goes through everywhere.
constexpr uint16_t kHandshakeMtu = 1200;
// How long the last datagrams of a replaced association may be on their way.
constexpr Duration kDrainTime = std::chrono::seconds(2);
// A DPD request of ours: type, and the UDP payload that it makes (16 bits); then zeros.
constexpr size_t kRequestSize = 3;
// How long a stock client may be measuring the path after a handshake.
constexpr Duration kHearingTime = std::chrono::seconds(2);
constexpr TimePoint kNever = TimePoint::max();

// Packets that are opened where they lie have this before them, record header and type, and need
// no more than the TUN's header. (Their way leads there only: not into another channel.)
static_assert(tls::kDtlsRecordHeader + 1 >= net::kVnetHeaderSizeLong);

bool is_record_of_data(Bytes datagram) {
  return datagram[0] == kApplicationType || datagram[0] == std::byte{kConnectionIdType};
}

}  // namespace

DtlsScratch::DtlsScratch()
    : received(kTrains),
      inbound(kInboundPackets, kInboundSlot, kBatchHeadroom, net::PacketBatch::Slots::kClose) {}

DtlsChannel::DtlsChannel(loop::Loop& loop, DtlsScratch& scratch, net::Sys& sys, DtlsFront* front,
                         DtlsOptions options, DtlsObserver& observer, Counters& counters)
    : loop_(loop),
      scratch_(scratch),
      sys_(sys),
      front_(front),
      options_(std::move(options)),
      observer_(observer),
      counters_(counters) {
  if (front_ != nullptr) front_->expect(options_.app_id, *this);
}

DtlsChannel::~DtlsChannel() {
  drop(next_);
  drop(current_);
  drop(previous_);
  if (front_ != nullptr) front_->withdraw(options_.app_id, *this);
}

void DtlsChannel::drop(std::optional<Association>& association) {
  if (!association) return;
  if (front_ != nullptr) {
    front_->release_cid(association->cid);
    const net::UdpPath path = association->path;
    association.reset();
    const bool used = (current_ && current_->path == path) || (next_ && next_->path == path);
    if (!used) front_->unbind(path, *this);
  }
  association.reset();
}

// ---- handshakes ---------------------------------------------------------------------------------

Result<net::UdpSocket> DtlsChannel::open_socket(const net::UdpOptions& options) {
  if (!options_.open_socket) return net::UdpSocket::open(sys_, options);
  auto opened = options_.open_socket(options.local.address.family());
  if (!opened) return std::move(opened.error());
  return net::UdpSocket::adopt(sys_, std::move(*opened), options);
}

Status DtlsChannel::dial() {
  assert(options_.server);
  drop(next_);
  failed_.reset();
  net::UdpOptions options;
  const bool v4 = options_.server->address.is_v4();
  options.local = {v4 ? IpAddress() : IpAddress::v6(std::array<std::byte, 16>{}), 0};
  options.packet_info = false;
  options.gso = options_.gso;
  options.gro = options_.gro;
  auto socket = open_socket(options);
  if (!socket) return socket.error();
  // Not connected: so the kernel chooses the source anew for each send, and a host that gets
  // another address goes on from there.
  Association association;
  UdpPort::Sink& sink = *this;
  association.own_port =
      std::make_unique<UdpPort>(loop_, scratch_.received, std::move(*socket), sink);
  association.port = association.own_port.get();
  association.path.peer = *options_.server;
  if (Status started = association.port->start(); !started) return started;
  if (Status begun = begin(std::move(association)); !begun) return begun;
  advance({});
  settle();
  return {};
}

void DtlsChannel::renew(DtlsOptions options) {
  assert(options.server.has_value() == options_.server.has_value());
  drop(next_);
  failed_.reset();
  if (front_ != nullptr) front_->withdraw(options_.app_id, *this);
  const bool other_link = options.ceiling != options_.ceiling;
  options_ = std::move(options);
  if (front_ != nullptr) front_->expect(options_.app_id, *this);
  if (prober_ && other_link) prober_->path_changed(options_.ceiling, loop_.now());
  update_max_packet();
}

void DtlsChannel::accept(UdpPort& port, const net::UdpPath& path, Bytes hello) {
  const auto parsed = tls::parse_client_hello(hello);
  assert(parsed);
  const bool repeated =
      next_ && next_->path == path &&
      std::equal(parsed->random.begin(), parsed->random.end(), next_->hello_random.begin());
  if (!repeated) {
    drop(next_);
    failed_.reset();
    Association association;
    association.port = &port;
    association.path = path;
    std::copy(parsed->random.begin(), parsed->random.end(), association.hello_random.begin());
    if (const Status begun = begin(std::move(association)); !begun) {
      observer_.on_dtls_down(*this, begun.error().message());
      return;
    }
    front_->bind(path, *this);
  }
  advance(hello);
}

Status DtlsChannel::begin(Association association) {
  tls::DtlsSessionOptions options;
  options.psk = options_.psk.clone();
  options.app_id = options_.app_id;
  options.mtu = kHandshakeMtu;
  if (front_ != nullptr) {
    const ServerCid cid = front_->issue_cid(*this);
    association.cid.assign(cid.begin(), cid.end());
    options.own_cid = association.cid;
    options.transport_id = DtlsFront::transport_id(association.path);
  }
  auto dtls = tls::DtlsSession::create(options_.config, std::move(options));
  if (!dtls) {
    if (front_ != nullptr) front_->release_cid(association.cid);
    return dtls.error();
  }
  association.dtls = std::move(*dtls);
  association.unsummed = options_.unsummed;
  next_ = std::move(association);
  return {};
}

void DtlsChannel::advance(Bytes datagram) {
  after_step(next_->dtls->handshake(loop_.now(), datagram));
}

void DtlsChannel::after_step(Handshake step) {
  send_output(*next_);
  next_->port->flush();
  switch (step) {
    case Handshake::kWaiting:
      break;
    case Handshake::kDone:
      establish();
      break;
    case Handshake::kFailed:
      failed_ = next_->dtls->error().message();
      break;
  }
  observer_.on_due_changed(*this);
}

void DtlsChannel::establish() {
  drop(previous_);
  if (current_) {
    previous_ = std::move(current_);
    previous_until_ = loop_.now() + kDrainTime;
  }
  current_ = std::move(next_);
  next_.reset();
  lost_.reset();
  if (front_ != nullptr && current_->dtls->own_cid().empty()) {
    front_->release_cid(std::exchange(current_->cid, {}));
  }
  // A record may be as large as one that came: an answer to a DPD request has to be.
  current_->dtls->set_mtu(0);
  const TimePoint now = loop_.now();
  if (!options_.peer_echoes) {
    heard_payload_ = std::max(heard_payload_, options_.floor);
    hears_until_ = now + kHearingTime;
  } else if (prober_) {
    prober_->suspect(now);  // a new key says nothing about the path; a new port may
  } else {
    prober_.emplace(MtuProber::Options{.floor = options_.floor,
                                       .ceiling = options_.ceiling,
                                       .outer = current_->path.peer.address.family()},
                    now);
  }
  update_max_packet();
  observer_.on_dtls_up(*this);
}

// Handshake messages travel alone: a run would be lost as a whole.
void DtlsChannel::send_output(Association& association) {
  for (Bytes out = association.dtls->output(); !out.empty(); out = association.dtls->output()) {
    const MutableBytes room = association.port->room(out.size());
    std::copy(out.begin(), out.end(), room.begin());
    association.port->commit(out.size(), association.path);
    association.dtls->pop_output();
  }
}

// What was noted while ports were in use.
void DtlsChannel::settle() {
  const auto failed = std::exchange(failed_, std::nullopt);
  const auto lost = std::exchange(lost_, std::nullopt);
  if (failed) drop(next_);
  if (lost) {
    drop(current_);
    max_packet_ = 0;
  }
  if (failed) observer_.on_dtls_down(*this, *failed);
  if (lost) observer_.on_dtls_down(*this, *lost);
}

// ---- receiving ----------------------------------------------------------------------------------

void DtlsChannel::on_train(UdpPort& port, const net::UdpTrain& train) {
  if (train.path.peer == *options_.server) receive(port, train);
}

void DtlsChannel::on_trains_end(UdpPort& /*port*/) {
  deliver();
}

void DtlsChannel::on_too_large(UdpPort& /*port*/, const net::UdpPath& /*path*/, uint16_t size) {
  too_large(size);
}

// A train is often one superpacket of the sender, and becomes one again if it is passed on whole.
void DtlsChannel::receive(UdpPort& port, const net::UdpTrain& train) {
  const net::PacketBatch& inbound = scratch_.inbound;
  if (inbound.capacity() - inbound.size() < train.count()) pass_on();
  for (size_t i = 0; i < train.count(); ++i)
    take_datagram(port, train.path, train[i]);
}

// Whose record is it? A client has a port for each association; a server knows by connection ID,
// or by where it comes from.
DtlsChannel::Association* DtlsChannel::find(const UdpPort& port, const net::UdpPath& path,
                                            Bytes datagram) {
  const auto cid = front_ != nullptr ? DtlsFront::cid_of(datagram) : std::nullopt;
  const auto is_of = [&](const std::optional<Association>& association) {
    if (!association || association->port != &port) return false;
    if (front_ == nullptr) return true;
    if (!cid) return association->path == path;
    return std::equal(cid->begin(), cid->end(), association->cid.begin(), association->cid.end());
  };
  if (is_of(current_)) return &*current_;
  if (is_of(next_)) return &*next_;
  if (is_of(previous_)) return &*previous_;
  return nullptr;
}

void DtlsChannel::take_datagram(UdpPort& port, const net::UdpPath& path, MutableBytes datagram) {
  if (is_record_of_data(datagram)) {
    Association* const owner = find(port, path, datagram);
    if (owner == nullptr) return;
    if (next_ && owner == &*next_) {
      if (!failed_) advance(datagram);
    } else {
      open(*owner, datagram, path);
    }
    return;
  }
  if (front_ != nullptr &&
      tls::first_record(datagram, tls::kServerCidSize).kind == tls::RecordKind::kClientHello) {
    front_->greet(port, path, datagram);
    return;
  }
  // A handshake that is under way comes first: one on the ports of the old association looks alike.
  const bool is_next =
      next_ && !failed_ && next_->port == &port && (front_ == nullptr || next_->path == path);
  if (is_next) {
    advance(datagram);
  } else if (Association* const owner = find(port, path, datagram)) {
    open(*owner, datagram, path);
  }
}

void DtlsChannel::open(Association& association, MutableBytes datagram, const net::UdpPath& path) {
  net::PacketBatch& inbound = scratch_.inbound;
  for (bool more = true; more; more = association.dtls->more()) {
    if (inbound.full()) pass_on();
    // Of what is opened there, the type byte comes to lie before the slot, the packet at its
    // beginning.
    const MutableBytes room = net::extend_front(inbound.free_space(), 1);
    const auto result = association.dtls->open(std::exchange(datagram, {}), room);
    switch (result.what) {
      case Opened::kOk:
        heard_ = true;
        if (result.newest && front_ != nullptr && !(association.path == path)) {
          move_to(association, path);
        }
        take(association, result.plaintext);
        break;
      case Opened::kNothing:
        break;
      case Opened::kClosed:
      case Opened::kFailed:
        if (current_ && &association == &*current_) {
          lost_ = result.what == Opened::kClosed ? "the peer closed the DTLS channel"
                                                 : association.dtls->error().message();
        }
        return;
    }
  }
  if (!association.dtls->output().empty()) send_output(association);
}

void DtlsChannel::take(Association& association, MutableBytes plaintext) {
  const std::byte type = plaintext[0];
  if (type == kData || (type == kUnsummed && association.unsummed)) {
    const MutableBytes packet = plaintext.subspan(1);
    if (packet.empty()) return;
    const auto sums = type == kData ? net::Sums::kDone : net::Sums::kLeft;
    net::PacketBatch& inbound = scratch_.inbound;
    if (packet.data() == inbound.free_space().data()) {
      inbound.commit(packet.size(), 0, sums);
    } else {
      inbound.add_foreign(packet, sums);  // it lies in its datagram
    }
  } else if (type == kDpdRequest) {
    // Echoed whole: the other side looks how much gets through (openconnect-protocol 6.6). If our
    // records are longer than the peer's, the largest echoes have to be shorter: the beginning says
    // what they answer.
    plaintext[0] = kDpdResponse;
    const size_t expansion = association.dtls->expansion();
    const size_t fits = std::max<size_t>(options_.ceiling, expansion + kRequestSize) - expansion;
    seal(association, plaintext.first(std::min(plaintext.size(), fits)));
    if (!options_.peer_echoes) {
      const size_t payload = plaintext.size() + expansion;
      heard_payload_ = static_cast<uint16_t>(
          std::min<size_t>(std::max<size_t>(heard_payload_, payload), options_.ceiling));
      update_max_packet();
    }
  } else if (type == kDpdResponse) {
    take_answer(plaintext);
  }
  // Keepalives are never answered; sessions end over TLS alone; other types are of later versions.
}

void DtlsChannel::take_answer(Bytes answer) {
  if (prober_ && answer.size() >= kRequestSize) {
    prober_->answered(load_be16(answer.subspan(1)), loop_.now());
    update_max_packet();
  }
  observer_.on_alive(*this);
}

void DtlsChannel::pass_on() {
  if (!scratch_.inbound.empty()) observer_.on_packets(*this, scratch_.inbound);
  scratch_.inbound.clear();
}

void DtlsChannel::deliver() {
  pass_on();
  if (current_) current_->port->flush();
  if (std::exchange(heard_, false)) observer_.on_dtls_received(*this);
  settle();
}

// Only after an authentic record that is newer than all before (RFC 9146 section 6).
void DtlsChannel::move_to(Association& association, const net::UdpPath& path) {
  const net::UdpPath old = std::exchange(association.path, path);
  front_->unbind(old, *this);
  front_->bind(path, *this);
  if (!current_ || &association != &*current_) return;
  if (prober_) {
    if (old.peer.address == path.peer.address) {
      prober_->suspect(loop_.now());
    } else {
      prober_->path_changed(options_.ceiling, loop_.now());
    }
  }
  update_max_packet();
  observer_.on_moved(*this);
}

// ---- sending ------------------------------------------------------------------------------------

bool DtlsChannel::seal(Association& association, Bytes plaintext) {
  const MutableBytes room =
      association.port->room(plaintext.size() + association.dtls->expansion());
  const size_t size = association.dtls->seal(plaintext, room);
  if (size == 0) {
    if (current_ && &association == &*current_ && !association.dtls->error().what.empty()) {
      lost_ = association.dtls->error().message();
    }
    return false;
  }
  association.port->commit(size, association.path);
  return true;
}

void DtlsChannel::add(MutableBytes packet, net::Sums sums) {
  if (!current_) {
    counters_.drop(DropReason::kChannelDown);
    return;
  }
  const MutableBytes plaintext = net::extend_front(packet, 1);
  plaintext[0] = sums == net::Sums::kDone ? kData : kUnsummed;
  if (!seal(*current_, plaintext)) {
    counters_.drop(DropReason::kChannelDown);
    return;
  }
  ++counters_.tx_packets;
  counters_.tx_bytes += packet.size();
  sent_ = true;
}

void DtlsChannel::flush() {
  if (!current_) return;
  current_->port->flush();
  if (std::exchange(sent_, false) && prober_) prober_->sent(loop_.now());
}

// ---- liveness and path MTU ----------------------------------------------------------------------

// A request whose datagram has `payload` bytes; as few as possible if that is less.
void DtlsChannel::ask(size_t payload) {
  const size_t expansion = current_->dtls->expansion();
  const size_t size = std::max(payload, expansion + kRequestSize) - expansion;
  const MutableBytes request = scratch_.inbound.free_space().first(size);
  std::fill(request.begin(), request.end(), std::byte{});
  request[0] = kDpdRequest;
  store_be16(request.subspan(1), static_cast<uint16_t>(payload));
  seal(*current_, request);
}

void DtlsChannel::probe() {
  if (!current_) return;
  ask(0);
  current_->port->flush();
}

bool DtlsChannel::probing_mtu() const {
  if (options_.peer_echoes) return prober_ && prober_->searching();
  return heard_payload_ <= options_.floor && loop_.now() < hears_until_;
}

void DtlsChannel::tick() {
  const TimePoint now = loop_.now();
  if (next_ && !failed_ && next_->dtls->deadline() && now >= *next_->dtls->deadline()) {
    after_step(next_->dtls->on_timeout(now));
  }
  if (previous_ && now >= previous_until_) drop(previous_);
  if (current_ && prober_) {
    while (const auto size = prober_->due(now))
      ask(*size);
    current_->port->flush();
  }
  update_max_packet();
  settle();
}

TimePoint DtlsChannel::next_due() const {
  TimePoint due = kNever;
  if (next_ && next_->dtls->deadline()) due = std::min(due, *next_->dtls->deadline());
  if (previous_) due = std::min(due, previous_until_);
  if (current_ && prober_) due = std::min(due, prober_->next_due());
  if (current_ && !options_.peer_echoes && loop_.now() < hears_until_) {
    due = std::min(due, hears_until_);
  }
  return due;
}

void DtlsChannel::too_large(uint16_t size) {
  if (!options_.peer_echoes) heard_payload_ = std::min<uint16_t>(heard_payload_, size - 1);
  if (prober_) prober_->too_large(size, loop_.now());
  update_max_packet();
  observer_.on_due_changed(*this);
}

void DtlsChannel::update_max_packet() {
  if (!current_) return;
  const size_t overhead = current_->dtls->expansion() + 1;
  const size_t confirmed = prober_ ? prober_->confirmed() : heard_payload_;
  const size_t fits = confirmed > overhead ? confirmed - overhead : 0;
  if (fits == max_packet_) return;
  max_packet_ = fits;
  observer_.on_path_mtu(*this);
}

}  // namespace culvert::tunnel
