// MtuProber: finds how large a UDP payload gets through to the peer. Packetization-layer path MTU
// discovery for datagrams (RFC 8899) with padded DPD requests as probes: an answer, whatever its
// own size, says that the request arrived. Pure: it says which probe is due and hears what came of
// it; it believes no ICMP, only answers and the kernel's EMSGSIZE.
//
// A hunt goes through three stages, and each stage is a few rounds of probes:
//
//   goal      the hoped-for size alone: one round trip and done, where the path is as it should be
//   ladder    the sizes of common paths below it, all at once, and the base: what surely passes
//   section   the gap between the largest that passed and the smallest that did not, cut in eight
//
// The largest answered size of a round implies all smaller ones. Of those above it, only the
// smallest is asked again; unanswered `attempts` times, it is the upper bound. When the base stays
// unanswered as well, the path is silent: that says nothing about sizes, nothing changes, and the
// hunt is repeated later. Hunts start from the floor (a new path), confirm the size in use (now and
// then while data is sent, and on suspicion), or look for growth.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "common/base/address.h"
#include "common/base/clock.h"

namespace culvert::tunnel {

class MtuProber {
 public:
  // Sizes are bytes of UDP payload, everywhere here.
  struct Options {
    uint16_t floor = 1200;       // taken for granted: reported until something larger is proven
    uint16_t ceiling = 1472;     // what the link to the peer can carry
    Family outer = Family::kV4;  // of the datagrams: what common IP sizes mean in payload
    uint16_t granularity = 4;    // how near to the truth is near enough
    uint8_t attempts = 3;        // unanswered ones that condemn a size
    Duration probe_timeout = std::chrono::milliseconds(250);  // until round trips are measured
    Duration min_timeout = std::chrono::milliseconds(100);    // from there on: never less,
    Duration max_timeout = std::chrono::seconds(1);           // never more
    Duration confirm_every = std::chrono::seconds(3);         // while data is sent: as long as a
                                                              // path may swallow what it took
    Duration suspect_gap = std::chrono::seconds(1);  // a size confirmed more recently is trusted
    // Looks for growth come at twice the pause after each in vain. The short one also mends what
    // an unlucky loss made of the last hunt.
    Duration min_growth_pause = std::chrono::seconds(10);
    Duration max_growth_pause = std::chrono::minutes(5);
    Duration min_silence_pause = std::chrono::seconds(1);   // between hunts on a silent path,
    Duration max_silence_pause = std::chrono::seconds(30);  // doubled each time
  };

  // A hunt is due at once.
  MtuProber(const Options& options, TimePoint now);

  // The size of a probe to send now. Ask again until it says nothing: a round is several probes.
  [[nodiscard]] std::optional<uint16_t> due(TimePoint now);
  // When to ask again, unless an event comes first. TimePoint::max(): only after an event.
  [[nodiscard]] TimePoint next_due() const;

  // A probe of this size was answered: the probe's size, so the caller keeps it with the question.
  // Sizes that were not asked about lately are ignored.
  void answered(uint16_t size, TimePoint now);
  // The kernel refused a datagram of this size (EMSGSIZE), a probe or not.
  void too_large(uint16_t size, TimePoint now);
  // Data was sent on the channel; once a batch. Without it, a settled prober asks nothing.
  void sent(TimePoint now);
  // There are signs of a black hole (large packets get lost): confirms the size in use soon.
  void suspect(TimePoint now);
  // Another network, another peer address: what was found no longer counts, and is sought anew.
  // For a mere change of the peer's port, which keeps the path, suspect() is enough.
  void path_changed(uint16_t ceiling, TimePoint now);

  // The largest size that is known to pass; the floor (or the ceiling, if that is less) until
  // something is known. Changes in answered(), too_large(), path_changed() and due() only.
  [[nodiscard]] uint16_t confirmed() const { return confirmed_; }
  // A hunt is under way, or the first one is still to come: confirmed() may change soon.
  [[nodiscard]] bool searching() const { return hunt_ != Hunt::kNone || search_at_; }
  [[nodiscard]] uint64_t probes_sent() const { return probes_sent_; }

 private:
  enum class Hunt : uint8_t { kNone, kSearch, kConfirm, kGrow };
  enum class Stage : uint8_t { kGoal, kLadder, kSection };
  struct Probe {
    uint16_t size = 0;
    uint8_t attempts = 0;  // sent so far
    bool pending = false;  // to be sent in this round
    bool answered = false;
    TimePoint first_sent{};
  };
  static constexpr size_t kMaxProbes = 16;  // of one stage

  [[nodiscard]] Duration timeout() const;
  [[nodiscard]] std::span<Probe> probes() { return {probes_.data(), probe_count_}; }
  // Neither implied by a larger answer nor beyond the upper bound.
  [[nodiscard]] bool open(const Probe& probe) const;
  [[nodiscard]] bool any_pending() const;
  void add_probe(int size);

  void begin_due_hunt(TimePoint now);
  void begin(Hunt hunt, TimePoint now);
  void begin_ladder(TimePoint now);
  void begin_section(TimePoint now);
  void end_round(TimePoint now);
  void condemn(uint16_t size, TimePoint now);
  void next_stage(TimePoint now);
  void finish(TimePoint now);
  void path_is_silent(TimePoint now);
  void measure(Duration round_trip);
  [[nodiscard]] TimePoint confirm_at() const;
  [[nodiscard]] TimePoint grow_at() const;

  Options options_;
  uint16_t confirmed_;

  // The hunt: what passes and what does not, as far as it knows.
  Hunt hunt_ = Hunt::kNone;
  Stage stage_ = Stage::kGoal;
  int low_ = 0;             // the base until an answer came, then the largest answered
  int high_ = 0;            // the smallest that fails; the goal + 1 at first
  bool low_known_ = false;  // an answer of this hunt stands behind low_
  bool fell_ = false;       // confirmed_ was taken back in this hunt
  uint16_t began_with_ = 0;
  std::array<Probe, kMaxProbes> probes_{};  // ascending
  size_t probe_count_ = 0;
  TimePoint round_at_{};  // when the round's probes became due
  TimePoint last_probe_{};

  // Between the hunts.
  std::optional<TimePoint> search_at_;   // a search is due then
  std::optional<TimePoint> suspect_at_;  // a confirmation is due then, in use or not
  TimePoint last_confirmed_;
  TimePoint not_before_;  // the pause after a silent hunt
  TimePoint growth_at_;
  Duration growth_pause_;
  Duration silence_pause_;
  bool in_use_ = false;  // data was sent since the last hunt

  std::optional<Duration> smoothed_;  // round trip, as in RFC 6298
  Duration variation_{};
  uint64_t probes_sent_ = 0;
};

}  // namespace culvert::tunnel
