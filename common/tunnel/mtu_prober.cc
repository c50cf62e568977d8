#include "common/tunnel/mtu_prober.h"

#include <algorithm>

#include "common/tunnel/path_mtu.h"

namespace culvert::tunnel {
namespace {

// IP sizes that paths are known to have: IPv6's least, some mobile networks, WireGuard and VXLAN
// underneath, tunnels of one more header, PPPoE, Ethernet.
constexpr std::array<uint16_t, 8> kCommonSizes = {1280, 1400, 1420, 1450, 1460, 1480, 1492, 1500};
constexpr int kSectionProbes = 7;  // with which the gap falls in eight

}  // namespace

MtuProber::MtuProber(const Options& options, TimePoint now)
    : options_(options),
      confirmed_(std::min(options.floor, options.ceiling)),
      last_confirmed_(now),
      not_before_(now),
      growth_at_(now),
      growth_pause_(options.min_growth_pause),
      silence_pause_(options.min_silence_pause) {
  path_changed(options.ceiling, now);
}

Duration MtuProber::timeout() const {
  if (!smoothed_) return options_.probe_timeout;
  return std::clamp(*smoothed_ + 4 * variation_, options_.min_timeout, options_.max_timeout);
}

void MtuProber::measure(Duration round_trip) {
  if (!smoothed_) {
    smoothed_ = round_trip;
    // RFC 6298 takes half. Here a timeout too early costs one small probe, one too late costs time.
    variation_ = round_trip / 8;
    return;
  }
  const Duration off = std::chrono::abs(*smoothed_ - round_trip);
  variation_ = (3 * variation_ + off) / 4;
  smoothed_ = (7 * *smoothed_ + round_trip) / 8;
}

// ---- Events.

void MtuProber::path_changed(uint16_t ceiling, TimePoint now) {
  options_.ceiling = ceiling;
  confirmed_ = std::min(options_.floor, ceiling);
  hunt_ = Hunt::kNone;
  probe_count_ = 0;
  smoothed_.reset();
  suspect_at_.reset();
  search_at_ = now;
  not_before_ = now;
  growth_at_ = now;
  growth_pause_ = options_.min_growth_pause;
  silence_pause_ = options_.min_silence_pause;
}

void MtuProber::sent(TimePoint /*now*/) {
  in_use_ = true;
}

void MtuProber::suspect(TimePoint now) {
  if (confirmed_ <= options_.floor || suspect_at_) return;
  suspect_at_ = now;
}

void MtuProber::too_large(uint16_t size, TimePoint now) {
  // Below the floor there is nothing to find: such a channel is of no use, and its owner knows.
  if (size <= options_.floor) return;
  if (size <= confirmed_) {
    // The link itself has changed: the common sizes below, at once.
    confirmed_ = std::min(options_.floor, options_.ceiling);
    begin(Hunt::kSearch, now);
    high_ = size;
    fell_ = true;
    begin_ladder(now);
    return;
  }
  if (hunt_ == Hunt::kNone || size >= high_) return;
  high_ = size;
  if (stage_ == Stage::kGoal) {
    begin_ladder(now);
  } else if (!std::ranges::any_of(probes(), [&](const Probe& p) { return open(p); })) {
    next_stage(now);
  }
}

void MtuProber::answered(uint16_t size, TimePoint now) {
  const auto probe = std::ranges::find_if(
      probes(), [&](const Probe& p) { return p.size == size && p.attempts > 0; });
  if (hunt_ == Hunt::kNone || probe == probes().end() || probe->answered) return;
  // Which of several attempts was answered is unknown (Karn): better no figure than a wrong one,
  // unless there is none.
  if (probe->attempts == 1 || !smoothed_) measure(now - probe->first_sent);
  probe->answered = true;
  silence_pause_ = options_.min_silence_pause;
  if (size >= high_) return;  // condemned meanwhile
  low_known_ = true;
  low_ = std::max<int>(low_, size);
  if (size >= confirmed_) {
    confirmed_ = size;
    last_confirmed_ = now;
  }
  if (hunt_ == Hunt::kConfirm && !fell_ && size == confirmed_) return finish(now);
  if (!std::ranges::any_of(probes(), [&](const Probe& p) { return open(p); })) next_stage(now);
}

// ---- What is due.

TimePoint MtuProber::confirm_at() const {
  if (confirmed_ <= options_.floor) return TimePoint::max();
  TimePoint at = in_use_ ? last_confirmed_ + options_.confirm_every : TimePoint::max();
  if (suspect_at_)
    at = std::min(at, std::max(*suspect_at_, last_confirmed_ + options_.suspect_gap));
  return at;
}

TimePoint MtuProber::grow_at() const {
  const bool room = options_.ceiling - confirmed_ > options_.granularity;
  return in_use_ && room ? growth_at_ : TimePoint::max();
}

TimePoint MtuProber::next_due() const {
  if (hunt_ != Hunt::kNone) return any_pending() ? round_at_ : last_probe_ + timeout();
  const TimePoint at = search_at_ ? *search_at_ : std::min(confirm_at(), grow_at());
  return std::max(at, not_before_);
}

std::optional<uint16_t> MtuProber::due(TimePoint now) {
  // Each pass ends a round or a hunt, and both are rare: a bound all the same, for a clock that
  // has jumped.
  for (int pass = 0; pass < 4 && next_due() <= now; ++pass) {
    if (hunt_ == Hunt::kNone) begin_due_hunt(now);
    // The largest first: its answer makes the others superfluous.
    for (size_t i = probe_count_; i-- > 0;) {
      Probe& probe = probes_[i];
      if (!probe.pending) continue;
      probe.pending = false;
      if (!open(probe)) continue;
      if (probe.attempts++ == 0) probe.first_sent = now;
      last_probe_ = now;
      ++probes_sent_;
      return probe.size;
    }
    if (hunt_ != Hunt::kNone && now >= last_probe_ + timeout()) end_round(now);
  }
  return std::nullopt;
}

void MtuProber::begin_due_hunt(TimePoint now) {
  if (search_at_) {
    begin(Hunt::kSearch, now);
  } else if (confirm_at() <= now) {
    begin(Hunt::kConfirm, now);
  } else {
    begin(Hunt::kGrow, now);
  }
}

// ---- The hunt.

bool MtuProber::open(const Probe& probe) const {
  if (probe.answered || probe.size >= high_) return false;
  return low_known_ ? probe.size > low_ : probe.size >= low_;
}

bool MtuProber::any_pending() const {
  return std::any_of(probes_.begin(), probes_.begin() + static_cast<ptrdiff_t>(probe_count_),
                     [&](const Probe& p) { return p.pending && open(p); });
}

void MtuProber::add_probe(int size) {
  const bool known = std::ranges::any_of(probes(), [&](const Probe& p) { return p.size == size; });
  if (known || size < low_ || size >= high_ || probe_count_ == kMaxProbes) return;
  const Probe added{.size = static_cast<uint16_t>(size), .pending = true};
  size_t place = probe_count_++;
  for (; place > 0 && probes_[place - 1].size > added.size; --place)
    probes_[place] = probes_[place - 1];
  probes_[place] = added;
}

void MtuProber::begin(Hunt hunt, TimePoint now) {
  const bool confirm = hunt == Hunt::kConfirm;
  hunt_ = hunt;
  stage_ = Stage::kGoal;
  began_with_ = confirmed_;
  fell_ = false;
  low_known_ = false;
  low_ = hunt == Hunt::kGrow ? confirmed_ : std::min(options_.floor, options_.ceiling);
  high_ = (confirm ? confirmed_ : options_.ceiling) + 1;
  search_at_.reset();
  if (confirm) suspect_at_.reset();
  in_use_ = false;
  probe_count_ = 0;
  round_at_ = now;
  if (high_ - low_ <= 1) return finish(now);
  add_probe(high_ - 1);
}

void MtuProber::begin_ladder(TimePoint now) {
  stage_ = Stage::kLadder;
  round_at_ = now;
  for (Probe& goal : probes())
    goal.pending = true;
  add_probe(low_);
  const int overhead = ip_header_size(options_.outer) + kUdpHeaderSize;
  for (const uint16_t size : kCommonSizes)
    add_probe(size - overhead);
  // A path that has not grown is found out by the smallest step that it would have to allow.
  if (hunt_ == Hunt::kGrow) add_probe(low_ + options_.granularity);
}

void MtuProber::begin_section(TimePoint now) {
  stage_ = Stage::kSection;
  probe_count_ = 0;
  round_at_ = now;
  const int gap = high_ - low_;
  // The smallest step first: common sizes are exact, and then nothing above them passes.
  add_probe(low_ + options_.granularity);
  for (int i = 1; i <= kSectionProbes; ++i) {
    const int step = gap * i / (kSectionProbes + 1);
    if (step > options_.granularity) add_probe(low_ + step);
  }
}

// The time for answers is over: asks the smallest size in doubt again, or gives it up.
void MtuProber::end_round(TimePoint now) {
  if (stage_ == Stage::kGoal) return begin_ladder(now);
  const auto doubt = std::ranges::find_if(probes(), [&](const Probe& p) { return open(p); });
  if (doubt == probes().end()) return next_stage(now);
  if (doubt->attempts >= options_.attempts) return condemn(doubt->size, now);
  doubt->pending = true;
  round_at_ = now;
}

void MtuProber::condemn(uint16_t size, TimePoint now) {
  if (!low_known_) return path_is_silent(now);  // it was the base, and nothing larger came either
  high_ = size;
  if (confirmed_ >= high_) {
    confirmed_ = static_cast<uint16_t>(low_);
    fell_ = true;
  }
  next_stage(now);
}

void MtuProber::next_stage(TimePoint now) {
  if (high_ - low_ <= options_.granularity || low_ == options_.ceiling) return finish(now);
  begin_section(now);
}

void MtuProber::finish(TimePoint now) {
  const bool only_confirmed = hunt_ == Hunt::kConfirm && !fell_;
  const bool in_vain = hunt_ == Hunt::kGrow && confirmed_ == began_with_;
  hunt_ = Hunt::kNone;
  probe_count_ = 0;
  last_confirmed_ = now;
  not_before_ = now;
  if (only_confirmed) return;
  growth_pause_ =
      in_vain ? std::min(2 * growth_pause_, options_.max_growth_pause) : options_.min_growth_pause;
  growth_at_ = now + growth_pause_;
}

// Nothing came back, so it is not about sizes: whoever chooses the channel will notice. The size in
// use stays, but must be confirmed when the path is back.
void MtuProber::path_is_silent(TimePoint now) {
  const Hunt ended = hunt_;
  hunt_ = Hunt::kNone;
  probe_count_ = 0;
  if (ended == Hunt::kSearch) {
    search_at_ = now;
  } else {
    suspect_at_ = now;
  }
  // A look for growth had no probe below the size in use: the confirmation, now, has.
  if (ended == Hunt::kGrow) return;
  not_before_ = now + silence_pause_;
  silence_pause_ = std::min(2 * silence_pause_, options_.max_silence_pause);
}

}  // namespace culvert::tunnel
