#include "common/net/udp_socket.h"

#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>

namespace culvert::net {
namespace {

constexpr size_t kMaxMessages = 64;  // of one sendmmsg()
constexpr RunLimits kRuns{};
constexpr int kMaxPendingErrors = 8;

// Errors that an ICMP message may have left on a connected socket: they are told to whichever call
// comes next, which then did nothing else. Worth another try, which tells.
bool may_be_pending(int error) {
  return error == EMSGSIZE || error == ECONNREFUSED || error == EHOSTUNREACH ||
         error == ENETUNREACH || error == EHOSTDOWN || error == EPROTO || error == ENOPROTOOPT ||
         error == EACCES;
}

in6_addr as_v6(const IpAddress& address) {
  in6_addr result{};
  const Bytes bytes = address.bytes();
  if (address.is_v4()) result.s6_addr[10] = result.s6_addr[11] = 0xff;
  std::memcpy(result.s6_addr + sizeof result.s6_addr - bytes.size(), bytes.data(), bytes.size());
  return result;
}

// For a socket of IPv6, which knows IPv4 addresses as mapped ones.
sockaddr_in6 as_v6(const Endpoint& endpoint, uint32_t interface) {
  sockaddr_in6 result{};
  result.sin6_family = AF_INET6;
  result.sin6_port = htons(endpoint.port);
  result.sin6_addr = as_v6(endpoint.address);
  result.sin6_scope_id = interface;
  return result;
}

socklen_t to_sockaddr(const Endpoint& endpoint, bool v6, sockaddr_storage& storage) {
  if (!v6) return endpoint.to_sockaddr(storage);
  const sockaddr_in6 name = as_v6(endpoint, 0);
  storage = {};
  std::memcpy(&storage, &name, sizeof name);
  return sizeof name;
}

// Adds a control message behind those that are there. Room for it was planned.
template <typename T>
void add_control(msghdr& header, int level, int type, const T& value) {
  auto* const at = static_cast<std::byte*>(header.msg_control) + header.msg_controllen;
  auto* const control = reinterpret_cast<cmsghdr*>(at);
  control->cmsg_level = level;
  control->cmsg_type = type;
  control->cmsg_len = CMSG_LEN(sizeof value);
  std::memcpy(CMSG_DATA(control), &value, sizeof value);
  header.msg_controllen += CMSG_SPACE(sizeof value);
}

constexpr size_t kSegmentControl = CMSG_SPACE(sizeof(uint16_t));

void count_refusal(int error, const DatagramRun& run, SendOutcome& outcome) {
  outcome.last_error = error;
  if (error == EAGAIN || error == ENOBUFS) {
    outcome.dropped += run.count;
  } else if (error == EMSGSIZE) {
    outcome.too_large += run.count;
    if (outcome.too_large_size == 0 || run.segment_size < outcome.too_large_size) {
      outcome.too_large_size = run.segment_size;
      outcome.too_large_path = run.path;
    }
  } else {
    outcome.failed += run.count;
  }
}

Error cannot_open(int error) {
  return fail_errno(
      ErrorCode::kFailure, error, "cannot open a UDP socket", {},
      error == EAFNOSUPPORT ? "this kernel has no IPv6: listen on an IPv4 address" : "");
}

Error cannot_bind(int error, const Endpoint& local) {
  const bool denied = error == EACCES || error == EPERM;
  std::string hint;
  if (error == EADDRINUSE) hint = "another program has the port: stop it or choose another port";
  if (error == EADDRNOTAVAIL) hint = "no interface has this address";
  if (denied) hint = "ports below 1024 need root or CAP_NET_BIND_SERVICE";
  return fail_errno(denied ? ErrorCode::kPermission : ErrorCode::kFailure, error,
                    "cannot take the UDP port", local.to_string(), std::move(hint));
}

}  // namespace

struct UdpSocket::Outbox {
  struct Control {
    alignas(cmsghdr) std::byte bytes[CMSG_SPACE(sizeof(in6_pktinfo)) + kSegmentControl];
  };
  std::array<DatagramRun, kMaxMessages> runs;
  std::array<mmsghdr, kMaxMessages> messages;
  std::array<sockaddr_storage, kMaxMessages> names;
  std::array<Control, kMaxMessages> controls;
  std::array<iovec, kMaxMessages * kRuns.max_datagrams> pieces;
};

UdpSocket::UdpSocket(Sys& sys, UniqueFd fd, bool v6)
    : sys_(&sys), fd_(std::move(fd)), v6_(v6), outbox_(std::make_unique<Outbox>()) {}
UdpSocket::UdpSocket(UdpSocket&&) noexcept = default;
UdpSocket& UdpSocket::operator=(UdpSocket&&) noexcept = default;
UdpSocket::~UdpSocket() = default;

Result<UdpSocket> UdpSocket::open(Sys& sys, const UdpOptions& options) {
  const bool v6 = options.local.address.is_v6();
  UniqueFd fd(sys.socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return cannot_open(-fd.release());
  UdpSocket socket(sys, std::move(fd), v6);
  if (auto status = socket.equip(options); !status) return status.error();
  if (auto status = socket.take_up(options); !status) return status.error();
  return socket;
}

Result<UdpSocket> UdpSocket::adopt(Sys& sys, UniqueFd fd, const UdpOptions& options) {
  UdpSocket socket(sys, std::move(fd), options.local.address.is_v6());
  if (auto status = socket.take_up(options); !status) return status.error();
  return socket;
}

// What takes privileges, or is better with them.
Status UdpSocket::equip(const UdpOptions& options) {
  if (options.mark) {
    Status marked = set(SOL_SOCKET, SO_MARK, static_cast<int>(*options.mark), "SO_MARK");
    if (!marked) return marked;
  }
  const int bytes = static_cast<int>(options.buffer_bytes);
  if (!try_set(SOL_SOCKET, SO_RCVBUFFORCE, bytes)) (void)try_set(SOL_SOCKET, SO_RCVBUF, bytes);
  if (!try_set(SOL_SOCKET, SO_SNDBUFFORCE, bytes)) (void)try_set(SOL_SOCKET, SO_SNDBUF, bytes);
  return {};
}

Status UdpSocket::take_up(const UdpOptions& options) {
  if (auto status = configure(options); !status) return status;
  sockaddr_storage address;
  const socklen_t length = options.local.to_sockaddr(address);
  const int bound = sys_->bind(fd(), address, length);
  if (bound < 0) return cannot_bind(-bound, options.local);
  read_local();
  return {};
}

// socket(7), SO_ATTACH_REUSEPORT_CBPF: the program sees the payload and gives the socket's number;
// a number that no socket has leaves it to the hash.
bool UdpSocket::steer_by_byte(uint8_t first, uint32_t offset) {
  constexpr uint32_t kNobody = UINT32_MAX;
  std::array<sock_filter, 5> program{{
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, first, 0, 2),
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, offset),
      BPF_STMT(BPF_RET | BPF_A, 0),
      BPF_STMT(BPF_RET | BPF_K, kNobody),
  }};
  const sock_fprog value{program.size(), program.data()};
  return sys_->setsockopt(fd_.get(), SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF,
                          std::as_bytes(std::span(&value, 1))) >= 0;
}

