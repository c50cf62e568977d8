// AddressPool: the inside addresses of one family, who has them and who gets them next. Pure.
//
// A user gets back the address that he had last, as long as nobody needed it meanwhile, so that
// logs, firewalls and people can recognise him. The first address of the network is the server's;
// the network's own address and the IPv4 broadcast address are nobody's.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "common/base/address.h"
#include "common/base/result.h"

namespace culvert::server {

class AddressPool {
 public:
  // kUsage if there is no room for a client: IPv4 /30 and IPv6 /126 are the smallest.
  static Result<AddressPool> create(const Prefix& network);

  [[nodiscard]] const Prefix& network() const { return network_; }
  [[nodiscard]] IpAddress server_address() const { return network_.address.plus(1); }

  // The addresses that users have for themselves: take() never gives them to anybody, take_fixed()
  // does. Replaces the earlier set; addresses outside the network are no business of the pool.
  // Who holds one of them at the moment keeps it until release().
  void reserve(const std::unordered_set<IpAddress>& fixed);

  // An address for this user, in use until release(); nothing if the pool is exhausted.
  [[nodiscard]] std::optional<IpAddress> take(std::string_view user);
  // False if the address is in use. An address outside the network can be had as well.
  [[nodiscard]] bool take_fixed(const IpAddress& address);
  // REQUIRES: taken before and not yet released.
  void release(const IpAddress& address, std::string_view user);

  // Somebody has it for himself, see reserve().
  [[nodiscard]] bool is_reserved(const IpAddress& address) const {
    return reserved_.contains(address);
  }
  // `user` had it in an earlier run, later than what was remembered before. Addresses that are not
  // for clients, or have a holder, are overlooked.
  void remember(const IpAddress& address, std::string_view user);

  [[nodiscard]] uint64_t used() const { return in_use_.size(); }
  // Clients that fit; at most 2^64-1 is said, however large the network is.
  [[nodiscard]] uint64_t capacity() const { return last_ - 1; }

 private:
  struct Released {
    IpAddress address;
    std::string user;
  };
  using ReleasedList = std::list<Released>;  // longest free first

  AddressPool(const Prefix& network, uint64_t last) : network_(network), last_(last) {}
  [[nodiscard]] bool is_free(const IpAddress& address) const;
  [[nodiscard]] std::optional<IpAddress> take_own(std::string_view user);
  [[nodiscard]] std::optional<IpAddress> take_fresh();
  [[nodiscard]] std::optional<IpAddress> take_oldest();
  IpAddress reuse(ReleasedList::iterator entry);

  Prefix network_;
  uint64_t last_;       // offset of the last usable address
  uint64_t fresh_ = 2;  // offset of the first address that nobody ever had; 1 is ours
  bool fresh_left_ = true;
  std::unordered_set<IpAddress> in_use_;
  std::unordered_set<IpAddress> reserved_;
  ReleasedList released_;
  std::unordered_map<IpAddress, ReleasedList::iterator> released_at_;
};

}  // namespace culvert::server
