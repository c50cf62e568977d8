#include "common/tunnel/udp_port.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

#include "common/base/log.h"

namespace culvert::tunnel {
namespace {

// What one turn of the loop takes from the socket before everybody else gets a turn.
constexpr size_t kTurnBytes = 128U << 10;

// As ==, but asked for each record: in the order in which paths differ, and without loops.
bool is_same(const net::UdpPath& a, const net::UdpPath& b) {
  const auto equal = [](const IpAddress& x, const IpAddress& y) {
    if (x.family() != y.family()) return false;
    const auto same = [&](size_t size) {
      return std::memcmp(x.bytes().data(), y.bytes().data(), size) == 0;
    };
    return x.is_v4() ? same(4) : same(16);
  };
  return a.peer.port == b.peer.port && a.interface == b.interface &&
         equal(a.peer.address, b.peer.address) && equal(a.local, b.local);
}

}  // namespace

UdpPort::Stats& UdpPort::Stats::operator+=(const Stats& other) {
  sent += other.sent;
  received += other.received;
  send_calls += other.send_calls;
  receive_calls += other.receive_calls;
  dropped += other.dropped;
  too_large += other.too_large;
  failed += other.failed;
  truncated += other.truncated;
  return *this;
}

UdpPort::UdpPort(loop::Loop& loop, net::UdpArena& received, net::UdpSocket socket, Sink& sink)
    : received_(received),
      socket_(std::move(socket)),
      sink_(sink),
      poll_(loop, socket_.fd()),
      // Not initialised on purpose: pages that nothing reaches cost nothing.
      memory_(std::make_unique_for_overwrite<std::byte[]>(kSendBytes)) {
  batch_.reserve(kMaxDatagrams);
  paths_.reserve(kMaxDatagrams);
}

// The poll handle must let go of the descriptor before it is closed.
UdpPort::~UdpPort() {
  if (destroyed_ != nullptr) *destroyed_ = true;
  poll_.stop();
}

Status UdpPort::start() {
  // An error condition is an ICMP message that somebody may have forged: reading clears it.
  return poll_.start(
      [this](unsigned /*ready*/, int error) {
        if (error != 0) poll_.set_interest(loop::kReadable);
        on_readable();
      },
      loop::kReadable);
}

MutableBytes UdpPort::room(size_t size) {
  assert(size <= kSendBytes);
  if (kSendBytes - used_ < size || batch_.size() == kMaxDatagrams) flush();
  return {memory_.get() + used_, kSendBytes - used_};
}

void UdpPort::commit(size_t size, const net::UdpPath& path) {
  if (paths_.empty() || !is_same(paths_.back(), path)) paths_.push_back(path);
  batch_.push_back({.bytes = Bytes(memory_.get() + used_, size),
                    .path = static_cast<uint16_t>(paths_.size() - 1)});
  used_ += size;
}

void UdpPort::flush() {
  if (batch_.empty()) return;
  const net::SendOutcome outcome = socket_.send(batch_, paths_);
  stats_.sent += outcome.sent;
  stats_.send_calls += outcome.calls;
  stats_.dropped += outcome.dropped;
  stats_.too_large += outcome.too_large;
  stats_.failed += outcome.failed;
  if (outcome.gso_lost && !std::exchange(gso_loss_told_, true)) {
    log::warning("udp", "the way out cannot segment UDP: datagrams are sent one by one", {});
  }
  const bool tell = outcome.too_large_size != 0;
  const net::UdpPath path = tell ? paths_[outcome.too_large_path] : net::UdpPath{};
  batch_.clear();
  paths_.clear();
  used_ = 0;
  if (tell) sink_.on_too_large(*this, path, outcome.too_large_size);
}

void UdpPort::on_readable() {
  bool destroyed = false;
  destroyed_ = &destroyed;
  size_t bytes = 0;
  while (bytes < kTurnBytes) {
    const net::ReceiveOutcome outcome = socket_.receive(received_);
    ++stats_.receive_calls;
    stats_.truncated += outcome.truncated;
    bytes += outcome.bytes;
    for (const net::UdpTrain& train : received_.trains()) {
      stats_.received += train.count();
      sink_.on_train(*this, train);
    }
    if (outcome.trains != 0) sink_.on_trains_end(*this);
    if (destroyed) return;
    if (outcome.drained || outcome.error != 0) break;
  }
  destroyed_ = nullptr;
}

}  // namespace culvert::tunnel
