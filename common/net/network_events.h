// NetworkEvents: hears from the kernel that links, addresses or routes have changed.
// One object is one socket, which stays in the network namespace it was opened in. Linux:
// rtnetlink(7).
#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace culvert::net {

class NetworkEvents {
 public:
  // What happens to the interface `own_device` (its index; 0: none) is no news.
  // Errors: kFailure, when the kernel gives no socket.
  static Result<NetworkEvents> open(int own_device);

  // Readable when something has come; non-blocking; owned by this.
  [[nodiscard]] int fd() const { return socket_.get(); }

  // Reads all that has come. True if there was news: a link has come, gone, or got or lost its
  // carrier; an address or a route has come or gone; or there was so much that messages were lost.
  // What only says again what was known (life times of addresses, statistics of a radio) is none.
  bool read();

 private:
  NetworkEvents(UniqueFd socket, int own_device)
      : socket_(std::move(socket)), own_device_(own_device), buffer_(kBufferBytes) {}

  static constexpr size_t kBufferBytes = size_t{32} << 10;

  bool is_news(Bytes message);
  bool link_is_news(Bytes message, bool gone);
  bool address_is_news(Bytes message, bool gone);
  [[nodiscard]] bool route_is_news(Bytes message) const;

  UniqueFd socket_;
  int own_device_;
  std::vector<std::byte> buffer_;
  std::map<int, unsigned> links_;    // flags by index, as far as they were heard
  std::set<std::string> addresses_;  // index and address, as far as they were heard
};

// The index of an interface of this name; 0: there is none.
[[nodiscard]] int interface_index(const std::string& name);

}  // namespace culvert::net
