// Limit probe, UDP: two TUNs joined by datagrams. Superpackets are cut up, each packet is sealed as
// one record, records leave in trains (UDP_SEGMENT); trains arrive whole (UDP_GRO), records are
// opened and the packets of a flow merged again. What a tunnel over DTLS can reach on this machine:
// see limit_probe.h. Cuts and merges TCP over IPv4, merges UDP over IPv4 too; the rest goes singly.
//
//   udp_limit_probe LOCAL:PORT PEER:PORT TUN
//
//   record   number (8 bytes, little-endian), sealed packet, tag
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>

#include "tests/bench/limit_probe.h"

namespace culvert::bench {
namespace {

constexpr size_t kRecordHeader = 8;
constexpr size_t kMaxSegments = 64;  // UDP_MAX_SEGMENTS before Linux 6.9
constexpr size_t kMaxTrain = 65000;  // must fit an IP packet
constexpr size_t kMaxSuperpacket = 65000;
constexpr size_t kMaxHeader = 120;   // IPv4 and TCP with all their options
constexpr size_t kMaxPacket = 2048;  // of one record
constexpr size_t kBufferSize = 70000;
constexpr int kTunReadsPerTurn = 64;           // of small packets: a train
constexpr ssize_t kTunBytesPerTurn = 1 << 20;  // or so many superpackets
constexpr int kTrainsPerTurn = 8;
constexpr int kSocketBuffer = 8 << 20;

constexpr size_t kIpLength = 2, kIpId = 4, kIpProtocol = 9, kIpChecksum = 10, kIpAddresses = 12;
constexpr size_t kTcpSeq = 4, kTcpAck = 8, kTcpOffset = 12, kTcpFlags = 13, kTcpChecksum = 16;
constexpr size_t kTcpMinHeader = 20;
constexpr size_t kUdpLength = 4, kUdpChecksum = 6, kUdpHeader = 8;
constexpr unsigned kFin = 1, kPsh = 8, kAck = 16;

// Fields in network order. No checks: the probe believes its peer and its kernel.
uint16_t get16(const std::byte* at) {
  uint16_t value = 0;
  std::memcpy(&value, at, sizeof value);
  return ntohs(value);
}
uint32_t get32(const std::byte* at) {
  uint32_t value = 0;
  std::memcpy(&value, at, sizeof value);
  return ntohl(value);
}
void put16(std::byte* at, size_t value) {
  const uint16_t wire = htons(static_cast<uint16_t>(value));
  std::memcpy(at, &wire, sizeof wire);
}
void put32(std::byte* at, uint32_t value) {
  const uint32_t wire = htonl(value);
  std::memcpy(at, &wire, sizeof wire);
}

// One's-complement sums in the machine's own byte order, which the checksum doesn't mind (RFC 1071
// section 2): it only has to be stored in that order too. Plain enough for the compiler to
// vectorise; not inlined, because GCC 12 then takes narrower vectors in some of the copies.
[[gnu::noinline]] uint64_t sum_of(const std::byte* bytes, size_t size, uint64_t sum = 0) {
  size_t i = 0;
  for (; i + 4 <= size; i += 4) {
    uint32_t word = 0;
    std::memcpy(&word, bytes + i, sizeof word);
    sum += word;
  }
  if (i + 2 <= size) {
    uint16_t word = 0;
    std::memcpy(&word, bytes + i, sizeof word);
    sum += word;
    i += 2;
  }
  if (i < size) sum += std::to_integer<uint64_t>(bytes[i]);
  return sum;
}
uint16_t folded(uint64_t sum) {
  while ((sum >> 16) != 0)
    sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}
void put_sum(std::byte* at, uint16_t sum) {
  std::memcpy(at, &sum, sizeof sum);
}
uint64_t pseudo_sum(const std::byte* ip, uint8_t protocol, size_t length) {
  return sum_of(ip + kIpAddresses, 8) + htons(protocol) + htons(static_cast<uint16_t>(length));
}
void finish_ip(std::byte* ip, size_t header, size_t length) {
  put16(ip + kIpLength, length);
  put_sum(ip + kIpChecksum, 0);
  put_sum(ip + kIpChecksum, static_cast<uint16_t>(~folded(sum_of(ip, header))));
}

// Seals packets into a train and sends it when nothing more fits.
class TrainSender {
 public:
  TrainSender(int socket, Aead& aead) : socket_(socket), aead_(aead) {}

