#include "server/address_pool.h"

#include <cassert>

namespace culvert::server {
namespace {

// Offset of the last address that a client may have.
uint64_t last_usable_offset(const Prefix& network) {
  const unsigned host_bits = network.address.bits() - network.length;
  const uint64_t all_ones = host_bits >= 64 ? UINT64_MAX : (uint64_t{1} << host_bits) - 1;
  return network.address.is_v4() ? all_ones - 1 : all_ones;
}

}  // namespace

Result<AddressPool> AddressPool::create(const Prefix& network) {
  const unsigned host_bits = network.address.bits() - network.length;
  if (host_bits < 2) {
    return fail(ErrorCode::kUsage, "the network is too small for clients", network.to_string(),
                network.address.is_v4() ? "at least a /30" : "at least a /126");
  }
  const Prefix clean = network.network();
  return AddressPool(clean, last_usable_offset(clean));
}

void AddressPool::reserve(const std::unordered_set<IpAddress>& fixed) {
  // What was taken out of the round for its owner comes back to it, at the end of the queue.
  for (const IpAddress& address : reserved_) {
    if (fixed.contains(address) || in_use_.contains(address) || !network_.contains(address)) {
      continue;
    }
    if (!released_at_.contains(address)) {
      released_at_[address] = released_.insert(released_.end(), Released{address, {}});
    }
  }
  reserved_.clear();
  for (const IpAddress& address : fixed) {
    if (network_.contains(address)) reserved_.insert(address);
  }
}

bool AddressPool::is_free(const IpAddress& address) const {
  return !in_use_.contains(address) && !reserved_.contains(address);
}

std::optional<IpAddress> AddressPool::take(std::string_view user) {
  std::optional<IpAddress> address = take_own(user);
  if (!address) address = take_fresh();
  if (!address) address = take_oldest();
  if (address) in_use_.insert(*address);
  return address;
}

bool AddressPool::take_fixed(const IpAddress& address) {
  if (address == server_address() || !in_use_.insert(address).second) return false;
  if (const auto entry = released_at_.find(address); entry != released_at_.end()) {
    reuse(entry->second);
  }
  return true;
}

void AddressPool::release(const IpAddress& address, std::string_view user) {
  const size_t erased = in_use_.erase(address);
  assert(erased == 1);
  static_cast<void>(erased);
  if (!network_.contains(address) || reserved_.contains(address)) return;
  released_at_[address] = released_.insert(released_.end(), Released{address, std::string(user)});
}

void AddressPool::remember(const IpAddress& address, std::string_view user) {
  const bool for_clients = network_.contains(address) && address > server_address() &&
                           address <= network_.address.plus(last_);
  if (!for_clients || !is_free(address) || released_at_.contains(address)) return;
  released_at_[address] = released_.insert(released_.end(), Released{address, std::string(user)});
}

// The one he gave up last.
std::optional<IpAddress> AddressPool::take_own(std::string_view user) {
  for (auto entry = released_.end(); entry != released_.begin();) {
    --entry;
    if (entry->user == user && is_free(entry->address)) return reuse(entry);
  }
  return std::nullopt;
}

std::optional<IpAddress> AddressPool::take_fresh() {
  while (fresh_left_) {
    const IpAddress address = network_.address.plus(fresh_);
    fresh_left_ = fresh_ != last_;
    ++fresh_;
    if (is_free(address) && !released_at_.contains(address)) return address;
  }
  return std::nullopt;
}

std::optional<IpAddress> AddressPool::take_oldest() {
  for (auto entry = released_.begin(); entry != released_.end(); ++entry) {
    if (is_free(entry->address)) return reuse(entry);
  }
  return std::nullopt;
}

IpAddress AddressPool::reuse(ReleasedList::iterator entry) {
  const IpAddress address = entry->address;
  released_at_.erase(address);
  released_.erase(entry);
  return address;
}

}  // namespace culvert::server