Status UdpSocket::set(int level, int name, int value, const char* what) {
  const int result = sys_->setsockopt(fd_.get(), level, name, std::as_bytes(std::span(&value, 1)));
  if (result >= 0) return {};
  const bool denied = result == -EPERM;
  return fail_errno(denied ? ErrorCode::kPermission : ErrorCode::kFailure, -result,
                    std::string("cannot set up the UDP socket: ") + what, {},
                    denied ? "run as root or with CAP_NET_ADMIN" : "");
}

bool UdpSocket::try_set(int level, int name, int value) {
  return sys_->setsockopt(fd_.get(), level, name, std::as_bytes(std::span(&value, 1))) >= 0;
}

Status UdpSocket::configure(const UdpOptions& options) {
  Status status;
  const auto need = [&](bool wanted, int level, int name, int value, const char* what) {
    if (wanted && status) status = set(level, name, value, what);
  };
  need(v6_, IPPROTO_IPV6, IPV6_V6ONLY, 0, "IPV6_V6ONLY");
  need(options.reuse_port, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
  // A dual-stack socket has one setting for each family.
  need(true, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE, "IP_MTU_DISCOVER");
  need(v6_, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE, "IPV6_MTU_DISCOVER");
  // For IPv4 on a dual-stack socket, the one for IPv6 gives mapped addresses.
  need(options.packet_info && !v6_, IPPROTO_IP, IP_PKTINFO, 1, "IP_PKTINFO");
  need(options.packet_info && v6_, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO");
  if (!status) return status;
  gro_ = options.gro && try_set(IPPROTO_UDP, UDP_GRO, 1);
  // 0 changes nothing, but an older kernel doesn't know the option.
  gso_ = options.gso && try_set(IPPROTO_UDP, UDP_SEGMENT, 0);
  return {};
}

void UdpSocket::read_local() {
  sockaddr_storage address{};
  if (sys_->getsockname(fd_.get(), address) >= 0) local_ = Endpoint::from_sockaddr(address);
}

Status UdpSocket::connect(const Endpoint& peer) {
  assert(v6_ || peer.address.is_v4());
  sockaddr_storage address;
  const socklen_t length = to_sockaddr(peer, v6_, address);
  const int result = sys_->connect(fd_.get(), address, length);
  if (result < 0) {
    return fail_errno(ErrorCode::kNetwork, -result, "cannot reach the peer over UDP",
                      peer.to_string());
  }
  read_local();
  return {};
}

SendOutcome UdpSocket::send(std::span<const OutDatagram> batch, std::span<const UdpPath> paths) {
  SendOutcome outcome;
  while (!batch.empty()) {
    const size_t runs = fill(batch, paths);
    batch = batch.subspan(push(runs, batch, outcome));
  }
  return outcome;
}

// Plans as many runs as one call takes, and writes their messages.
size_t UdpSocket::fill(std::span<const OutDatagram> batch, std::span<const UdpPath> paths) {
  const size_t count = plan_runs(batch, gso_ ? kRuns : kNoRuns, outbox_->runs);
  iovec* piece = outbox_->pieces.data();
  for (size_t i = 0; i < count; ++i) {
    const DatagramRun& run = outbox_->runs[i];
    msghdr& header = outbox_->messages[i].msg_hdr;
    header = {};
    header.msg_iov = piece;
    header.msg_control = outbox_->controls[i].bytes;
    piece = gather(batch.subspan(run.first, run.count), piece);
    header.msg_iovlen = static_cast<size_t>(piece - header.msg_iov);
    if (!paths.empty()) address(header, i, paths[run.path]);
    if (run.count > 1) add_control(header, IPPROTO_UDP, UDP_SEGMENT, run.segment_size);
  }
  return count;
}

// Neighbours in memory become one piece: for datagrams that were made one behind the other, a run
// is one. Returns the place for the next piece.
iovec* UdpSocket::gather(std::span<const OutDatagram> run, iovec* piece) {
  std::byte* end = nullptr;
  for (const OutDatagram& datagram : run) {
    auto* const start = const_cast<std::byte*>(datagram.bytes.data());
    if (end != nullptr && start == end) {
      piece[-1].iov_len += datagram.bytes.size();
    } else {
      *piece++ = {start, datagram.bytes.size()};
    }
    end = start + datagram.bytes.size();
  }
  return piece;
}

void UdpSocket::address(msghdr& header, size_t index, const UdpPath& path) {
  sockaddr_storage& name = outbox_->names[index];
  header.msg_name = &name;
  if (v6_) {
    const sockaddr_in6 peer = as_v6(path.peer, path.interface);
    std::memcpy(&name, &peer, sizeof peer);
    header.msg_namelen = sizeof peer;
  } else {
    header.msg_namelen = path.peer.to_sockaddr(name);
  }
  if (path.local.is_unspecified()) return;
  if (v6_) {
    in6_pktinfo info{};
    info.ipi6_addr = as_v6(path.local);
    info.ipi6_ifindex = path.interface;
    add_control(header, IPPROTO_IPV6, IPV6_PKTINFO, info);
  } else {
    in_pktinfo info{};
    info.ipi_spec_dst.s_addr = htonl(path.local.v4_value());
    info.ipi_ifindex = static_cast<int>(path.interface);
    add_control(header, IPPROTO_IP, IP_PKTINFO, info);
  }
}

// Sends what fill() wrote. Returns how many datagrams of the batch are dealt with: not all of the
// runs' if segmentation was lost on the way, because the rest has to be planned again.
size_t UdpSocket::push(size_t runs, std::span<const OutDatagram> batch, SendOutcome& outcome) {
  const bool segmenting = gso_;
  size_t at = 0;
  while (at < runs && gso_ == segmenting) {
    ++outcome.calls;
    const std::span<mmsghdr> rest = std::span(outbox_->messages).subspan(at, runs - at);
    const int result = sys_->sendmmsg(fd_.get(), rest);
    if (result == -EINTR) continue;
    if (result == -EAGAIN) {
      // Nothing behind it would find room either.
      outcome.dropped += batch.size() - outbox_->runs[at].first;
      outcome.last_error = EAGAIN;
      return batch.size();
    }
    for (int i = 0; i < result; ++i)
      outcome.sent += outbox_->runs[at++].count;
    if (result <= 0) refused(at++, -result, batch, outcome);
  }
  const DatagramRun& last = outbox_->runs[at - 1];
  return last.first + last.count;
}

void UdpSocket::refused(size_t index, int error, std::span<const OutDatagram> batch,
                        SendOutcome& outcome) {
  const DatagramRun& run = outbox_->runs[index];
  // EMSGSIZE, or EINVAL before Linux 6.14: the segments are too large for the device. That says
  // nothing against segmenting, and the single datagrams will tell.
  if (run.count > 1 && (error == EIO || error == EINVAL || error == EMSGSIZE)) {
    if (error == EIO) {
      gso_ = false;
      outcome.gso_lost = true;
    }
    send_singly(index, batch, outcome);
    return;
  }
  if (may_be_pending(error)) error = send_one(outbox_->messages[index], outcome);
  if (error == 0) {
    outcome.sent += run.count;
  } else {
    count_refusal(error, run, outcome);
  }
}

// The datagrams of a run, each with a message of its own.
void UdpSocket::send_singly(size_t index, std::span<const OutDatagram> batch,
                            SendOutcome& outcome) {
  const DatagramRun& run = outbox_->runs[index];
  mmsghdr message = outbox_->messages[index];
  message.msg_hdr.msg_controllen -= kSegmentControl;  // it is the last one
  for (const OutDatagram& datagram : batch.subspan(run.first, run.count)) {
    iovec piece{const_cast<std::byte*>(datagram.bytes.data()), datagram.bytes.size()};
    message.msg_hdr.msg_iov = &piece;
    message.msg_hdr.msg_iovlen = 1;
    const int error = send_one(message, outcome);
    if (error == 0) {
      ++outcome.sent;
      continue;
    }
    const auto size = static_cast<uint16_t>(datagram.bytes.size());
    count_refusal(error, {.count = 1, .segment_size = size, .path = run.path}, outcome);
  }
}

// Returns 0 or the errno.
int UdpSocket::send_one(mmsghdr& message, SendOutcome& outcome) {
  int result = 0;
  do {
    ++outcome.calls;
    result = sys_->sendmmsg(fd_.get(), std::span(&message, 1));
  } while (result == -EINTR);
  return result > 0 ? 0 : -result;
}

ReceiveOutcome UdpSocket::receive(UdpArena& arena) {
  ReceiveOutcome outcome;
  const std::span<mmsghdr> messages = arena.prepare();
  int result = 0;
  int pending = 0;
  do {
    result = sys_->recvmmsg(fd_.get(), messages);
  } while (result == -EINTR || (may_be_pending(-result) && ++pending < kMaxPendingErrors));
  if (result < 0) {
    outcome.drained = result == -EAGAIN;
    outcome.error = outcome.drained ? 0 : -result;
    return outcome;
  }
  const auto count = static_cast<size_t>(result);
  outcome.truncated = arena.take(count);
  outcome.drained = count < messages.size();
  outcome.trains = arena.trains().size();
  for (const UdpTrain& train : arena.trains())
    outcome.bytes += train.bytes.size();
  return outcome;
}

}  // namespace culvert::net
