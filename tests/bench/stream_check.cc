// stream_check: do bytes arrive as they were sent? Sends pseudo-random data that the other side can
// make by itself, in TCP streams and, beside them, a flow of UDP datagrams; every byte is compared.
// Says how fast it was and how long the longest silence, too.
//
//   stream_check receive PORT STREAMS
//       Prints "ready", takes that many TCP streams, and datagrams for as long as one of them
//       lasts. Prints what arrived as one line of JSON; exit code 1 if a byte is wrong or missing,
//       or a datagram wrong or there twice. Lost datagrams are no error.
//   stream_check send ADDRESS PORT STREAMS BYTES SECONDS RATE SEED [CONGESTION]
//       Sends until each stream has carried its share of BYTES, or, if SECONDS is not 0, for so
//       long or until SIGTERM. RATE datagrams a second (0: none), of all sizes, every second group
//       of them as one UDP_SEGMENT train. CONGESTION: of TCP. Prints what was sent as one line of
//       JSON.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include "common/base/unique_fd.h"

namespace culvert::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
using Json = nlohmann::ordered_json;

constexpr size_t kWord = sizeof(uint64_t);
constexpr size_t kChunk = 256 << 10;  // bytes a system call; a multiple of kWord
constexpr int kUdpBuffer = 16 << 20;
constexpr int kSilenceMs = 500;     // datagrams that are still on their way then are lost
constexpr int kGiveUpSeconds = 60;  // a stream that is silent for so long has stalled for good

// Groups of datagrams of one size. Trains stay below what the narrowest path takes (1,280 bytes
// with IPv6 and UDP headers), single datagrams may be larger: the kernel cuts those.
constexpr uint64_t kGroup = 8;
constexpr size_t kMinDatagram = 2 * kWord;
constexpr size_t kMaxTrainDatagram = 1200;
constexpr size_t kMaxDatagram = 4000;

std::atomic<bool> stopped = false;

int check(int result, const char* what) {
  if (result < 0) {
    std::perror(what);
    std::exit(1);
  }
  return result;
}

// --- The data. Word n of a sequence is SplitMix64's n-th, so that it can be made from any place.

