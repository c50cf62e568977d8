// udp_blast: offers numbered UDP datagrams as fast as it can, or at a given rate, and counts what
// arrives. iperf3 makes a system call per datagram, which is slower than what is measured here.
//
//   udp_blast receive PORT SECONDS
//       Prints "ready", then counts until its standard input has ended and nothing has come for a
//       while, then prints one line of JSON: "received" in all, "in_time" within SECONDS of the
//       first datagram, "reordered".
//   udp_blast send ADDRESS PORT PAYLOAD RATE SECONDS [TRAIN]
//       RATE datagrams a second of PAYLOAD bytes (16 or more); 0: as fast as possible. With TRAIN
//       (2 to 64) that many leave as one UDP_SEGMENT train, as QUIC senders do. Prints "offered"
//       and "seconds" as JSON. What a full queue refuses counts as offered: it was lost; so does
//       what is sent while there is no way to the receiver.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

namespace culvert::bench {
namespace {

constexpr size_t kBatch = 64;  // datagrams a system call
constexpr size_t kNumberSize = sizeof(uint64_t);
constexpr size_t kMinPayload = 16;
constexpr size_t kMaxPayload = 65507;
constexpr int kReceiveBuffer = 16 << 20;
constexpr int kSilenceMs = 200;  // what is still on its way then is lost
// At a given rate, datagrams leave in small bursts: the timer of a sleep is no better than this.
constexpr std::chrono::microseconds kPace(100);

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

int check(int result, const char* what) {
  if (result < 0) {
    std::perror(what);
    std::exit(1);
  }
  return result;
}

// --- Receiving.

// Datagrams cut off after their number: the rest of them is of no interest.
class Inbox {
 public:
  Inbox() {
    for (size_t i = 0; i < kBatch; ++i) {
      pieces_[i] = {&numbers_[i], kNumberSize};
      messages_[i].msg_hdr.msg_iov = &pieces_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }
  // The numbers of what was waiting.
  size_t receive(int fd) {
    const int got = recvmmsg(fd, messages_.data(), kBatch, MSG_DONTWAIT, nullptr);
    return got > 0 ? static_cast<size_t>(got) : 0;
  }
  [[nodiscard]] uint64_t number(size_t i) const { return numbers_[i]; }

 private:
  std::array<uint64_t, kBatch> numbers_{};
  std::array<iovec, kBatch> pieces_{};
  std::array<mmsghdr, kBatch> messages_{};
};

class Tally {
 public:
  explicit Tally(Seconds window) : window_(window) {}

  void add(uint64_t number, Clock::time_point now) {
    if (received_++ == 0) first_ = now;
    if (now - first_ < window_) ++in_time_;
    if (number < highest_) {
      ++reordered_;
    } else {
      highest_ = number;
    }
  }
  void print() const {
    std::printf("{\"received\": %zu, \"in_time\": %zu, \"reordered\": %zu}\n", received_, in_time_,
                reordered_);
  }

 private:
  Seconds window_;
  Clock::time_point first_;
  uint64_t highest_ = 0;
  size_t received_ = 0;
  size_t in_time_ = 0;
  size_t reordered_ = 0;
};

int receive(uint16_t port, Seconds window) {
  const int fd = check(socket(AF_INET6, SOCK_DGRAM, 0), "socket");
  check(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof kReceiveBuffer),
        "SO_RCVBUFFORCE");
  sockaddr_in6 local{};
  local.sin6_family = AF_INET6;
  local.sin6_port = htons(port);
  check(bind(fd, reinterpret_cast<sockaddr*>(&local), sizeof local), "bind");
  std::puts("ready");
  std::fflush(stdout);

  Inbox inbox;
  Tally tally(window);
  std::array<pollfd, 2> watched{pollfd{fd, POLLIN, 0}, pollfd{STDIN_FILENO, POLLIN, 0}};
  for (bool ending = false;;) {
    const int ready = check(poll(watched.data(), ending ? 1 : 2, ending ? kSilenceMs : -1), "poll");
    if (ending && ready == 0) break;
    ending = ending || watched[1].revents != 0;
    while (const size_t count = inbox.receive(fd)) {
      const auto now = Clock::now();
      for (size_t i = 0; i < count; ++i)
        tally.add(inbox.number(i), now);
    }
  }
  tally.print();
  return 0;
}

// --- Sending.

struct Offer {
  size_t payload;
  double rate;  // 0: no limit
  Seconds duration;
  size_t train;  // datagrams a UDP_SEGMENT send; 1: without
};

bool is_loss(int error) {
  return error == ENOBUFS || error == EAGAIN || error == ECONNREFUSED || error == ENETUNREACH ||
         error == EHOSTUNREACH;
}

class Outbox {
 public:
  Outbox(int fd, const Offer& offer)
      : fd_(fd), offer_(offer), per_message_(std::min(offer.train, kMaxPayload / offer.payload)) {
    bytes_.resize(kBatch * per_message_ * offer.payload);
    for (size_t i = 0; i < kBatch; ++i) {
      pieces_[i] = {message(i), per_message_ * offer.payload};
      messages_[i].msg_hdr.msg_iov = &pieces_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
    if (per_message_ > 1) {
      const int segment = static_cast<int>(offer.payload);
      check(setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment), "UDP_SEGMENT");
    }
  }

