// Resolver: a host name to endpoints, in the background.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/address.h"
#include "common/base/result.h"
#include "common/base/unique_function.h"
#include "common/loop/loop.h"

namespace culvert::loop {

// One resolution. Destroying it, also from inside the callback, forgets the answer.
// It runs on a thread of its own: getaddrinfo(3) cannot be cancelled, and libuv's thread pool is
// joined at exit, so that Ctrl-C would hang for as long as an unreachable name server.
class [[nodiscard]] Resolver {
 public:
  using OnDone = UniqueFunction<void(Result<std::vector<Endpoint>>)>;

  // Calls `on_done` later, once, on the loop's thread, with at least one endpoint in the order of
  // preference (RFC 6724) and without duplicates, or with kNetwork. A literal address (without
  // brackets) is answered without asking anybody. REQUIRES: no zone in a literal.
  static Resolver resolve(Loop& loop, std::string host, uint16_t port, OnDone on_done);

  Resolver();  // of nothing, to be assigned to
  Resolver(Resolver&&) noexcept;
  Resolver& operator=(Resolver&&) noexcept;
  ~Resolver();

 private:
  struct Request;
  std::shared_ptr<Request> request_;
};

}  // namespace culvert::loop
