// lossy_relay: a bad path. Passes Ethernet frames between two devices, both ways, each frame after
// the same delay; drops some and holds some back, so that later ones overtake them. What is hit is
// decided by a generator of its own for each direction, from the seed and the frame's number alone:
// two programs measured with one seed meet the same path.
//
//   lossy_relay [--seed N] [--loss P] [--delay-ms D] [--reorder P] [--hold-ms H] [--queue N] A B
//       P: a share, 0 to 1. D: one way, so a round trip takes twice as long. A frame that is held
//       back waits up to H longer. N: frames a direction that may be on their way; more are lost,
//       and counted apart. Prints "ready", and the counters as one line of JSON when it is ended by
//       SIGTERM or SIGINT.
//
// The devices must not carry superpackets or leave checksums to others ("largest" tells), or whole
// trains would be hit at once and arrive broken.
#include <getopt.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "common/base/unique_fd.h"

namespace culvert::bench {
namespace {

constexpr size_t kBatch = 64;       // frames a system call
constexpr size_t kSlotSize = 9728;  // jumbo frames
constexpr int kSocketBuffer = 16 << 20;
constexpr int kPriority =
    -10;  // before what it stands between: a wire doesn't wait for a processor

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::duration<double, std::milli>;

struct Options {
  uint64_t seed = 1;
  double loss = 0;
  Milliseconds delay{0};
  double reorder = 0;
  Milliseconds hold{0};
  size_t queue = 8192;
};

int check(int result, const char* what) {
  if (result < 0) {
    std::perror(what);
    std::exit(1);
  }
  return result;
}

UniqueFd open_device(const char* name) {
  UniqueFd fd(check(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0), "socket"));
  const int on = 1;
  check(setsockopt(fd.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on),
        "PACKET_IGNORE_OUTGOING");
  check(setsockopt(fd.get(), SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on),
        "PACKET_QDISC_BYPASS");
  for (const int buffer : {SO_RCVBUFFORCE, SO_SNDBUFFORCE})
    check(setsockopt(fd.get(), SOL_SOCKET, buffer, &kSocketBuffer, sizeof kSocketBuffer), "buffer");
  sockaddr_ll local{};
  local.sll_family = AF_PACKET;
  local.sll_protocol = htons(ETH_P_ALL);
  local.sll_ifindex = static_cast<int>(if_nametoindex(name));
  if (local.sll_ifindex == 0) check(-1, name);
  check(bind(fd.get(), reinterpret_cast<sockaddr*>(&local), sizeof local), name);
  return fd;
}

// What happens to the frames, in their order.
class Fate {
 public:
  Fate(const Options& options, uint64_t direction)
      : options_(options), random_(options.seed * 2 + direction) {}

  struct Verdict {
    bool lost;
    Milliseconds held;
  };
  // Always draws the same number of values, so that one frame's fate doesn't depend on another's.
  Verdict next() {
    const double loss = draw(), reorder = draw(), hold = draw();
    return {.lost = loss < options_.loss,
            .held = reorder < options_.reorder ? hold * options_.hold : Milliseconds(0)};
  }

 private:
  // From 0 to 1; the library's own distributions may differ from one to the next.
  double draw() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

  const Options& options_;
  std::mt19937_64 random_;
};

class Direction {
 public:
  Direction(int from, int to, const Options& options, uint64_t number)
      : from_(from), to_(to), options_(options), fate_(options, number) {
    slots_.resize((options.queue + kBatch) * kSlotSize);
    sizes_.resize(options.queue + kBatch);
    for (size_t i = 0; i < sizes_.size(); ++i)
      free_.push_back(i);
  }

