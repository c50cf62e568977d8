#include "client/racer.h"

#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "client/tcp_socket.h"

namespace culvert::client {

std::vector<Endpoint> interleaved(const std::vector<Endpoint>& endpoints) {
  std::vector<Endpoint> ordered = endpoints;
  for (size_t i = 1; i < ordered.size(); ++i) {
    const Family before = ordered[i - 1].address.family();
    const auto at = ordered.begin() + static_cast<ptrdiff_t>(i);
    const auto other = std::find_if(
        at, ordered.end(), [&](const Endpoint& e) { return e.address.family() != before; });
    if (other != ordered.end()) std::rotate(at, other, other + 1);
  }
  return ordered;
}

Racer::Racer(loop::Loop& loop, Course course)
    : loop_(loop),
      course_(std::move(course)),
      head_start_(loop),
      begin_(loop, [this] { start_next(); }) {
  begin_.arm();
}

Racer::~Racer() = default;

// One more, as long as there are; those that fail at once are passed over.
void Racer::start_next() {
  while (next_ < course_.endpoints.size()) {
    const Endpoint& endpoint = course_.endpoints[next_];
    const bool first = next_++ == 0;
    course_.on_attempt(endpoint);
    Status started = start(endpoint);
    if (started) {
      if (next_ < course_.endpoints.size())
        head_start_.start(first ? course_.first_head_start : kHeadStart, [this] { start_next(); });
      return;
    }
    // The next socket would not be had for the same reason.
    if (started.error().code != ErrorCode::kNetwork) return lost(started.error());
    errors_.push_back(std::move(started.error()));
  }
  head_start_.stop();
  if (runners_.empty()) lost(summary());
}

Status Racer::start(const Endpoint& endpoint) {
  auto socket = course_.open_socket(endpoint.address.family());
  if (!socket) {
    socket.error().where = endpoint.to_string();
    return std::move(socket.error());
  }
  if (auto connecting = start_connecting(socket->get(), endpoint); !connecting) return connecting;
  const int fd = socket->get();
  auto runner =
      std::make_unique<Runner>(Runner{endpoint, std::move(*socket), loop::Poll(loop_, fd)});
  Runner* const raw = runner.get();
  auto watching =
      raw->poll.start([this, raw](unsigned, int error) { on_ready(*raw, error); }, loop::kWritable);
  if (!watching) return watching;
  runners_.push_back(std::move(runner));
  return {};
}

void Racer::on_ready(Runner& runner, int error) {
  socklen_t length = sizeof error;
  if (error == 0) ::getsockopt(runner.socket.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) {
    return out(runner, fail_errno(ErrorCode::kNetwork, error, "cannot connect",
                                  runner.endpoint.to_string()));
  }
  runner.poll.stop();
  Winner winner{runner.endpoint, std::move(runner.socket)};
  runners_.clear();
  head_start_.stop();
  auto done = std::move(course_.on_done);
  done(std::move(winner));
}

void Racer::out(const Runner& runner, Error error) {
  errors_.push_back(std::move(error));
  runners_.erase(std::find_if(runners_.begin(), runners_.end(),
                              [&](const auto& each) { return each.get() == &runner; }));
  start_next();
}

void Racer::lost(const Error& error) {
  runners_.clear();
  head_start_.stop();
  auto done = std::move(course_.on_done);
  done(error);
}

Error Racer::summary() const {
  if (errors_.size() == 1) return errors_.front();
  std::string all;
  for (const Error& error : errors_)
    all += (all.empty() ? "" : "; ") + error.message();
  return fail(ErrorCode::kNetwork, "no address of the server can be reached: " + all);
}

}  // namespace culvert::client
