// Limit probe, TCP: two TUNs joined by one TCP connection that carries whole superpackets in 16 KB
// records, as TLS would. What a tunnel over TLS can reach on this machine: see limit_probe.h.
//
//   tcp_limit_probe listen|connect ADDRESS:PORT TUN
//
//   record   length of what is sealed (2 bytes, little-endian), sealed bytes, tag
//   stream   of the sealed bytes: length (4 bytes, little-endian), virtio header, (super)packet; …
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <csignal>
#include <vector>

#include "tests/bench/limit_probe.h"

namespace culvert::bench {
namespace {

constexpr size_t kRecordHeader = 2;
constexpr size_t kMaxSealed = 16320;  // with header and tag less than 16 KB
constexpr size_t kLengthSize = 4;
constexpr size_t kMaxPacket = 66000;         // virtio header and superpacket
constexpr size_t kEnoughQueued = 256 << 10;  // no more is read from the TUN then
constexpr size_t kReadsPerTurn = 32;

// From packets to a stream of records.
class Sender {
 public:
  Sender(int socket, Aead& aead) : socket_(socket), aead_(aead) {
    queue_.resize(2 * kEnoughQueued);
  }

  // Room for one more packet. A packet of `size` bytes is then queued by push(size).
  [[nodiscard]] MutableBytes space() { return MutableBytes(packet_).subspan(kLengthSize); }
  void push(size_t size) {
    const auto length = static_cast<uint32_t>(size);
    std::memcpy(packet_.data(), &length, kLengthSize);
    for (Bytes rest = Bytes(packet_).first(kLengthSize + size); !rest.empty();) {
      const Bytes piece = rest.first(std::min(rest.size(), kMaxSealed));
      seal(piece);
      rest = rest.subspan(piece.size());
    }
  }

  // As much as the socket takes.
  void flush() {
    if (begin_ == end_) return;
    const ssize_t sent = ::send(socket_, queue_.data() + begin_, end_ - begin_, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) fail("send");
    if (sent > 0) begin_ += static_cast<size_t>(sent);
    if (begin_ == end_) begin_ = end_ = 0;
  }

  [[nodiscard]] size_t queued() const { return end_ - begin_; }

 private:
  void seal(Bytes piece) {
    const size_t record = kRecordHeader + piece.size() + Aead::kTagSize;
    if (queue_.size() - end_ < record) queue_.resize(queue_.size() + kEnoughQueued);
    std::byte* const at = queue_.data() + end_;
    const auto length = static_cast<uint16_t>(piece.size());
    std::memcpy(at, &length, kRecordHeader);
    aead_.seal(piece, Bytes(at, kRecordHeader), number_++, at + kRecordHeader);
    end_ += record;
  }

  int socket_;
  Aead& aead_;
  std::vector<std::byte> queue_;
  size_t begin_ = 0;
  size_t end_ = 0;
  uint64_t number_ = 0;
  std::array<std::byte, kLengthSize + kMaxPacket> packet_;
};

// From a stream of records to packets.
class Receiver {
 public:
  Receiver(int socket, int tun, Aead& aead) : socket_(socket), tun_(tun), aead_(aead) {
    received_.resize(1 << 20);
    plain_.resize(2 * kMaxPacket + kMaxSealed);
  }

  // False at the end of the connection.
  bool receive() {
    const ssize_t got =
        ::recv(socket_, received_.data() + received_size_, received_.size() - received_size_, 0);
    if (got < 0 && errno == EAGAIN) return true;
    if (got <= 0) return false;
    received_size_ += static_cast<size_t>(got);
    size_t used = 0;
    while (const size_t record = open_record(Bytes(received_).first(received_size_).subspan(used)))
      used += record;
    received_size_ -= used;
    std::memmove(received_.data(), received_.data() + used, received_size_);
    return true;
  }