  // Takes what has come, in turns, so that the other direction isn't kept waiting.
  void receive() {
    const size_t first = free_.size() - kBatch;
    for (size_t i = 0; i < kBatch; ++i)
      prepare(i, free_[first + i], kSlotSize);
    const int got = recvmmsg(from_, messages_.data(), kBatch, MSG_DONTWAIT, nullptr);
    if (got <= 0) return;
    const auto now = Clock::now();
    const auto count = static_cast<size_t>(got);
    std::array<size_t, kBatch> taken;
    std::copy_n(free_.begin() + static_cast<ptrdiff_t>(first), kBatch, taken.begin());
    free_.resize(first);
    for (size_t i = count; i < kBatch; ++i)
      free_.push_back(taken[i]);
    for (size_t i = 0; i < count; ++i) {
      sizes_[taken[i]] = messages_[i].msg_len;
      accept(taken[i], now);
    }
  }

  void send_due(Clock::time_point now) {
    while (!waiting_.empty() && waiting_.top().due <= now) {
      std::array<size_t, kBatch> slots;
      size_t count = 0;
      for (; count < kBatch && !waiting_.empty() && waiting_.top().due <= now; ++count) {
        slots[count] = waiting_.top().slot;
        prepare(count, slots[count], sizes_[slots[count]]);
        waiting_.pop();
      }
      send(count);
      free_.insert(free_.end(), slots.begin(), slots.begin() + static_cast<ptrdiff_t>(count));
    }
  }

  [[nodiscard]] std::optional<Clock::time_point> next_due() const {
    if (waiting_.empty()) return std::nullopt;
    return waiting_.top().due;
  }

  [[nodiscard]] nlohmann::ordered_json counters() const {
    tpacket_stats seen{};
    socklen_t size = sizeof seen;
    check(getsockopt(from_, SOL_PACKET, PACKET_STATISTICS, &seen, &size), "PACKET_STATISTICS");
    return {{"received", received_},   {"forwarded", forwarded_}, {"lost", lost_},
            {"held", held_},           {"queue_full", full_},     {"refused", refused_},
            {"missed", seen.tp_drops}, {"largest", largest_}};
  }

 private:
  struct Waiting {
    Clock::time_point due;
    uint64_t number;  // frames that are due together leave in their order
    size_t slot;
    bool operator<(const Waiting& other) const {  // the top of a priority_queue is its largest
      return due != other.due ? due > other.due : number > other.number;
    }
  };

  void prepare(size_t message, size_t slot, size_t size) {
    pieces_[message] = {&slots_[slot * kSlotSize], size};
    messages_[message] = {};
    messages_[message].msg_hdr.msg_iov = &pieces_[message];
    messages_[message].msg_hdr.msg_iovlen = 1;
  }

  void accept(size_t slot, Clock::time_point now) {
    ++received_;
    largest_ = std::max(largest_, sizes_[slot]);
    const Fate::Verdict verdict = fate_.next();
    if (verdict.lost || waiting_.size() >= options_.queue) {
      ++(verdict.lost ? lost_ : full_);
      free_.push_back(slot);
      return;
    }
    if (verdict.held.count() > 0) ++held_;
    const auto wait = std::chrono::duration_cast<Clock::duration>(options_.delay + verdict.held);
    waiting_.push({.due = now + wait, .number = received_, .slot = slot});
  }

  void send(size_t count) {
    for (size_t done = 0; done < count;) {
      const int sent = sendmmsg(to_, &messages_[done], static_cast<unsigned>(count - done), 0);
      if (sent > 0) {
        done += static_cast<size_t>(sent);
        forwarded_ += static_cast<uint64_t>(sent);
      } else {
        ++done;
        ++refused_;
      }
    }
  }

