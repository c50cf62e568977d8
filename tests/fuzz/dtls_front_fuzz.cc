// What a server's UDP port does with a datagram of nobody it knows: one verdict each, and never an
// answer that is larger than the question.
#include <memory>

#include "common/loop/loop.h"
#include "common/net/sys.h"
#include "common/net/udp_socket.h"
#include "common/tls/dtls_cookie.h"
#include "common/tunnel/dtls_front.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

namespace {

// Made once. Nothing is sent: what is committed is forgotten with the next flush, to a closed port.
struct Server {
  loop::Loop loop;
  net::KernelSys sys;
  tunnel::DtlsScratch scratch;
  std::unique_ptr<tunnel::DtlsFront> front;

  Server() {
    auto socket = net::UdpSocket::open(sys, {.local = {IpAddress::v4(0x7f000001), 0}});
    require(static_cast<bool>(socket), "a socket on loopback");
    auto made = tunnel::DtlsFront::create(loop, scratch, std::move(*socket),
                                          tls::DtlsCookieKey::generate());
    require(static_cast<bool>(made), "a front");
    front = std::move(*made);
  }
};

uint64_t verdicts(const tunnel::DtlsFront::Stats& stats) {
  return stats.challenged + stats.unknown_app + stats.stray + stats.accepted;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Server server;
  if (size == 0) return 0;
  const Bytes datagram = fuzz::input(data, size);
  const net::UdpPath path{.peer = {IpAddress::v4(0x7f000001), 9}, .local = {}};
  tunnel::DtlsFront& front = *server.front;
  const tunnel::DtlsFront::Stats before = front.stats();
  front.greet(front.port(), path, datagram);
  const tunnel::DtlsFront::Stats& after = front.stats();
  require(verdicts(after) == verdicts(before) + 1, "one verdict for one datagram");
  require(after.accepted == before.accepted, "nobody comes in without a cookie");
  const bool answered = after.challenged > before.challenged;
  require(!answered || size >= tls::kHelloVerifyRequestSize, "no answer larger than its question");
  return 0;
}
