// A channel under test whose peer is the test itself, over a socket pair and real TLS: it sees what
// the channel sends record by record, and sends whatever bytes it likes.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/loop/timer.h"
#include "common/tls/issue.h"
#include "common/tls/peer_policy.h"
#include "common/tunnel/cstp_channel.h"

namespace culvert::tunnel {

using namespace std::chrono_literals;
using tls::TlsSession;
using wire::CstpType;

struct TlsPair {
  std::unique_ptr<TlsSession> server, client;
};

// Certificates are made once: a key costs a millisecond, a handshake three.
class Credentials {
 public:
  Credentials() {
    now_ = wall_now();
    ca_key_ = tls::generate_key().value();
    tls::IssueRequest ca;
    ca.common_name = "Test CA";
    ca.is_ca = true;
    ca.key_pem = &ca_key_;
    ca_ = sign(ca);
    server_ = config(tls::Role::kServer, tls::Purpose::kServerAuth);
    client_ = config(tls::Role::kClient, tls::Purpose::kClientAuth);
  }

  TlsPair handshake() const {
    TlsPair pair{TlsSession::create(server_).value(),
                 TlsSession::create(client_, "vpn.example.com").value()};
    const auto pump = [](TlsSession& from, TlsSession& to) {
      const Bytes out = from.pending_output();
      const std::vector<std::byte> wire(out.begin(), out.end());
      from.consume_output(wire.size());
      if (!wire.empty()) to.feed(wire);
      return to.handshake();
    };
    (void)pair.client->handshake();
    for (int i = 0; i < 10; ++i) {
      (void)pump(*pair.client, *pair.server);
      (void)pump(*pair.server, *pair.client);
    }
    EXPECT_TRUE(pair.client->handshake_done() && pair.server->handshake_done());
    return pair;
  }

 private:
  std::string sign(tls::IssueRequest& request) const {
    request.not_before = now_ - 1h;
    request.not_after = now_ + 24h;
    return tls::issue_certificate(request).value();
  }

  std::shared_ptr<const tls::TlsConfig> config(tls::Role role, tls::Purpose purpose) const {
    tls::TlsOptions options;
    options.role = role;
    options.private_key_pem = tls::generate_key().value();
    tls::IssueRequest request;
    request.common_name = "end entity";
    request.dns_names = {"vpn.example.com"};
    request.purposes = {purpose};
    request.key_pem = &options.private_key_pem;
    request.issuer = tls::Issuer{ca_, &ca_key_};
    options.certificate_chain_pem = sign(request);
    options.trusted_ca_pem = ca_;
    return tls::TlsConfig::build(options).value();
  }

  WallTime now_;
  Secret ca_key_;
  std::string ca_;
  std::shared_ptr<const tls::TlsConfig> server_, client_;
};

inline const Credentials& credentials() {
  static const Credentials instance;
  return instance;
}

struct Recorder final : ChannelObserver {
  void on_packets(Channel& /*channel*/, net::PacketBatch& batch) override {
    received += batch.size();
    for (const MutableBytes packet : batch.packets()) {
      if (count_only) continue;
      packets.emplace_back(packet.begin(), packet.end());
    }
  }
  void on_superpacket(Channel& /*channel*/, const net::VnetHeader& header,
                      MutableBytes packet) override {
    ++received;
    if (count_only) return;
    headers.push_back(header);
    packets.emplace_back(packet.begin(), packet.end());
  }
  void on_alive(Channel& /*channel*/) override { ++alive; }
  void on_switch(Channel& /*channel*/) override { packets_before_switch.push_back(packets.size()); }
  void on_channel_end(Channel& /*channel*/, const ChannelEnd& e) override { end = e; }

  std::vector<std::vector<std::byte>> packets;  // superpackets among them
  std::vector<net::VnetHeader> headers;         // of those
  std::vector<size_t> packets_before_switch;
  size_t received = 0;
  bool count_only = false;
  int alive = 0;
  std::optional<ChannelEnd> end;
};

// A packet of `size` bytes with headroom, of flow `flow`, as IPv4.
struct Packet {
  explicit Packet(size_t size, uint8_t tag = 1) : memory(kChannelHeadroom + size) {
    memory[kChannelHeadroom] = std::byte{0x45};
    if (size > 1) memory.back() = std::byte{tag};
  }
  MutableBytes span() { return MutableBytes(memory).subspan(kChannelHeadroom); }
  std::vector<std::byte> memory;
};

class CstpChannelTest : public testing::Test {
 protected:
  CstpChannelTest() : tls(credentials().handshake()) {
    int fds[2] = {-1, -1};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    ours.reset(fds[0]);
    theirs.reset(fds[1]);
  }

  void open(const CstpOptions& options = {}) {
    channel = std::make_unique<CstpChannel>(loop, scratch, std::move(ours), std::move(tls.server),
                                            options, recorder, counters);
    ASSERT_TRUE(channel->start({}));
  }

  // The other side: sends bytes as one record.
  void peer_sends(std::string_view record) {
    ASSERT_EQ(tls.client->write(as_bytes(record)), TlsSession::Io::kOk);
    peer_flushes();
  }
  void peer_flushes() {
    const Bytes out = tls.client->pending_output();
    ASSERT_EQ(::send(theirs.get(), out.data(), out.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(out.size()));
    tls.client->consume_output(out.size());
  }

  // Everything that the channel has written, record by record.
  std::vector<std::string> peer_reads() {
    std::vector<std::string> records;
    std::vector<std::byte> wire(1U << 20), plain(TlsSession::kMaxRecord);
    for (;;) {
      const ssize_t got = ::recv(theirs.get(), wire.data(), wire.size(), 0);
      if (got <= 0) {
        peer_saw_eof = got == 0;
        return records;
      }
      tls.client->feed(Bytes(wire).first(static_cast<size_t>(got)));
      for (;;) {
        const auto read = tls.client->read(plain);
        if (read.io != TlsSession::Io::kOk) break;
        records.emplace_back(as_text(Bytes(plain).first(read.size)));
      }
    }
  }

  void run_until(const std::function<bool()>& condition, Duration limit = 5s) {
    loop::Timer poll(loop), deadline(loop);
    bool late = false;
    poll.start_repeating(1ms, [&] {
      if (condition()) loop.stop();
    });
    deadline.start(limit, [&] {
      late = true;
      loop.stop();
    });
    loop.run();
    EXPECT_FALSE(late) << "the condition was not met in time";
  }

  static std::string frame(CstpType type, std::string_view payload) {
    std::string out(wire::kCstpHeaderSize, '\0');
    wire::write_cstp_header(std::as_writable_bytes(std::span(out)), type, payload.size());
    return out + std::string(payload);
  }

  TlsPair tls;
  UniqueFd ours, theirs;
  loop::Loop loop;
  ChannelScratch scratch{16U << 10};
  Recorder recorder;
  Counters counters;
  std::unique_ptr<CstpChannel> channel;
  bool peer_saw_eof = false;
};

}  // namespace culvert::tunnel
