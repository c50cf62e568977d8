#include "common/tunnel/channel.h"

#include "common/net/gso_split.h"

namespace culvert::tunnel {
namespace {

// No bound: what the TUN gives us was cut for its MTU.
constexpr size_t kAnySize = 65535;

}  // namespace

void Channel::add_superpacket(const net::VnetHeader& header, MutableBytes packet) {
  net::GsoSplitter splitter(header, packet, kAnySize);
  for (MutableBytes next = splitter.next(); !next.empty(); next = splitter.next())
    add(next);
}

}  // namespace culvert::tunnel