 private:
  // The size of the record at the front; 0: it is not whole yet.
  size_t open_record(Bytes bytes) {
    if (bytes.size() < kRecordHeader) return 0;
    uint16_t length = 0;
    std::memcpy(&length, bytes.data(), kRecordHeader);
    const size_t sealed = length + Aead::kTagSize;
    if (bytes.size() - kRecordHeader < sealed) return 0;
    const Bytes header = bytes.first(kRecordHeader);
    if (!aead_.open(bytes.subspan(kRecordHeader, sealed), header, number_++,
                    plain_.data() + plain_size_)) {
      std::fputs("a record does not open\n", stderr);
      std::exit(1);
    }
    plain_size_ += length;
    write_packets();
    return kRecordHeader + sealed;
  }

  void write_packets() {
    size_t used = 0;
    while (plain_size_ - used >= kLengthSize) {
      uint32_t length = 0;
      std::memcpy(&length, plain_.data() + used, kLengthSize);
      if (plain_size_ - used - kLengthSize < length) break;
      // A device that is not up yet says EIO, which loses the packet as any network does.
      if (::write(tun_, plain_.data() + used + kLengthSize, length) < 0 && errno != EIO &&
          errno != EAGAIN) {
        std::perror("write to the TUN");
      }
      used += kLengthSize + length;
    }
    plain_size_ -= used;
    if (used != 0) std::memmove(plain_.data(), plain_.data() + used, plain_size_);
  }

  int socket_;
  int tun_;
  Aead& aead_;
  std::vector<std::byte> received_;
  size_t received_size_ = 0;
  std::vector<std::byte> plain_;
  size_t plain_size_ = 0;
  uint64_t number_ = 0;
};

UniqueFd accept_one(const sockaddr_in& address) {
  const UniqueFd listener(check(socket(AF_INET, SOCK_STREAM, 0), "socket"));
  set_option(listener.get(), SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
  check(bind(listener.get(), generic(address), sizeof address), "bind");
  check(listen(listener.get(), 1), "listen");
  std::puts("ready");
  std::fflush(stdout);
  return UniqueFd(check(accept(listener.get(), nullptr, nullptr), "accept"));
}

UniqueFd connect_to(const sockaddr_in& address) {
  UniqueFd fd(check(socket(AF_INET, SOCK_STREAM, 0), "socket"));
  check(connect(fd.get(), generic(address), sizeof address), "connect");
  std::puts("ready");
  std::fflush(stdout);
  return fd;
}

void run(int socket, int tun) {
  Aead aead;
  Sender sender(socket, aead);
  Receiver receiver(socket, tun, aead);
  Poller poller;
  poller.add(tun, EPOLLIN);
  poller.add(socket, EPOLLIN);
  bool blocked = false;  // the socket is full: the TUN waits
  for (bool open = true; open;) {
    poller.wait([&](int fd, uint32_t events) {
      if (fd == socket) {
        if ((events & ~EPOLLOUT) != 0) open = receiver.receive();
        return;
      }
      for (size_t i = 0; i < kReadsPerTurn && sender.queued() < kEnoughQueued; ++i) {
        const MutableBytes space = sender.space();
        const ssize_t size = ::read(tun, space.data(), space.size());
        if (size <= 0) break;
        sender.push(static_cast<size_t>(size));
      }
    });
    sender.flush();
    if (blocked != (sender.queued() > 0)) {
      blocked = !blocked;
      poller.change(socket, EPOLLIN | (blocked ? EPOLLOUT : 0u));
      poller.change(tun, blocked ? 0u : EPOLLIN);
    }
  }
}

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: tcp_limit_probe listen|connect ADDRESS:PORT TUN\n", stderr);
    return 2;
  }
  const sockaddr_in address = parse_endpoint(argv[2]);
  const UniqueFd tun = open_tun(argv[3]);
  const UniqueFd socket =
      std::string_view(argv[1]) == "listen" ? accept_one(address) : connect_to(address);
  set_option(socket.get(), IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
  make_nonblocking(socket.get());
  run(socket.get(), tun.get());
  return 0;
}

}  // namespace
}  // namespace culvert::bench

int main(int argc, char** argv) {
  return culvert::bench::main(argc, argv);
}