constexpr uint64_t word_at(uint64_t seed, uint64_t n) {
  uint64_t x = seed + (n + 1) * 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

class Sequence {
 public:
  explicit Sequence(uint64_t seed) : seed_(seed), words_(kChunk / kWord + 2) {}

  // `size` bytes from byte `offset` on; valid until the next call. REQUIRES: size <= kChunk.
  const std::byte* at(uint64_t offset, size_t size) {
    const uint64_t first = offset / kWord;
    const size_t before = offset % kWord;
    const size_t count = (before + size + kWord - 1) / kWord;
    for (size_t i = 0; i < count; ++i)
      words_[i] = word_at(seed_, first + i);
    return reinterpret_cast<const std::byte*>(words_.data()) + before;
  }

 private:
  uint64_t seed_;
  std::vector<uint64_t> words_;
};

// Datagram `number`: its number, the flow's seed, then the sequence of both.
bool is_train(uint64_t number) {
  return number / kGroup % 2 == 1;
}

size_t datagram_size(uint64_t seed, uint64_t number) {
  const uint64_t group = number / kGroup;
  const uint64_t draw = word_at(seed, group);
  const size_t most = group % 16 == 0 ? kMaxDatagram : kMaxTrainDatagram;
  return kMinDatagram + draw % (most - kMinDatagram + 1);
}

void make_datagram(uint64_t seed, uint64_t number, std::byte* out, size_t size) {
  const std::array<uint64_t, 2> head{number, seed};
  std::memcpy(out, head.data(), kMinDatagram);
  for (size_t at = kMinDatagram; at < size; at += kWord) {
    const uint64_t word = word_at(seed ^ number, at);
    std::memcpy(out + at, &word, std::min(kWord, size - at));
  }
}

// What a stream begins with.
struct Hello {
  uint64_t seed;
  uint64_t bytes;  // 0: until it ends
};

// --- Receiving.

// When bytes came: the longest time without is what a person calls a stall.
class Arrivals {
 public:
  void note(size_t bytes) {
    const auto now = Clock::now();
    if (bytes_ == 0)
      first_ = now;
    else
      longest_gap_ = std::max<Seconds>(longest_gap_, now - last_);
    last_ = now;
    bytes_ += bytes;
  }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  [[nodiscard]] Seconds longest_gap() const { return longest_gap_; }
  [[nodiscard]] Seconds duration() const { return last_ - first_; }

 private:
  Clock::time_point first_, last_;
  Seconds longest_gap_{0};
  uint64_t bytes_ = 0;
};

struct StreamReport {
  Arrivals arrivals;
  uint64_t promised = 0;
  std::optional<uint64_t> first_wrong;
  const char* ended = "cut off";

  [[nodiscard]] bool good() const {
    const bool whole = promised == 0 || promised == arrivals.bytes();
    return !first_wrong && whole && std::string_view(ended) == "whole";
  }
  [[nodiscard]] Json json() const {
    return {{"bytes", arrivals.bytes()},
            {"seconds", arrivals.duration().count()},
            {"longest_gap", arrivals.longest_gap().count()},
            {"first_wrong", first_wrong ? Json(*first_wrong) : Json(nullptr)},
            {"ended", good() ? "whole" : ended}};
  }
};

uint64_t first_difference(const std::byte* a, const std::byte* b, size_t size) {
  return static_cast<uint64_t>(std::mismatch(a, a + size, b).first - a);
}

StreamReport receive_stream(UniqueFd fd) {
  StreamReport report;
  const timeval limit{kGiveUpSeconds, 0};
  check(setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), "SO_RCVTIMEO");
  Hello hello{};
  if (recv(fd.get(), &hello, sizeof hello, MSG_WAITALL) != sizeof hello) return report;
  report.promised = hello.bytes;
  Sequence expected(hello.seed);
  std::vector<std::byte> chunk(kChunk);
  for (;;) {
    const ssize_t got = recv(fd.get(), chunk.data(), chunk.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      report.ended = got == 0 ? "whole" : std::strerror(errno);
      return report;
    }
    const auto size = static_cast<size_t>(got);
    const uint64_t offset = report.arrivals.bytes();
    const std::byte* const wanted = expected.at(offset, size);
    if (!report.first_wrong && std::memcmp(chunk.data(), wanted, size) != 0) {
      report.first_wrong = offset + first_difference(chunk.data(), wanted, size);
    }
    report.arrivals.note(size);
  }
}

class Datagrams {
 public:
  void take(const std::byte* data, size_t size) {
    std::array<uint64_t, 2> head{};
    if (size >= kMinDatagram) std::memcpy(head.data(), data, kMinDatagram);
    const auto [number, seed] = head;
    // What was never sent has no place among those that were.
    if (size < kMinDatagram || number >= kMostNumbers || datagram_size(seed, number) != size) {
      ++wrong_;
      return;
    }
    make_datagram(seed, number, expected_.data(), size);
    if (std::memcmp(expected_.data(), data, size) != 0) {
      ++wrong_;
      return;
    }
    if (seen_.size() <= number) seen_.resize(std::max<size_t>(number + 1, 2 * seen_.size()));
    twice_ += seen_[number] ? 1 : 0;
    seen_[number] = true;
    ++right_;
    end_ = std::max(end_, number + 1);
    reordered_ += number + 1 < end_ ? 1 : 0;
  }
  [[nodiscard]] bool good() const { return wrong_ == 0 && twice_ == 0; }
  [[nodiscard]] Json json() const {
    return {{"right", right_},
            {"wrong", wrong_},
            {"twice", twice_},
            {"numbers", end_},
            {"reordered", reordered_}};
  }

 private:
  static constexpr uint64_t kMostNumbers = uint64_t{1} << 32;
  std::array<std::byte, kMaxDatagram> expected_{};
  std::vector<bool> seen_;
  uint64_t right_ = 0;
  uint64_t wrong_ = 0;
  uint64_t twice_ = 0;
  uint64_t reordered_ = 0;
  uint64_t end_ = 0;  // one more than the highest number
};