  [[nodiscard]] size_t per_message() const { return per_message_; }

  void send(size_t messages) {
    for (size_t i = 0; i < messages; ++i) {
      for (size_t j = 0; j < per_message_; ++j, ++number_)
        std::memcpy(message(i) + j * offer_.payload, &number_, kNumberSize);
    }
    for (size_t done = 0; done < messages;) {
      const int sent = sendmmsg(fd_, &messages_[done], static_cast<unsigned>(messages - done), 0);
      if (sent < 0 && !is_loss(errno)) check(sent, "sendmmsg");
      done += sent > 0 ? static_cast<size_t>(sent) : 1;
    }
  }

  [[nodiscard]] uint64_t offered() const { return number_; }

 private:
  std::byte* message(size_t i) { return bytes_.data() + i * per_message_ * offer_.payload; }

  int fd_;
  const Offer& offer_;
  size_t per_message_;
  uint64_t number_ = 0;
  std::vector<std::byte> bytes_;
  std::array<iovec, kBatch> pieces_{};
  std::array<mmsghdr, kBatch> messages_{};
};

// How many messages are due now; at least one without a limit.
size_t due(const Outbox& outbox, const Offer& offer, Seconds elapsed) {
  if (offer.rate == 0) return kBatch;
  const double behind = offer.rate * elapsed.count() - static_cast<double>(outbox.offered());
  const double messages = behind / static_cast<double>(outbox.per_message());
  return messages < 1 ? 0 : std::min(static_cast<size_t>(messages), kBatch);
}

void blast(int fd, const Offer& offer) {
  Outbox outbox(fd, offer);
  const auto begin = Clock::now();
  Seconds elapsed{};
  while ((elapsed = Clock::now() - begin) < offer.duration) {
    if (const size_t messages = due(outbox, offer, elapsed)) {
      outbox.send(messages);
    } else {
      std::this_thread::sleep_for(kPace);
    }
  }
  std::printf("{\"offered\": %llu, \"seconds\": %.6f}\n",
              static_cast<unsigned long long>(outbox.offered()), elapsed.count());
}

int connect_to(const char* address, const char* port_text) {
  const uint16_t port = htons(static_cast<uint16_t>(std::atoi(port_text)));
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  v4.sin_family = AF_INET;
  v6.sin6_family = AF_INET6;
  v4.sin_port = v6.sin6_port = port;
  const bool is_v6 = std::string_view(address).find(':') != std::string_view::npos;
  void* const where = is_v6 ? static_cast<void*>(&v6.sin6_addr) : &v4.sin_addr;
  if (inet_pton(is_v6 ? AF_INET6 : AF_INET, address, where) != 1) {
    std::fprintf(stderr, "not an address: %s\n", address);
    std::exit(2);
  }
  const int fd = check(socket(is_v6 ? AF_INET6 : AF_INET, SOCK_DGRAM, 0), "socket");
  const auto* const target =
      is_v6 ? reinterpret_cast<sockaddr*>(&v6) : reinterpret_cast<sockaddr*>(&v4);
  check(connect(fd, target, is_v6 ? sizeof v6 : sizeof v4), "connect");
  return fd;
}

int usage() {
  std::fputs(
      "usage: udp_blast receive PORT SECONDS\n"
      "       udp_blast send ADDRESS PORT PAYLOAD RATE SECONDS [TRAIN]\n",
      stderr);
  return 2;
}

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "receive" && argc == 4)
    return receive(static_cast<uint16_t>(std::atoi(argv[2])), Seconds(std::atof(argv[3])));
  if (what != "send" || argc < 7 || argc > 8) return usage();
  const Offer offer{.payload = static_cast<size_t>(std::atoi(argv[4])),
                    .rate = std::atof(argv[5]),
                    .duration = Seconds(std::atof(argv[6])),
                    .train = argc == 8 ? static_cast<size_t>(std::atoi(argv[7])) : 1};
  if (offer.payload < kMinPayload || offer.payload > kMaxPayload || offer.train < 1 ||
      offer.train > 64) {
    return usage();
  }
  blast(connect_to(argv[2], argv[3]), offer);
  return 0;
}

}  // namespace
}  // namespace culvert::bench

int main(int argc, char** argv) {
  return culvert::bench::main(argc, argv);
}
