#include "common/loop/resolver.h"

#include <netdb.h>
#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "common/loop/loop_state.h"

namespace culvert::loop {
namespace {

using Answer = Result<std::vector<Endpoint>>;

Error not_resolved(const std::string& host, int code, int errno_value) {
  const std::string what = "cannot resolve the name";
  if (code == EAI_SYSTEM) return fail_errno(ErrorCode::kNetwork, errno_value, what, host);
  return fail(ErrorCode::kNetwork, what + ": " + gai_strerror(code), host);
}

// Blocks for as long as the name servers take.
Answer look_up(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;  // otherwise each address comes once for each type
  addrinfo* list = nullptr;
  const int code = getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (code != 0) return not_resolved(host, code, errno);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list, freeaddrinfo);

  std::vector<Endpoint> endpoints;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_family != AF_INET && entry->ai_family != AF_INET6) continue;
    sockaddr_storage storage{};
    std::copy_n(reinterpret_cast<const std::byte*>(entry->ai_addr), entry->ai_addrlen,
                reinterpret_cast<std::byte*>(&storage));
    Endpoint endpoint = Endpoint::from_sockaddr(storage);
    endpoint.port = port;
    if (std::find(endpoints.begin(), endpoints.end(), endpoint) == endpoints.end())
      endpoints.push_back(endpoint);
  }
  if (endpoints.empty()) return not_resolved(host, EAI_NONAME, 0);
  return endpoints;
}

// The thread inherits the mask: signals belong to the threads that have a loop.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

}  // namespace

struct Resolver::Request {
  OnDone on_done;
};

Resolver::Resolver() = default;
Resolver::Resolver(Resolver&&) noexcept = default;
Resolver& Resolver::operator=(Resolver&&) noexcept = default;
Resolver::~Resolver() = default;

Resolver Resolver::resolve(Loop& loop, std::string host, uint16_t port, OnDone on_done) {
  Resolver resolver;
  resolver.request_ = std::make_shared<Request>(Request{std::move(on_done)});
  // The thread has only a weak reference, so that the request, and what its callback owns, always
  // dies on the loop's thread; and it posts to the mailbox, which may outlive the loop.
  const std::weak_ptr<Request> request = resolver.request_;
  const auto deliver = [request, mailbox = loop.state().mailbox](Answer answer) {
    mailbox->post([request, answer = std::move(answer)]() mutable {
      const auto alive = request.lock();
      if (!alive) return;
      auto done = std::exchange(alive->on_done, nullptr);
      done(std::move(answer));
    });
  };

  if (const auto literal = IpAddress::parse(host)) {
    deliver(std::vector{Endpoint{*literal, port}});
    return resolver;
  }
  try {
    const BlockSignals blocked;
    std::thread([host, port, deliver] { deliver(look_up(host, port)); }).detach();
  } catch (const std::system_error& error) {
    deliver(fail_errno(ErrorCode::kNetwork, error.code().value(), "cannot start a thread", host));
  }
  return resolver;
}

}  // namespace culvert::loop