void receive_datagrams(int fd, const std::atomic<bool>& ending, Datagrams& datagrams) {
  std::array<std::byte, kMaxDatagram + 1> buffer;
  pollfd watched{fd, POLLIN, 0};
  // Once the streams have ended, what comes within the time of silence still counts.
  for (bool last = false;;) {
    last = last || ending;
    if (check(poll(&watched, 1, kSilenceMs), "poll") == 0) {
      if (last) return;
      continue;
    }
    const ssize_t got = recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got >= 0) datagrams.take(buffer.data(), static_cast<size_t>(got));
  }
}

UniqueFd bind_to(int type, uint16_t port) {
  UniqueFd fd(check(socket(AF_INET6, type, 0), "socket"));
  const int on = 1;
  check(setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), "SO_REUSEADDR");
  sockaddr_in6 local{};
  local.sin6_family = AF_INET6;
  local.sin6_port = htons(port);
  check(bind(fd.get(), reinterpret_cast<sockaddr*>(&local), sizeof local), "bind");
  return fd;
}

int receive(uint16_t port, size_t streams) {
  const UniqueFd listener = bind_to(SOCK_STREAM, port);
  const UniqueFd udp = bind_to(SOCK_DGRAM, port);
  check(setsockopt(udp.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kUdpBuffer, sizeof kUdpBuffer),
        "SO_RCVBUFFORCE");
  check(listen(listener.get(), static_cast<int>(streams)), "listen");
  std::puts("ready");
  std::fflush(stdout);

  std::atomic<bool> ending = false;
  Datagrams datagrams;
  std::thread beside([&] { receive_datagrams(udp.get(), ending, datagrams); });
  std::vector<StreamReport> reports(streams);
  std::vector<std::thread> threads;
  for (StreamReport& report : reports) {
    UniqueFd fd(check(accept(listener.get(), nullptr, nullptr), "accept"));
    threads.emplace_back(
        [&report, fd = std::move(fd)]() mutable { report = receive_stream(std::move(fd)); });
  }
  for (std::thread& thread : threads)
    thread.join();
  ending = true;
  beside.join();

  Json lines = Json::array();
  bool good = datagrams.good();
  for (const StreamReport& report : reports) {
    lines.push_back(report.json());
    good = good && report.good();
  }
  std::puts(
      Json{{"good", good}, {"streams", lines}, {"datagrams", datagrams.json()}}.dump().c_str());
  return good ? 0 : 1;
}

// --- Sending.

struct Offer {
  size_t streams = 1;
  uint64_t bytes = 0;  // a stream
  Seconds duration{0};
  double rate = 0;
  uint64_t seed = 1;
  std::string_view congestion;
};

UniqueFd connect_to(const char* address, uint16_t port, int type,
                    std::string_view congestion = {}) {
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  v4.sin_family = AF_INET;
  v6.sin6_family = AF_INET6;
  v4.sin_port = v6.sin6_port = htons(port);
  const bool is_v6 = std::string_view(address).find(':') != std::string_view::npos;
  void* const where = is_v6 ? static_cast<void*>(&v6.sin6_addr) : &v4.sin_addr;
  if (inet_pton(is_v6 ? AF_INET6 : AF_INET, address, where) != 1) {
    std::fprintf(stderr, "not an address: %s\n", address);
    std::exit(2);
  }
  UniqueFd fd(check(socket(is_v6 ? AF_INET6 : AF_INET, type, 0), "socket"));
  if (!congestion.empty()) {
    check(setsockopt(fd.get(), IPPROTO_TCP, TCP_CONGESTION, congestion.data(),
                     static_cast<socklen_t>(congestion.size())),
          "TCP_CONGESTION");
  }
  const auto* const target =
      is_v6 ? reinterpret_cast<sockaddr*>(&v6) : reinterpret_cast<sockaddr*>(&v4);
  check(connect(fd.get(), target, is_v6 ? sizeof v6 : sizeof v4), "connect");
  return fd;
}

// False if the stream broke.
bool send_all(int fd, const std::byte* data, size_t size) {
  while (size > 0) {
    const ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) {
      std::perror("send");
      return false;
    }
    data += sent;
    size -= static_cast<size_t>(sent);
  }
  return true;
}