  int from_;
  int to_;
  const Options& options_;
  Fate fate_;
  std::vector<std::byte> slots_;
  std::vector<size_t> sizes_;  // by slot
  std::vector<size_t> free_;   // at least kBatch; the last used comes first, it is in the cache
  std::priority_queue<Waiting> waiting_;
  std::array<iovec, kBatch> pieces_{};
  std::array<mmsghdr, kBatch> messages_{};
  uint64_t received_ = 0;
  uint64_t forwarded_ = 0;
  uint64_t lost_ = 0;
  uint64_t held_ = 0;
  uint64_t full_ = 0;
  uint64_t refused_ = 0;  // by the device
  size_t largest_ = 0;    // bytes of a frame
};

volatile std::sig_atomic_t ended = 0;

void on_signal(int /*number*/) {
  ended = 1;
}

timespec until(Clock::time_point due) {
  const auto left = std::max(due - Clock::now(), Clock::duration::zero());
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  return {.tv_sec = seconds.count(),
          .tv_nsec = std::chrono::duration_cast<std::chrono::nanoseconds>(left - seconds).count()};
}

void relay(int a, int b, Direction& there, Direction& back, const sigset_t& while_waiting) {
  std::array<pollfd, 2> watched{pollfd{a, POLLIN, 0}, pollfd{b, POLLIN, 0}};
  while (ended == 0) {
    const auto never = Clock::time_point::max();
    const auto due = std::min(there.next_due().value_or(never), back.next_due().value_or(never));
    const timespec left = due == never ? timespec{} : until(due);
    // Signals arrive only here, so that none is missed between the test and the wait.
    if (ppoll(watched.data(), 2, due == never ? nullptr : &left, &while_waiting) < 0) continue;
    if ((watched[0].revents & POLLIN) != 0) there.receive();
    if ((watched[1].revents & POLLIN) != 0) back.receive();
    const auto now = Clock::now();
    there.send_due(now);
    back.send_due(now);
  }
}

int usage() {
  std::fputs(
      "usage: lossy_relay [--seed N] [--loss P] [--delay-ms D] [--reorder P] [--hold-ms H]\n"
      "                   [--queue N] DEVICE DEVICE\n",
      stderr);
  return 2;
}

int main(int argc, char** argv) {
  static constexpr std::array<option, 7> kOptions{{{"seed", required_argument, nullptr, 's'},
                                                   {"loss", required_argument, nullptr, 'l'},
                                                   {"delay-ms", required_argument, nullptr, 'd'},
                                                   {"reorder", required_argument, nullptr, 'r'},
                                                   {"hold-ms", required_argument, nullptr, 'h'},
                                                   {"queue", required_argument, nullptr, 'q'},
                                                   {}}};
  Options options;
  for (int key = 0; (key = getopt_long(argc, argv, "", kOptions.data(), nullptr)) != -1;) {
    switch (key) {
      case 's':
        options.seed = std::strtoull(optarg, nullptr, 10);
        break;
      case 'l':
        options.loss = std::atof(optarg);
        break;
      case 'd':
        options.delay = Milliseconds(std::atof(optarg));
        break;
      case 'r':
        options.reorder = std::atof(optarg);
        break;
      case 'h':
        options.hold = Milliseconds(std::atof(optarg));
        break;
      case 'q':
        options.queue = std::strtoull(optarg, nullptr, 10);
        break;
      default:
        return usage();
    }
  }
  if (argc - optind != 2) return usage();
  const UniqueFd a = open_device(argv[optind]);
  const UniqueFd b = open_device(argv[optind + 1]);

  sigset_t ours, while_waiting;
  sigemptyset(&ours);
  for (const int number : {SIGTERM, SIGINT}) {
    sigaddset(&ours, number);
    std::signal(number, on_signal);
  }
  sigprocmask(SIG_BLOCK, &ours, &while_waiting);
  prctl(PR_SET_TIMERSLACK, 1);
  setpriority(PRIO_PROCESS, 0, kPriority);  // where that is not allowed, without

  Direction there(a.get(), b.get(), options, 0), back(b.get(), a.get(), options, 1);
  std::puts("ready");
  std::fflush(stdout);
  relay(a.get(), b.get(), there, back, while_waiting);
  std::puts(nlohmann::ordered_json{{"there", there.counters()}, {"back", back.counters()}}
                .dump()
                .c_str());
  return 0;
}

}  // namespace
}  // namespace culvert::bench

int main(int argc, char** argv) {
  return culvert::bench::main(argc, argv);
}
