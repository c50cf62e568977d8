// Two DtlsSessions joined in memory by a network that a test can disturb, with a clock that moves
// when nothing else does. Before the server stands the cookie responder, as in a real one.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/tls/dtls_session.h"

namespace culvert::tls {

constexpr size_t kMostOfADatagram = 20000;
using Datagram = std::vector<std::byte>;
using Handshake = DtlsSession::Handshake;
using Opened = DtlsSession::Opened;

inline std::vector<std::byte> bytes_from(const std::string& text) {
  const Bytes bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

inline AppId make_app_id(uint8_t first) {
  AppId id;
  for (size_t i = 0; i < id.size(); ++i)
    id[i] = static_cast<std::byte>(first + i);
  return id;
}

inline Secret make_psk(uint8_t fill) {
  Secret psk(kDtlsPskSize);
  std::fill(psk.bytes().begin(), psk.bytes().end(), std::byte{fill});
  return psk;
}

struct DtlsPairOptions {
  DtlsOptions client;
  DtlsOptions server;
  Secret client_psk = make_psk(1);
  Secret server_psk = make_psk(1);
  uint16_t mtu = 1400;
  std::shared_ptr<const DtlsConfig> shared_server{};  // built from `server`, if at all

  DtlsPairOptions() {
    client.role = Role::kClient;
    server.role = Role::kServer;
  }
  DtlsPairOptions& with_cookies() {
    server.cookie_key = DtlsCookieKey::generate();
    return *this;
  }
  DtlsPairOptions& with_cids() {
    client.cid_size = 0;
    server.cid_size = kServerCidSize;
    return *this;
  }
};

struct DtlsPair {
  // What becomes of a datagram: how many copies of it arrive. Counted from 0 for each direction.
  using Fate = std::function<int(bool to_server, int number, const Datagram& datagram)>;

  explicit DtlsPair(DtlsPairOptions options = {}) {
    if (options.server.cookie_key) {
      responder = std::move(*DtlsCookieResponder::create(options.server.cookie_key));
    }
    client = make(build(options.client), std::move(options.client_psk), options.mtu, {});
    auto config = options.shared_server ? options.shared_server : build(options.server);
    server = make(std::move(config), std::move(options.server_psk), options.mtu, address);
  }

  static std::shared_ptr<const DtlsConfig> build(const DtlsOptions& options) {
    auto config = DtlsConfig::build(options);
    EXPECT_TRUE(config.has_value()) << (config ? "" : config.error().message());
    return config ? *config : nullptr;
  }
  std::unique_ptr<DtlsSession> make(std::shared_ptr<const DtlsConfig> config, Secret psk,
                                    uint16_t mtu, const std::vector<std::byte>& transport_id) {
    const DtlsOptions& options = config->options();
    DtlsSessionOptions session;
    session.psk = std::move(psk);
    session.app_id = app_id;
    session.transport_id = transport_id;
    session.mtu = mtu;
    session.own_cid.assign(options.cid_size.value_or(0),
                           options.role == Role::kServer ? std::byte{0xc5} : std::byte{0xcc});
    auto made = DtlsSession::create(std::move(config), std::move(session));
    EXPECT_TRUE(made.has_value()) << (made ? "" : made.error().message());
    return made ? std::move(*made) : nullptr;
  }

  // Both to the end, or until nothing moves any more.
  void shake_hands() {
    client_state = client->handshake(now);
    for (int round = 0; round < 1000; ++round) {
      collect();
      if (!deliver_one() && !let_time_pass()) return;
    }
    ADD_FAILURE() << "the handshake does not end";
  }
  [[nodiscard]] bool both_done() const {
    return client_state == Handshake::kDone && server_state == Handshake::kDone;
  }

  // Seals on one side; the datagram.
  static Datagram seal(DtlsSession& from, const std::string& text) {
    Datagram record(text.size() + DtlsSession::kMaxExpansion);
    record.resize(from.seal(as_bytes(text), record));
    EXPECT_FALSE(record.empty());
    EXPECT_EQ(text.size() + from.expansion(), record.size());
    return record;
  }
  struct Text {
    Opened what;
    bool newest;
    std::string text;
  };
  static Text open(DtlsSession& to, Bytes datagram) {
    Datagram used_up(datagram.begin(), datagram.end());
    Datagram out(kMostOfADatagram);
    const auto opened = to.open(used_up, out);
    return {opened.what, opened.newest, std::string(as_text(opened.plaintext))};
  }
  static std::string carry(DtlsSession& from, DtlsSession& to, const std::string& text) {
    const Text got = open(to, seal(from, text));
    EXPECT_EQ(Opened::kOk, got.what);
    return got.text;
  }

  // Takes what both sides want to send and decides its fate.
  void collect() {
    collect(*client, true);
    collect(*server, false);
  }

  std::unique_ptr<DtlsSession> client;
  std::unique_ptr<DtlsSession> server;
  std::unique_ptr<DtlsCookieResponder> responder;
  Handshake client_state = Handshake::kWaiting;
  Handshake server_state = Handshake::kWaiting;
  TimePoint now{std::chrono::hours(5)};
  Fate fate = [](bool, int, const Datagram&) { return 1; };
  bool newest_first = false;  // the network delivers backwards
  int cookies_sent = 0;
  int waits = 0;  // how often nothing moved and a timer had to
  const AppId app_id = make_app_id(0x40);
  const std::vector<std::byte> address = bytes_from("192.0.2.1:4711");

 private:
  struct Flight {
    bool to_server;
    Datagram datagram;
  };

  void collect(DtlsSession& from, bool to_server) {
    for (; !from.output().empty(); from.pop_output()) {
      send(to_server, Datagram(from.output().begin(), from.output().end()));
    }
  }
  void send(bool to_server, const Datagram& datagram) {
    const int number = to_server ? to_server_count_++ : to_client_count_++;
    for (int copies = fate(to_server, number, datagram); copies > 0; --copies)
      wire_.push_back({to_server, datagram});
  }
  bool deliver_one() {
    if (wire_.empty()) return false;
    const Flight flight = newest_first ? wire_.back() : wire_.front();
    newest_first ? wire_.pop_back() : wire_.pop_front();
    if (!flight.to_server) {
      arrive(*client, client_state, flight.datagram);
    } else if (!cookie_needed(flight.datagram)) {
      arrive(*server, server_state, flight.datagram);
    }
    return true;
  }
  void arrive(DtlsSession& at, Handshake& state, Bytes datagram) const {
    if (state == Handshake::kWaiting) {
      state = at.handshake(now, datagram);
      return;
    }
    if (state == Handshake::kFailed) return;
    const Opened opened = open(at, datagram).what;
    EXPECT_NE(Opened::kOk, opened);
    if (opened == Opened::kFailed) state = Handshake::kFailed;  // the other side has and says so
  }
  bool cookie_needed(Bytes datagram) {
    if (!responder || server->deadline() || server_state != Handshake::kWaiting) return false;
    const auto hello = parse_client_hello(datagram);
    if (!hello || responder->proves_address(*hello, address, now)) return false;
    Datagram out(kHelloVerifyRequestSize);
    const MutableBytes answer = responder->answer(*hello, address, now, out);
    EXPECT_LT(answer.size(), datagram.size());
    ++cookies_sent;
    send(false, Datagram(answer.begin(), answer.end()));
    return true;
  }
  // To the next deadline; false if there is none.
  bool let_time_pass() {
    std::optional<TimePoint> next = client->deadline();
    if (server->deadline() && (!next || *server->deadline() < *next)) next = server->deadline();
    if (!next) return false;
    ++waits;
    now = *next;
    if (client_state == Handshake::kWaiting) client_state = client->on_timeout(now);
    if (server_state == Handshake::kWaiting) server_state = server->on_timeout(now);
    return true;
  }

  std::deque<Flight> wire_;
  int to_server_count_ = 0;
  int to_client_count_ = 0;
};

inline void expect_both_ways(DtlsPair& pair) {
  EXPECT_EQ("up", DtlsPair::carry(*pair.client, *pair.server, "up"));
  EXPECT_EQ("down", DtlsPair::carry(*pair.server, *pair.client, "down"));
}

}  // namespace culvert::tls
