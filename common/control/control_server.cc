#include "common/control/control_server.h"

#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "common/control/protocol.h"
#include "common/loop/deferred.h"
#include "common/loop/local_socket.h"

namespace culvert::control {

// One client. The server's list owns it; responders have weak references.
struct Responder::Connection {
  std::unique_ptr<loop::LocalStream> stream;
};

struct ControlServer::State : std::enable_shared_from_this<State> {
  using Connection = Responder::Connection;

  State(loop::Loop& loop, Handler request_handler)
      : handler(std::move(request_handler)), sweep(loop, [this] { remove_closed(); }) {}

  void accept(std::unique_ptr<loop::LocalStream> stream);
  void on_line(const std::shared_ptr<Connection>& connection, std::string_view line);
  void remove_closed();

  Handler handler;
  std::vector<std::shared_ptr<Connection>> connections;
  std::vector<std::shared_ptr<Connection>> closed;
  loop::Deferred sweep;  // frees closed connections when none of their calls is on the stack
  std::unique_ptr<loop::LocalServer> listener;
};

void ControlServer::State::accept(std::unique_ptr<loop::LocalStream> stream) {
  auto connection = std::make_shared<Connection>();
  connection->stream = std::move(stream);
  connections.push_back(connection);

  const uid_t peer = connection->stream->peer_uid();
  if (peer != 0 && peer != geteuid()) {
    log::warning("control", "refused a user on the control socket", {{"uid", peer}});
    connection->stream->write_line(encode_error(
        fail(ErrorCode::kPermission, "only root and the program's own user may control it")));
    connection->stream->close_after_write();
  }
  // The server outlives its streams, so they may point back at it.
  const std::weak_ptr<Connection> weak = connection;
  const auto take_line = [this, weak](std::string_view line) {
    if (auto alive = weak.lock()) on_line(alive, line);
  };
  const auto take_close = [this, weak] {
    if (auto alive = weak.lock()) closed.push_back(std::move(alive));
    sweep.arm();
  };
  connection->stream->on_line(take_line, take_close, kMaxRequestLine);
}

void ControlServer::State::on_line(const std::shared_ptr<Connection>& connection,
                                   std::string_view line) {
  connection->stream->pause(true);  // the next request waits for this answer
  Responder responder(connection);
  auto request = parse_request(line);
  if (!request) {
    responder.answer(request.error());
    return;
  }
  log::debug("control", "request", {{"command", request->command}});
  const auto keep = shared_from_this();  // the handler may stop the server
  handler(std::move(*request), std::move(responder));
}

void ControlServer::State::remove_closed() {
  for (const auto& connection : std::exchange(closed, {}))
    connections.erase(std::remove(connections.begin(), connections.end(), connection),
                      connections.end());
}

Responder::Responder(std::weak_ptr<Connection> connection) : connection_(std::move(connection)) {}

Responder::Responder(Responder&& other) noexcept
    : connection_(std::move(other.connection_)), owed_(std::exchange(other.owed_, false)) {}

Responder& Responder::operator=(Responder&& other) noexcept {
  if (this != &other) {
    answer_if_owed();
    connection_ = std::move(other.connection_);
    owed_ = std::exchange(other.owed_, false);
  }
  return *this;
}

Responder::~Responder() {
  answer_if_owed();
}

void Responder::answer(const Result<nlohmann::json>& answer) {
  send(encode_answer(answer));
}

void Responder::answer(const Error& error) {
  send(encode_error(error));
}

void Responder::answer_if_owed() noexcept {
  if (owed_) answer(fail(ErrorCode::kFailure, "the request was dropped without an answer"));
}

void Responder::send(std::string line) {
  assert(owed_);
  owed_ = false;
  const auto connection = connection_.lock();
  if (!connection || !connection->stream) return;
  connection->stream->write_line(std::move(line));
  connection->stream->pause(false);
}

ControlServer::ControlServer(std::shared_ptr<State> state) : state_(std::move(state)) {}

ControlServer::~ControlServer() {
  state_->listener.reset();
  for (const auto& connection : state_->connections)
    connection->stream.reset();
}

Result<std::unique_ptr<ControlServer>> ControlServer::listen(loop::Loop& loop, std::string path,
                                                             mode_t mode, Handler handler) {
  auto state = std::make_shared<State>(loop, std::move(handler));
  auto listener = loop::LocalServer::listen(
      loop, std::move(path), mode, [raw = state.get()](std::unique_ptr<loop::LocalStream> stream) {
        raw->accept(std::move(stream));
      });
  if (!listener) return listener.error();
  state->listener = std::move(*listener);
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(state)));
}

}  // namespace culvert::control