  void add(Bytes packet) {
    const size_t record = kRecordHeader + packet.size() + Aead::kTagSize;
    const bool joins = record <= segment_ && size_ + record <= kMaxTrain && count_ < kMaxSegments;
    if (count_ != 0 && !joins) flush();
    if (count_ == 0) segment_ = record;
    std::byte* const at = train_.data() + size_;
    std::memcpy(at, &number_, kRecordHeader);
    aead_.seal(packet, Bytes(at, kRecordHeader), number_, at + kRecordHeader);
    ++number_;
    ++count_;
    size_ += record;
    if (record < segment_) flush();  // only the last of a train may be shorter
  }

  void flush() {
    if (count_ == 0) return;
    iovec piece{train_.data(), size_};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(uint16_t))> control{};
    if (count_ > 1) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_UDP;
      header->cmsg_type = UDP_SEGMENT;
      header->cmsg_len = CMSG_LEN(sizeof(uint16_t));
      const auto segment = static_cast<uint16_t>(segment_);
      std::memcpy(CMSG_DATA(header), &segment, sizeof segment);
    }
    // What doesn't go out now is lost, as on any network; the peer may not be there yet.
    if (sendmsg(socket_, &message, 0) < 0 && errno != EAGAIN && errno != ECONNREFUSED)
      std::perror("sendmsg");
    size_ = count_ = 0;
  }

 private:
  int socket_;
  Aead& aead_;
  uint64_t number_ = 0;
  size_t segment_ = 0;
  size_t size_ = 0;
  size_t count_ = 0;
  std::array<std::byte, kBufferSize> train_;
};

// From the TUN's superpackets to packets with their own lengths, numbers and checksums.
class Splitter {
 public:
  explicit Splitter(TrainSender& out) : out_(out) {}

  void add(MutableBytes packet, const VnetHeader& header) {
    if (header.gso_type == kGsoNone) {
      if ((header.flags & kNeedsChecksum) != 0) complete(packet, header);
      out_.add(packet);
      return;
    }
    split(packet.data(), packet.size(), header.gso_size);
  }

 private:
  // The field holds the sum over the pseudo-header already.
  static void complete(MutableBytes packet, const VnetHeader& header) {
    const size_t start = header.checksum_start;
    put_sum(packet.data() + start + header.checksum_offset,
            static_cast<uint16_t>(~folded(sum_of(packet.data() + start, packet.size() - start))));
  }

  // In place: each packet's header is written over the end of the payload before it, which has been
  // sealed by then.
  void split(std::byte* packet, size_t size, size_t gso_size) {
    const size_t ip_header = (std::to_integer<size_t>(packet[0]) & 15) * 4;
    const size_t header =
        ip_header + (std::to_integer<size_t>(packet[ip_header + kTcpOffset]) >> 4) * 4;
    std::memcpy(header_.data(), packet, header);
    const uint32_t first_seq = get32(packet + ip_header + kTcpSeq);
    const unsigned first_id = get16(packet + kIpId);
    const auto flags = packet[ip_header + kTcpFlags];
    const size_t payload = size - header;
    unsigned id = first_id;
    for (size_t done = 0; done < payload; done += gso_size) {
      const size_t piece = std::min(gso_size, payload - done);
      std::byte* const ip = packet + done;
      std::byte* const tcp = ip + ip_header;
      std::memcpy(ip, header_.data(), header);
      put16(ip + kIpId, id++);
      finish_ip(ip, ip_header, header + piece);
      put32(tcp + kTcpSeq, first_seq + static_cast<uint32_t>(done));
      if (done + piece < payload) tcp[kTcpFlags] = flags & ~std::byte{kFin | kPsh};
      const size_t length = header - ip_header + piece;
      put_sum(tcp + kTcpChecksum, 0);
      put_sum(
          tcp + kTcpChecksum,
          static_cast<uint16_t>(~folded(sum_of(tcp, length, pseudo_sum(ip, IPPROTO_TCP, length)))));
      out_.add({ip, header + piece});
    }
  }

  TrainSender& out_;
  std::array<std::byte, kMaxHeader> header_;
};

// From packets to superpackets: what continues the one in the making is appended to it.
class Merger {
 public:
  explicit Merger(int tun) : tun_(tun) {}

  void add(Bytes packet) {
    const Shape shape = shape_of(packet);
    if (shape.mergeable && continues(packet, shape)) {
      append(packet, shape);
      return;
    }
    flush();
    std::memcpy(ip(), packet.data(), packet.size());
    size_ = packet.size();
    packets_ = 1;
    first_ = shape;
    next_seq_ = shape.seq + static_cast<uint32_t>(shape.payload);
    if (!shape.mergeable || shape.last) flush();
  }

