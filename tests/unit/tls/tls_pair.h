// Two TlsSessions joined in memory.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/tls/tls_session.h"

namespace culvert::tls {

using Io = TlsSession::Io;

// One end: its session, and the bytes that have arrived for it.
struct End {
  std::unique_ptr<TlsSession> session;
  std::vector<std::byte> fed;  // must live until the session has consumed it

  // Hands over what the other end has sent, unless there is still something to consume.
  bool take_from(End& other) {
    if (!session->unconsumed_input().empty()) return false;
    const Bytes pending = other.session->pending_output();
    if (pending.empty()) return false;
    fed.assign(pending.begin(), pending.end());
    other.session->consume_output(pending.size());
    session->feed(fed);
    return true;
  }
};

struct Pair {
  End client;
  End server;
  Io client_result = Io::kWantRead;
  Io server_result = Io::kWantRead;

  Pair(std::shared_ptr<const TlsConfig> client_config,
       std::shared_ptr<const TlsConfig> server_config, const std::string& name) {
    auto c = TlsSession::create(std::move(client_config), name);
    auto s = TlsSession::create(std::move(server_config));
    EXPECT_TRUE(c.has_value() && s.has_value());
    client.session = std::move(*c);
    server.session = std::move(*s);
  }

  // Until both are done, or one has failed and the other has seen its alert.
  void shake_hands() {
    for (int round = 0; round < 20; ++round) {
      if (client_result == Io::kWantRead) client_result = client.session->handshake();
      const bool to_server = server.take_from(client);
      if (server_result == Io::kWantRead) server_result = server.session->handshake();
      const bool to_client = client.take_from(server);
      if (!to_server && !to_client && round > 0) break;
    }
  }
  [[nodiscard]] bool both_done() const {
    return client_result == Io::kOk && server_result == Io::kOk;
  }

  // One write on `from`, one read on `to`.
  static std::string carry(End& from, End& to, const std::string& text) {
    EXPECT_EQ(Io::kOk, from.session->write(as_bytes(text)));
    to.take_from(from);
    std::vector<std::byte> out(TlsSession::kMaxRecord);
    const auto got = to.session->read(out);
    EXPECT_EQ(Io::kOk, got.io) << to.session->error().message();
    return std::string(as_text(Bytes(out).first(got.size)));
  }
};

}  // namespace culvert::tls
