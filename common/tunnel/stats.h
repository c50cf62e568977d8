// Counters of one session's data path. Plain numbers, written by one thread; a snapshot is a copy.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace culvert::tunnel {

// Why a packet was not delivered. Drops are counted, never logged one by one.
enum class DropReason : uint8_t {
  kMalformed,      // not a whole IPv4 or IPv6 packet
  kSpoofedSource,  // inner source address is not one of the session's
  kLinkScope,    // link-local, multicast or unspecified source: harmless noise of the peer's kernel
  kNoSession,    // from the TUN, for an address nobody has
  kTooBig,       // larger than a frame may be
  kQueueFull,    // byte bound of the session's queue
  kQueueDelay,   // waited too long in the session's queue
  kChannelDown,  // no channel to send on
  kTunBusy,      // the kernel would not take it
  kBadSuperpacket,  // of a peer, beyond the bounds that were agreed on (culvert-protocol(7))
  kCount,
};
constexpr size_t kDropReasonCount = static_cast<size_t>(DropReason::kCount);

[[nodiscard]] constexpr std::string_view name_of(DropReason reason) {
  constexpr std::array<std::string_view, kDropReasonCount> kNames = {
      "malformed",  "spoofed_source", "link_scope",   "no_session", "too_big",
      "queue_full", "queue_delay",    "channel_down", "tun_busy",   "bad_superpacket"};
  return kNames[static_cast<size_t>(reason)];
}

struct Counters {
  uint64_t rx_packets = 0, rx_bytes = 0;  // from the peer, delivered to the TUN
  uint64_t tx_packets = 0, tx_bytes = 0;  // to the peer, sealed
  std::array<uint64_t, kDropReasonCount> drops{};

  void drop(DropReason reason, uint64_t packets = 1) {
    drops[static_cast<size_t>(reason)] += packets;
  }
  [[nodiscard]] uint64_t dropped(DropReason reason) const {
    return drops[static_cast<size_t>(reason)];
  }
};

}  // namespace culvert::tunnel