// Returns the bytes that were sent.
uint64_t send_stream(const UniqueFd& fd, const Offer& offer, uint64_t seed) {
  const timeval limit{kGiveUpSeconds, 0};
  check(setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), "SO_SNDTIMEO");
  const bool timed = offer.duration.count() > 0;
  const Hello hello{.seed = seed, .bytes = timed ? 0 : offer.bytes};
  if (!send_all(fd.get(), reinterpret_cast<const std::byte*>(&hello), sizeof hello)) return 0;
  Sequence sequence(seed);
  const auto begin = Clock::now();
  uint64_t sent = 0;
  while (timed ? !stopped && Clock::now() - begin < offer.duration : sent < offer.bytes) {
    const size_t size = timed ? kChunk : std::min<uint64_t>(kChunk, offer.bytes - sent);
    if (!send_all(fd.get(), sequence.at(sent, size), size)) break;
    sent += size;
  }
  // In a timed run, what still waits here is of no interest: the last of it might take seconds.
  shutdown(fd.get(), SHUT_WR);
  return sent;
}

// Returns how many datagrams were sent.
uint64_t send_datagrams(int fd, double rate, uint64_t seed, const std::atomic<bool>& ending) {
  std::array<std::byte, kGroup * kMaxDatagram> group;
  const auto begin = Clock::now();
  uint64_t number = 0;
  while (!ending) {
    const size_t size = datagram_size(seed, number);
    for (size_t i = 0; i < kGroup; ++i)
      make_datagram(seed, number + i, &group[i * size], size);
    const int segment = is_train(number) ? static_cast<int>(size) : 0;
    check(setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment), "UDP_SEGMENT");
    // What a full queue refuses is lost, as it would be further on.
    if (segment > 0) {
      send(fd, group.data(), kGroup * size, 0);
    } else {
      for (size_t i = 0; i < kGroup; ++i)
        send(fd, &group[i * size], size, 0);
    }
    number += kGroup;
    std::this_thread::sleep_until(begin + Seconds(static_cast<double>(number) / rate));
  }
  return number;
}

int send(const char* address, uint16_t port, const Offer& offer) {
  if (offer.duration.count() > 0) std::signal(SIGTERM, [](int /*number*/) { stopped = true; });
  std::vector<UniqueFd> fds;
  for (size_t i = 0; i < offer.streams; ++i)
    fds.push_back(connect_to(address, port, SOCK_STREAM, offer.congestion));
  const UniqueFd udp = connect_to(address, port, SOCK_DGRAM);
  std::atomic<bool> ending = false;
  uint64_t datagrams = 0;
  std::thread beside([&] {
    if (offer.rate > 0) datagrams = send_datagrams(udp.get(), offer.rate, offer.seed, ending);
  });
  std::vector<uint64_t> sent(offer.streams);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < offer.streams; ++i) {
    threads.emplace_back([&, i] { sent[i] = send_stream(fds[i], offer, word_at(offer.seed, i)); });
  }
  for (std::thread& thread : threads)
    thread.join();
  ending = true;
  beside.join();
  uint64_t all = 0;
  for (const uint64_t bytes : sent)
    all += bytes;
  std::puts(Json{{"bytes", all}, {"datagrams", datagrams}}.dump().c_str());
  const bool whole = offer.duration.count() > 0 || all == offer.bytes * offer.streams;
  return whole ? 0 : 1;
}

int usage() {
  std::fputs(
      "usage: stream_check receive PORT STREAMS\n"
      "       stream_check send ADDRESS PORT STREAMS BYTES SECONDS RATE SEED [CONGESTION]\n",
      stderr);
  return 2;
}

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "receive" && argc == 4) {
    return receive(static_cast<uint16_t>(std::atoi(argv[2])),
                   static_cast<size_t>(std::max(1, std::atoi(argv[3]))));
  }
  if (what != "send" || argc < 9 || argc > 10) return usage();
  Offer offer{.streams = static_cast<size_t>(std::max(1, std::atoi(argv[4]))),
              .duration = Seconds(std::atof(argv[6])),
              .rate = std::atof(argv[7]),
              .seed = std::strtoull(argv[8], nullptr, 10),
              .congestion = argc == 10 ? argv[9] : ""};
  offer.bytes = std::strtoull(argv[5], nullptr, 10) / offer.streams;
  return send(argv[2], static_cast<uint16_t>(std::atoi(argv[3])), offer);
}

}  // namespace
}  // namespace culvert::bench

int main(int argc, char** argv) {
  return culvert::bench::main(argc, argv);
}
