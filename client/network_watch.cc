#include "client/network_watch.h"

#include <utility>

namespace culvert::client {
namespace {

constexpr Duration kSettling = std::chrono::milliseconds(200);
constexpr Duration kTickEvery = std::chrono::seconds(1);
// A loop that was busy is not one that slept.
constexpr Duration kStoodStill = std::chrono::seconds(4);

}  // namespace

std::string_view name_of(NetworkWatch::Why why) {
  return why == NetworkWatch::Why::kSlept ? "this machine was asleep" : "the network has changed";
}

NetworkWatch::NetworkWatch(loop::Loop& loop)
    : loop_(loop), poll_(loop, -1), settling_(loop), ticking_(loop) {}

Status NetworkWatch::start(const std::string& own_device, UniqueFunction<void(Why)> on_change) {
  on_change_ = std::move(on_change);
  last_tick_ = loop_.now();
  ticking_.start_repeating(kTickEvery, [this] { on_tick(); });
  auto events = net::NetworkEvents::open(net::interface_index(own_device));
  if (!events) return std::move(events.error());
  events_ = std::move(*events);
  poll_ = loop::Poll(loop_, events_->fd());
  return poll_.start(
      [this](unsigned /*ready*/, int error) {
        if (error != 0) poll_.set_interest(loop::kReadable);
        on_readable(error != 0);  // the kernel had more to say than fits
      },
      loop::kReadable);
}

void NetworkWatch::on_readable(bool lost) {
  const bool news = events_->read() || lost;
  if (!news || settling_.active()) return;
  settling_.start(kSettling, [this] { on_change_(Why::kChanged); });
}

// Timers stand still while the machine sleeps, and the clock does not.
void NetworkWatch::on_tick() {
  const TimePoint before = std::exchange(last_tick_, loop_.now());
  if (last_tick_ - before > kStoodStill) on_change_(Why::kSlept);
}

}  // namespace culvert::client