  void flush() {
    if (packets_ == 0) return;
    VnetHeader header{};
    if (packets_ > 1) finish(header);
    std::memcpy(buffer_.data(), &header, kVnetSize);
    // A device that is not up yet says EIO, which loses the packet as any network does.
    if (::write(tun_, buffer_.data(), kVnetSize + size_) < 0 && errno != EIO)
      std::perror("write to the TUN");
    packets_ = 0;
  }

 private:
  struct Shape {
    bool mergeable = false;  // carries payload, and nothing that would get lost
    bool last = false;       // nothing may follow: PSH
    uint8_t protocol = 0;
    size_t ip_header = 0;
    size_t header = 0;  // IP and transport
    size_t payload = 0;
    uint32_t seq = 0;
  };

  static Shape shape_of(Bytes packet) {
    Shape shape;
    const std::byte* const ip = packet.data();
    if (packet.size() < 28 || std::to_integer<unsigned>(ip[0]) != 0x45) return shape;
    shape.ip_header = 20;
    shape.protocol = std::to_integer<uint8_t>(ip[kIpProtocol]);
    const std::byte* const transport = ip + shape.ip_header;
    unsigned flags = kAck;
    if (shape.protocol == IPPROTO_TCP && packet.size() >= 20 + kTcpMinHeader) {
      shape.header = shape.ip_header + (std::to_integer<size_t>(transport[kTcpOffset]) >> 4) * 4;
      shape.seq = get32(transport + kTcpSeq);
      flags = std::to_integer<unsigned>(transport[kTcpFlags]);
    } else if (shape.protocol == IPPROTO_UDP) {
      shape.header = shape.ip_header + kUdpHeader;
    } else {
      return shape;
    }
    if ((flags & ~kPsh) != kAck || packet.size() <= shape.header) return shape;
    const size_t length = packet.size() - shape.ip_header;
    // A superpacket vouches for the checksums of all its packets.
    if (folded(sum_of(transport, length, pseudo_sum(ip, shape.protocol, length))) != 0xffff)
      return shape;
    shape.payload = packet.size() - shape.header;
    shape.last = (flags & kPsh) != 0;
    shape.mergeable = true;
    return shape;
  }

  [[nodiscard]] bool continues(Bytes packet, const Shape& shape) {
    if (packets_ == 0 || shape.protocol != first_.protocol || shape.header != first_.header ||
        shape.payload > first_.payload || size_ + shape.payload > kMaxSuperpacket) {
      return false;
    }
    const std::byte* const theirs = packet.data();
    const auto equal = [&](size_t from, size_t to) {
      return std::memcmp(ip() + from, theirs + from, to - from) == 0;
    };
    const size_t transport = shape.ip_header;
    if (!equal(kIpAddresses, transport + 4)) return false;  // addresses and ports
    if (shape.protocol == IPPROTO_UDP) return packets_ < kMaxSegments;
    return shape.seq == next_seq_ && equal(transport + kTcpAck, transport + kTcpFlags) &&
           equal(transport + kTcpFlags + 1, transport + kTcpChecksum) &&
           equal(transport + kTcpMinHeader, shape.header);
  }

  void append(Bytes packet, const Shape& shape) {
    std::memcpy(ip() + size_, packet.data() + shape.header, shape.payload);
    size_ += shape.payload;
    next_seq_ += static_cast<uint32_t>(shape.payload);
    ++packets_;
    if (shape.last) ip()[shape.ip_header + kTcpFlags] |= std::byte{kPsh};
    if (shape.last || shape.payload < first_.payload) flush();
  }

  void finish(VnetHeader& header) {
    const bool tcp = first_.protocol == IPPROTO_TCP;
    std::byte* const transport = ip() + first_.ip_header;
    const size_t length = size_ - first_.ip_header;
    const size_t checksum = tcp ? kTcpChecksum : kUdpChecksum;
    finish_ip(ip(), first_.ip_header, size_);
    if (!tcp) put16(transport + kUdpLength, length);
    put_sum(transport + checksum, folded(pseudo_sum(ip(), first_.protocol, length)));
    header.flags = kNeedsChecksum;
    header.gso_type = tcp ? kGsoTcpV4 : kGsoUdpL4;
    header.header_length = static_cast<uint16_t>(first_.header);
    header.gso_size = static_cast<uint16_t>(first_.payload);
    header.checksum_start = static_cast<uint16_t>(first_.ip_header);
    header.checksum_offset = static_cast<uint16_t>(checksum);
  }

