// RouteTable: whose packet is it? Longest prefix to owner, for the data thread. Pure.
//
// One hash table for each prefix length in use, asked from the longest to the shortest: nearly all
// routes are host routes, so that the first question answers. Looking up never allocates, and the
// last destination is remembered, because packets come in flows.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/address.h"
#include "common/base/bytes.h"

namespace culvert::server {

// An address or network as a number: IPv4 in the low 32 bits. Host order.
struct RouteKey {
  uint64_t high = 0;
  uint64_t low = 0;
  friend constexpr bool operator==(const RouteKey&, const RouteKey&) = default;

  // REQUIRES: 4 or 16 bytes, network order.
  static RouteKey of(Bytes address) {
    if (address.size() == 4) return {0, load_be32(address)};
    return {uint64_t{load_be32(address)} << 32 | load_be32(address.subspan(4)),
            uint64_t{load_be32(address.subspan(8))} << 32 | load_be32(address.subspan(12))};
  }
  // Keeps the first `length` of `bits` (32 or 128) bits.
  [[nodiscard]] RouteKey masked(unsigned length, unsigned bits) const {
    const unsigned cleared = bits - length;
    if (cleared == 0) return *this;
    if (cleared >= 128) return {0, 0};
    if (cleared >= 64) return {high >> (cleared - 64) << (cleared - 64), 0};
    return {high, low >> cleared << cleared};
  }
  // Keys are our own pools and networks, never chosen by a peer: mixing is enough.
  [[nodiscard]] uint64_t hash() const {
    uint64_t mixed = (high ^ (low * 0x9e3779b97f4a7c15U)) * 0xbf58476d1ce4e5b9U;
    mixed ^= mixed >> 31;
    return mixed * 0x94d049bb133111ebU;
  }
};

// Open addressing with linear probing; erasing shifts back, so that no tombstones gather.
template <typename Owner>
class RouteMap {
 public:
  [[nodiscard]] const Owner* find(const RouteKey& key) const {
    if (size_ == 0) return nullptr;
    for (size_t at = home(key);; at = next(at)) {
      if (!slots_[at].used) return nullptr;
      if (slots_[at].key == key) return &slots_[at].owner;
    }
  }

  // REQUIRES: the key is absent.
  void insert(const RouteKey& key, Owner owner) {
    if ((size_ + 1) * 2 > slots_.size()) grow();
    place(key, std::move(owner));
    ++size_;
  }

  bool erase(const RouteKey& key) {
    if (size_ == 0) return false;
    size_t at = home(key);
    while (slots_[at].used && slots_[at].key != key)
      at = next(at);
    if (!slots_[at].used) return false;
    close_gap(at);
    --size_;
    return true;
  }

  [[nodiscard]] size_t size() const { return size_; }

 private:
  struct Slot {
    RouteKey key;
    Owner owner{};
    bool used = false;
  };

  [[nodiscard]] size_t home(const RouteKey& key) const {
    return static_cast<size_t>(key.hash() >> 32) & (slots_.size() - 1);
  }
  [[nodiscard]] size_t next(size_t at) const { return (at + 1) & (slots_.size() - 1); }

  void place(const RouteKey& key, Owner owner) {
    size_t at = home(key);
    while (slots_[at].used)
      at = next(at);
    slots_[at] = Slot{key, std::move(owner), true};
  }

  void grow() {
    std::vector<Slot> old = std::exchange(slots_, {});
    slots_.resize(old.empty() ? 16 : old.size() * 2);
    for (Slot& slot : old) {
      if (slot.used) place(slot.key, std::move(slot.owner));
    }
  }

  // Moves back whatever may not stand behind the gap (Knuth 6.4, algorithm R).
  void close_gap(size_t gap) {
    slots_[gap] = Slot{};
    for (size_t at = next(gap); slots_[at].used; at = next(at)) {
      const size_t wants = home(slots_[at].key);
      const bool reachable =
          gap <= at ? (gap < wants && wants <= at) : (gap < wants || wants <= at);
      if (reachable) continue;
      slots_[gap] = std::exchange(slots_[at], Slot{});
      gap = at;
    }
  }

  std::vector<Slot> slots_;  // a power of two, at most half full
  size_t size_ = 0;
};

// Owner: a small value that is cheap to copy and compare (a pointer, an id); Owner{} is nobody.
template <typename Owner>
class RouteTable {
 public:
  // False (and nothing changed) if the network belongs to another owner already. Host bits of the
  // prefix are ignored; inserting a route twice is fine.
  bool insert(const Prefix& prefix, Owner owner) {
    last_.reset();
    Level& level = level_for(prefix);
    const RouteKey key = level.key_of(prefix.address.bytes());
    if (const Owner* present = level.routes.find(key)) return *present == owner;
    level.routes.insert(key, std::move(owner));
    ++size_;
    return true;
  }

  // False if there was no such route.
  bool erase(const Prefix& prefix) {
    last_.reset();
    Levels& levels = levels_of(prefix.address.family());
    for (auto level = levels.begin(); level != levels.end(); ++level) {
      if (level->length != prefix.length) continue;
      if (!level->routes.erase(level->key_of(prefix.address.bytes()))) return false;
      if (level->routes.size() == 0) levels.erase(level);
      --size_;
      return true;
    }
    return false;
  }

  // The owner of the longest prefix that holds the address; Owner{} if nobody does.
  // REQUIRES: 4 or 16 bytes, network order.
  [[nodiscard]] Owner find(Bytes address) {
    const bool v4 = address.size() == 4;
    const RouteKey key = RouteKey::of(address);
    if (last_ && last_->v4 == v4 && last_->key == key) return last_->owner;
    const Owner owner = search(levels_[v4 ? 0 : 1], key);
    last_ = Hit{v4, key, owner};
    return owner;
  }
  [[nodiscard]] Owner find(const IpAddress& address) { return find(address.bytes()); }

  [[nodiscard]] size_t size() const { return size_; }

 private:
  struct Level {
    unsigned length;
    unsigned bits;
    RouteMap<Owner> routes;
    [[nodiscard]] RouteKey key_of(Bytes address) const {
      return RouteKey::of(address).masked(length, bits);
    }
  };
  using Levels = std::vector<Level>;  // longest first
  struct Hit {
    bool v4;
    RouteKey key;
    Owner owner;
  };

  static Owner search(const Levels& levels, const RouteKey& key) {
    for (const Level& level : levels) {
      if (const Owner* owner = level.routes.find(key.masked(level.length, level.bits))) {
        return *owner;
      }
    }
    return Owner{};
  }

  Levels& levels_of(Family family) { return levels_[family == Family::kV4 ? 0 : 1]; }

  Level& level_for(const Prefix& prefix) {
    Levels& levels = levels_of(prefix.address.family());
    const auto at = std::find_if(levels.begin(), levels.end(),
                                 [&](const Level& level) { return level.length <= prefix.length; });
    if (at != levels.end() && at->length == prefix.length) return *at;
    return *levels.insert(at, Level{prefix.length, prefix.address.bits(), {}});
  }

  std::array<Levels, 2> levels_;
  std::optional<Hit> last_;
  size_t size_ = 0;
};

}  // namespace culvert::server
