// ControlServer: the listening end. Reads requests, hands them to one handler, sends its answers.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "common/base/result.h"
#include "common/loop/loop.h"

namespace culvert::control {

struct Request;

// The right, and duty, to answer one request: now or later, exactly once, on the loop's thread. It
// may outlive the connection and the server; the answer is then lost. One that is destroyed without
// an answer sends kFailure, so that nobody waits for ever.
class Responder {
 public:
  Responder(Responder&&) noexcept;
  Responder& operator=(Responder&&) noexcept;
  ~Responder();

  // REQUIRES: not answered yet (a second answer is an assertion).
  void answer(const Result<nlohmann::json>& answer);
  void answer(const Error& error);

 private:
  friend class ControlServer;
  struct Connection;
  explicit Responder(std::weak_ptr<Connection> connection);
  void answer_if_owed() noexcept;
  void send(std::string line);
  std::weak_ptr<Connection> connection_;
  bool owed_ = true;
};

class ControlServer {
 public:
  using Handler = std::function<void(Request, Responder)>;

  // Creates the socket file (loop::LocalServer::listen has the errors). Only root and the user that
  // this process runs as at the time of the connection are listened to, whatever `mode` allows;
  // others get kPermission. A connection's next request waits until the one before is answered.
  static Result<std::unique_ptr<ControlServer>> listen(loop::Loop& loop, std::string path,
                                                       mode_t mode, Handler handler);
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;
  // Closes all connections and removes the socket file. An answer given just before is sent as far
  // as the socket takes it without waiting.
  ~ControlServer();

 private:
  struct State;
  explicit ControlServer(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace culvert::control
