#include "common/tunnel/dtls_front.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <functional>
#include <string_view>
#include <utility>

#include "common/tls/random.h"

namespace culvert::tunnel {
namespace {

// A ClientHello that came early is good for this long: then its sender has repeated it.
constexpr Duration kEarlyTime = std::chrono::milliseconds(400);
constexpr size_t kLongestHello = 1024;

uint64_t load_word(Bytes bytes) {
  uint64_t word = 0;
  std::memcpy(&word, bytes.data(), std::min(sizeof word, bytes.size()));
  return word;
}

}  // namespace

DtlsFront::Stats& DtlsFront::Stats::operator+=(const Stats& other) {
  challenged += other.challenged;
  unknown_app += other.unknown_app;
  stray += other.stray;
  accepted += other.accepted;
  handed_over += other.handed_over;
  return *this;
}

std::optional<ServerCid> DtlsFront::cid_of(Bytes datagram) {
  if (datagram.empty() || datagram[0] != std::byte{kConnectionIdType} ||
      datagram.size() < kCidOffset + tls::kServerCidSize) {
    return std::nullopt;
  }
  ServerCid cid;
  std::copy_n(datagram.begin() + kCidOffset, cid.size(), cid.begin());
  return cid;
}

size_t DtlsFront::PathHash::operator()(const net::UdpPath& path) const noexcept {
  const std::hash<IpAddress> hash;
  return hash(path.peer.address) * 31 + hash(path.local) * 7 + path.peer.port;
}

// Both are random, each bit as good as the next (but for the first byte of a connection ID).
size_t DtlsFront::CidHash::operator()(const ServerCid& cid) const noexcept {
  return load_word(cid);
}
size_t DtlsFront::AppIdHash::operator()(const tls::AppId& id) const noexcept {
  return load_word(id);
}

DtlsFront::DtlsFront(loop::Loop& loop, std::unique_ptr<tls::DtlsCookieResponder> responder,
                     FrontPlace place)
    : loop_(loop), place_(place), responder_(std::move(responder)) {
  assert(place_.number < place_.count && place_.count <= kMaxFronts);
}

DtlsFront::~DtlsFront() = default;

Result<std::unique_ptr<DtlsFront>> DtlsFront::create(
    loop::Loop& loop, DtlsScratch& scratch, net::UdpSocket socket,
    std::shared_ptr<const tls::DtlsCookieKey> cookie_key, FrontPlace place) {
  auto responder = tls::DtlsCookieResponder::create(std::move(cookie_key));
  if (!responder) return responder.error();
  std::unique_ptr<DtlsFront> front(new DtlsFront(loop, std::move(*responder), place));
  UdpPort::Sink& sink = *front;
  front->port_ = std::make_unique<UdpPort>(loop, scratch.received, std::move(socket), sink);
  return front;
}

std::vector<std::byte> DtlsFront::transport_id(const net::UdpPath& path) {
  const Bytes address = path.peer.address.bytes();
  std::vector<std::byte> id(address.begin(), address.end());
  id.push_back(static_cast<std::byte>(path.peer.port >> 8));
  id.push_back(static_cast<std::byte>(path.peer.port & 0xff));
  return id;
}

// ---- who is who ---------------------------------------------------------------------------------

void DtlsFront::expect(const tls::AppId& app_id, DtlsChannel& channel) {
  expected_[app_id] = &channel;
}

void DtlsFront::withdraw(const tls::AppId& app_id, const DtlsChannel& channel) {
  const auto found = expected_.find(app_id);
  if (found != expected_.end() && found->second == &channel) expected_.erase(found);
  if (delivering_ == &channel) delivering_ = nullptr;
}

void DtlsFront::bind(const net::UdpPath& path, DtlsChannel& channel) {
  elsewhere_by_path_.erase(path);
  by_path_[path] = &channel;
}

void DtlsFront::unbind(const net::UdpPath& path, const DtlsChannel& channel) {
  const auto found = by_path_.find(path);
  if (found != by_path_.end() && found->second == &channel) by_path_.erase(found);
}

ServerCid DtlsFront::issue_cid(DtlsChannel& channel) {
  ServerCid cid;
  do {
    tls::random_bytes(cid);
    cid[0] = static_cast<std::byte>(place_.number);
  } while (!by_cid_.try_emplace(cid, &channel).second);
  return cid;
}

void DtlsFront::release_cid(Bytes cid) {
  if (cid.size() != tls::kServerCidSize) return;
  ServerCid key;
  std::copy(cid.begin(), cid.end(), key.begin());
  by_cid_.erase(key);
}

// A train comes from one peer. One that has moved is known by the connection ID alone.
DtlsChannel* DtlsFront::find(const net::UdpTrain& train) const {
  if (const auto cid = cid_of(train.bytes)) {
    const auto found = by_cid_.find(*cid);
    return found == by_cid_.end() ? nullptr : found->second;
  }
  const auto found = by_path_.find(train.path);
  return found == by_path_.end() ? nullptr : found->second;
}

// Only asked of what is no session's here.
std::optional<size_t> DtlsFront::front_of(const net::UdpTrain& train) const {
  if (place_.neighbours == nullptr || taking_over_) return std::nullopt;
  if (const auto cid = cid_of(train.bytes)) {
    const auto issuer = std::to_integer<size_t>((*cid)[0]);
    if (issuer == place_.number || issuer >= place_.count) return std::nullopt;
    return issuer;
  }
  // A ClientHello may be another client's who has the address now.
  if (tls::first_record(train.bytes, tls::kServerCidSize).kind == tls::RecordKind::kClientHello) {
    return std::nullopt;
  }
  const auto found = elsewhere_by_path_.find(train.path);
  if (found == elsewhere_by_path_.end()) return std::nullopt;
  return found->second;
}

void DtlsFront::expect_elsewhere(const tls::AppId& app_id, size_t front) {
  forget_elsewhere(app_id);
  elsewhere_[app_id] = {front, std::nullopt};
}

void DtlsFront::forget_elsewhere(const tls::AppId& app_id) {
  const auto found = elsewhere_.find(app_id);
  if (found == elsewhere_.end()) return;
  if (found->second.path) elsewhere_by_path_.erase(*found->second.path);
  elsewhere_.erase(found);
}

void DtlsFront::keep(const tls::AppId& app_id, const net::UdpPath& path, Bytes hello,
                     TimePoint now) {
  if (hello.size() > kLongestHello) return;
  const auto same = std::find_if(early_.begin(), early_.end(),
                                 [&](const Early& early) { return early.app_id == app_id; });
  if (same != early_.end()) early_.erase(same);
  if (early_.size() == kEarly) early_.erase(early_.begin());
  early_.push_back({app_id, path, now, {hello.begin(), hello.end()}});
}

void DtlsFront::catch_up(const tls::AppId& app_id) {
  const auto found = std::find_if(early_.begin(), early_.end(),
                                  [&](const Early& early) { return early.app_id == app_id; });
  if (found == early_.end()) return;
  const Early early = std::move(*found);
  early_.erase(found);
  if (loop_.now() - early.came < kEarlyTime) greet(*port_, early.path, early.hello);
  on_trains_end(*port_);
}

// ---- datagrams ----------------------------------------------------------------------------------

// Opened packets lie in memory that all channels of the thread share: whoever has some must pass
// them on before another one opens any.
void DtlsFront::on_train(UdpPort& port, const net::UdpTrain& train) {
  DtlsChannel* const channel = find(train);
  if (channel == nullptr) {
    if (const auto front = front_of(train)) {
      return hand_over(*front, train.path, train.bytes, train.segment_size);
    }
    for (size_t i = 0; i < train.count(); ++i)
      greet(port, train.path, train[i]);
    return;
  }
  if (delivering_ != channel) deliver();
  delivering_ = channel;
  channel->receive(port, train);
}

void DtlsFront::on_trains_end(UdpPort& port) {
  deliver();
  port.flush();
  if (std::exchange(handed_over_, false)) place_.neighbours->hand_over_end();
}

void DtlsFront::take_over(const net::UdpTrain& train) {
  taking_over_ = true;
  on_train(*port_, train);
  taking_over_ = false;
}

void DtlsFront::hand_over(size_t front, const net::UdpPath& path, Bytes datagrams,
                          size_t segment_size) {
  ++stats_.handed_over;
  handed_over_ = true;
  place_.neighbours->hand_over(front, path, datagrams, segment_size);
}

void DtlsFront::deliver() {
  if (DtlsChannel* const channel = std::exchange(delivering_, nullptr)) channel->deliver();
}

void DtlsFront::on_too_large(UdpPort& /*port*/, const net::UdpPath& path, uint16_t size) {
  const auto found = by_path_.find(path);
  if (found != by_path_.end()) found->second->too_large(size);
}

// A handshake of a session that lives elsewhere: the rest of it comes the same way.
bool DtlsFront::pass_on(const tls::AppId& app_id, const net::UdpPath& path, Bytes hello) {
  const auto found = taking_over_ ? elsewhere_.end() : elsewhere_.find(app_id);
  if (found == elsewhere_.end()) return false;
  auto& [front, known] = found->second;
  if (known && !(*known == path)) elsewhere_by_path_.erase(*known);
  known = path;
  by_path_.erase(path);
  elsewhere_by_path_[path] = front;
  hand_over(front, path, hello, hello.size());
  return true;
}

void DtlsFront::greet(UdpPort& port, const net::UdpPath& path, Bytes datagram) {
  const auto hello = tls::parse_client_hello(datagram);
  if (!hello) {
    ++stats_.stray;
    return;
  }
  const std::vector<std::byte> id = transport_id(path);
  const TimePoint now = loop_.now();
  if (!responder_->proves_address(*hello, id, now)) {
    static_assert(tls::kHelloVerifyRequestSize < tls::kDtlsRecordHeader + 12 + 2 + 32 + 1 + 1 + 4,
                  "an answer must not be larger than the smallest ClientHello");
    const MutableBytes answer =
        responder_->answer(*hello, id, now, port.room(tls::kHelloVerifyRequestSize));
    port.commit(answer.size(), path);
    ++stats_.challenged;
    return;
  }
  const auto app_id = hello->app_id();
  const auto found = app_id ? expected_.find(*app_id) : expected_.end();
  if (found == expected_.end()) {
    if (app_id && pass_on(*app_id, path, datagram)) return;
    ++stats_.unknown_app;
    if (app_id) keep(*app_id, path, datagram, now);
    return;
  }
  ++stats_.accepted;
  DtlsChannel& channel = *found->second;
  if (delivering_ != &channel) deliver();
  delivering_ = &channel;
  channel.accept(port, path, datagram);
}

}  // namespace culvert::tunnel