  std::byte* ip() { return buffer_.data() + kVnetSize; }

  int tun_;
  Shape first_;
  size_t size_ = 0;
  size_t packets_ = 0;
  uint32_t next_seq_ = 0;
  alignas(64) std::array<std::byte, kBufferSize> buffer_;
};

// Receives trains and opens their records.
class TrainReceiver {
 public:
  TrainReceiver(int socket, Aead& aead, Merger& out) : socket_(socket), aead_(aead), out_(out) {}

  // False if nothing was waiting.
  bool receive() {
    iovec piece{train_.data(), train_.size()};
    msghdr message{};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control;
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = recvmsg(socket_, &message, 0);
    if (got < 0) return errno != EAGAIN;  // ECONNREFUSED: the peer is not there yet
    const auto size = static_cast<size_t>(got);
    const size_t segment = std::max<size_t>(1, segment_size(message, size));
    for (size_t at = 0; at < size; at += segment)
      open(Bytes(train_).subspan(at, std::min(segment, size - at)));
    return true;
  }

 private:
  static size_t segment_size(msghdr& message, size_t otherwise) {
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_UDP || header->cmsg_type != UDP_GRO) continue;
      int size = 0;
      std::memcpy(&size, CMSG_DATA(header), sizeof size);
      return static_cast<size_t>(size);
    }
    return otherwise;
  }

  void open(Bytes record) {
    if (record.size() < kRecordHeader + Aead::kTagSize || record.size() > kMaxPacket) return;
    uint64_t number = 0;
    std::memcpy(&number, record.data(), kRecordHeader);
    if (!aead_.open(record.subspan(kRecordHeader), record.first(kRecordHeader), number,
                    plain_.data())) {
      return;
    }
    out_.add(Bytes(plain_).first(record.size() - kRecordHeader - Aead::kTagSize));
  }

  int socket_;
  Aead& aead_;
  Merger& out_;
  std::array<std::byte, kBufferSize> train_;
  std::array<std::byte, kMaxPacket> plain_;
};

UniqueFd open_socket(const sockaddr_in& local, const sockaddr_in& peer) {
  UniqueFd fd(check(socket(AF_INET, SOCK_DGRAM, 0), "socket"));
  check(bind(fd.get(), generic(local), sizeof local), "bind");
  check(connect(fd.get(), generic(peer), sizeof peer), "connect");
  set_option(fd.get(), SOL_UDP, UDP_GRO, 1, "UDP_GRO");
  set_option(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, kSocketBuffer, "SO_RCVBUFFORCE");
  set_option(fd.get(), SOL_SOCKET, SO_SNDBUFFORCE, kSocketBuffer, "SO_SNDBUFFORCE");
  make_nonblocking(fd.get());
  return fd;
}

void run(int socket, int tun) {
  static Aead aead;
  static TrainSender sender(socket, aead);
  static Splitter splitter(sender);
  static Merger merger(tun);
  static TrainReceiver receiver(socket, aead, merger);
  static std::array<std::byte, kBufferSize> packet;
  Poller poller;
  poller.add(tun, EPOLLIN);
  poller.add(socket, EPOLLIN);
  for (;;) {
    poller.wait([&](int fd, uint32_t) {
      if (fd == socket) {
        for (int i = 0; i < kTrainsPerTurn && receiver.receive(); ++i) {
        }
        merger.flush();
        return;
      }
      ssize_t bytes = 0;
      for (int i = 0; i < kTunReadsPerTurn && bytes < kTunBytesPerTurn; ++i) {
        const ssize_t size = ::read(tun, packet.data(), packet.size());
        if (size <= static_cast<ssize_t>(kVnetSize)) break;
        bytes += size;
        splitter.add(MutableBytes(packet).first(static_cast<size_t>(size)).subspan(kVnetSize),
                     load_vnet(packet.data()));
      }
      sender.flush();
    });
  }
}

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: udp_limit_probe LOCAL:PORT PEER:PORT TUN\n", stderr);
    return 2;
  }
  const UniqueFd tun = open_tun(argv[3]);
  const UniqueFd socket = open_socket(parse_endpoint(argv[1]), parse_endpoint(argv[2]));
  std::puts("ready");
  std::fflush(stdout);
  run(socket.get(), tun.get());
  return 0;
}

}  // namespace
}  // namespace culvert::bench

int main(int argc, char** argv) {
  return culvert::bench::main(argc, argv);
}
