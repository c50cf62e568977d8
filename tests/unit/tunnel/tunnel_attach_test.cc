// Two tunnels joined by real TLS over socket pairs, on one loop; the test is both TUN devices. A
// session moves from one TLS connection to another, and no packet is lost or overtakes another.
#include "common/tunnel/tunnel.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/unit/tunnel/cstp_fixture.h"

namespace culvert::tunnel {
namespace {

using wire::AttachMode;

constexpr SessionId kSession{7};
constexpr wire::CulvertFeatures kFeatures{.packed = true, .roam = true, .rekey = true};

// A TUN device whose other end the test has: packets keep their borders.
class FakeTun final : public net::Sys {
 public:
  FakeTun() {
    int fds[2] = {-1, -1};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    device_.reset(fds[0]);
    host_.reset(fds[1]);
  }
  int open(const char* /*path*/, int /*flags*/) override { return device_.release(); }
  int ioctl(int /*fd*/, unsigned long /*request*/, void* /*argument*/) override { return 0; }
  ssize_t read(int fd, MutableBytes into) override { return kernel_.read(fd, into); }
  ssize_t write(int fd, Bytes from) override { return kernel_.write(fd, from); }
  ssize_t readv(int, std::span<const iovec>) override { return -ENOSYS; }
  ssize_t writev(int, std::span<const iovec>) override { return -ENOSYS; }
  int socket(int, int, int) override { return -ENOSYS; }
  int bind(int, const sockaddr_storage&, socklen_t) override { return -ENOSYS; }
  int connect(int, const sockaddr_storage&, socklen_t) override { return -ENOSYS; }
  int setsockopt(int, int, int, Bytes) override { return -ENOSYS; }
  int getsockname(int, sockaddr_storage&) override { return -ENOSYS; }
  int recvmmsg(int, std::span<mmsghdr>) override { return -ENOSYS; }
  int sendmmsg(int, std::span<mmsghdr>) override { return -ENOSYS; }

  net::TunDevice take() { return net::TunDevice::open(*this, {.name = "tun9"}).value(); }

  // The host sends a packet with this number into the tunnel.
  void send(uint32_t number) {
    std::vector<std::byte> packet(32);
    packet[0] = std::byte{0x45};
    store_be16(MutableBytes(packet).subspan(2), 32);
    packet[9] = std::byte{17};
    store_be16(MutableBytes(packet).subspan(28), static_cast<uint16_t>(number >> 16));
    store_be16(MutableBytes(packet).subspan(30), static_cast<uint16_t>(number & 0xffff));
    ASSERT_EQ(::send(host_.get(), packet.data(), packet.size(), 0), 32);
  }
  // The numbers of the packets that have come out of the tunnel since.
  std::vector<uint32_t> receive() {
    std::vector<uint32_t> numbers;
    std::array<std::byte, 2048> packet;
    while (::recv(host_.get(), packet.data(), packet.size(), 0) == 32) {
      const Bytes number = Bytes(packet).subspan(28, 4);
      numbers.push_back(uint32_t{load_be16(number)} << 16 | load_be16(number.subspan(2)));
    }
    return numbers;
  }

 private:
  net::KernelSys kernel_;
  UniqueFd device_, host_;
};

// One side: its tunnel with one session, and what came out of it.
class Side final : private Router, private TunnelObserver {
 public:
  Side(loop::Loop& loop, bool client) : client_(client), tunnel(loop, tun.take(), *this, *this) {
    EXPECT_TRUE(tunnel.start());
  }

  Status attach(UniqueFd socket, std::unique_ptr<TlsSession> tls, AttachMode mode,
                const wire::CulvertFeatures& features = kFeatures) {
    SessionSpec spec;
    spec.id = kSession;
    spec.client = client_;
    spec.cstp.agree(features, spec.mtu);
    tunnel.open(std::move(spec));
    return tunnel.attach(kSession, std::move(socket), std::move(tls), {}, {}, mode);
  }
  TunnelSession& session() { return *tunnel.find(kSession); }
  std::vector<uint32_t> received() {
    for (const uint32_t number : tun.receive())
      all_.push_back(number);
    return all_;
  }

  std::optional<ChannelEnd> end;  // as told to the observer

 private:
  void route(std::span<const MutableBytes> /*packets*/,
             std::span<TunnelSession*> sessions) override {
    std::fill(sessions.begin(), sessions.end(), tunnel.find(kSession));
  }
  void on_channel_end(TunnelSession& /*session*/, const ChannelEnd& e) override { end = e; }

  bool client_;
  std::vector<uint32_t> all_;

 public:
  FakeTun tun;
  Tunnel tunnel;
};

std::vector<uint32_t> numbers_up_to(uint32_t count) {
  std::vector<uint32_t> numbers(count);
  for (uint32_t i = 0; i < count; ++i)
    numbers[i] = i;
  return numbers;
}

class TunnelAttachTest : public testing::Test {
 protected:
  struct Ends {
    UniqueFd server_socket, client_socket;
    TlsPair tls;
  };
  static Ends connection() {
    int fds[2] = {-1, -1};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    return {UniqueFd(fds[0]), UniqueFd(fds[1]), credentials().handshake()};
  }
  void attach_server(Ends& ends, AttachMode mode) {
    ASSERT_TRUE(server.attach(std::move(ends.server_socket), std::move(ends.tls.server), mode));
  }
  void attach_client(Ends& ends, AttachMode mode) {
    ASSERT_TRUE(client.attach(std::move(ends.client_socket), std::move(ends.tls.client), mode));
  }
  void connect() {
    Ends first = connection();
    attach_server(first, AttachMode::kNone);
    attach_client(first, AttachMode::kNone);
  }
  bool run_until(const std::function<bool()>& condition, Duration limit = 5s) {
    loop::Timer timer(loop);
    const TimePoint end = BootClock::now() + limit;
    timer.start_repeating(1ms, [&] {
      if (condition() || BootClock::now() > end) loop.stop();
    });
    loop.run();
    return condition();
  }
  void send_up(uint32_t count) {
    for (uint32_t i = 0; i < count; ++i)
      client.tun.send(next_up_++);
  }
  void send_down(uint32_t count) {
    for (uint32_t i = 0; i < count; ++i)
      server.tun.send(next_down_++);
  }
  bool all_came() {
    return server.received().size() == next_up_ && client.received().size() == next_down_;
  }

  loop::Loop loop;
  Side server{loop, false}, client{loop, true};
  uint32_t next_up_ = 0, next_down_ = 0;
};

TEST_F(TunnelAttachTest, ARekeyKeepsEveryPacketInItsPlace) {
  connect();
  for (int round = 0; round < 5; ++round) {
    Ends ends = connection();
    send_up(20);
    send_down(20);
    attach_server(ends, AttachMode::kRekey);
    send_down(20);
    ASSERT_TRUE(run_until([&] { return server.received().size() == next_up_; }));
    send_up(20);
    attach_client(ends, AttachMode::kRekey);
    send_up(20);
    send_down(20);
    ASSERT_TRUE(run_until([&] { return all_came(); }));
    ASSERT_TRUE(run_until([&] {
      return !server.session().draining() && !client.session().draining();
    })) << "the old connection stays";
  }
  EXPECT_EQ(server.received(), numbers_up_to(next_up_));
  EXPECT_EQ(client.received(), numbers_up_to(next_down_));
  for (Side* side : {&server, &client}) {
    EXPECT_FALSE(side->end);
    EXPECT_EQ(side->session().counters().dropped(DropReason::kChannelDown), 0U);
  }
  EXPECT_EQ(server.session().counters().tx_packets, next_down_) << "counters go on";
}

TEST_F(TunnelAttachTest, NothingIsTakenFromTheNewConnectionWhileTheOldOneMayHaveMore) {
  connect();
  Ends ends = connection();
  attach_server(ends, AttachMode::kRekey);
  // The client has the new connection, and writes to it before it has said that it does.
  const auto stf = [](std::string_view packet) {
    std::string out(wire::kCstpHeaderSize, '\0');
    wire::write_cstp_header(std::as_writable_bytes(std::span(out)), CstpType::kData, packet.size());
    return out + std::string(packet);
  };
  std::string packet(32, '\0');
  packet[0] = 0x45;
  packet[3] = 32;
  packet[9] = 17;
  packet[31] = 1;
  ASSERT_EQ(ends.tls.client->write(as_bytes(stf(packet))), TlsSession::Io::kOk);
  const Bytes out = ends.tls.client->pending_output();
  ASSERT_EQ(::send(ends.client_socket.get(), out.data(), out.size(), 0),
            static_cast<ssize_t>(out.size()));
  ends.tls.client->consume_output(out.size());
  client.tun.send(0);
  ASSERT_TRUE(run_until([&] { return !server.received().empty(); }));
  EXPECT_FALSE(run_until([&] { return server.received().size() > 1; }, 100ms));
  attach_client(ends, AttachMode::kRekey);  // and with it, SWITCH
  ASSERT_TRUE(run_until([&] { return server.received().size() == 2; }));
  EXPECT_EQ(server.received(), numbers_up_to(2));
}

TEST_F(TunnelAttachTest, TheNewConnectionTakesOverAtOnceIfTheOldOneIsLost) {
  Ends first = connection();
  attach_server(first, AttachMode::kNone);
  Ends ends = connection();
  attach_server(ends, AttachMode::kRekey);
  EXPECT_TRUE(server.session().draining());
  first.client_socket.reset();
  ASSERT_TRUE(run_until([&] { return !server.session().draining(); }));
  attach_client(ends, AttachMode::kNone);
  send_up(3);
  ASSERT_TRUE(run_until([&] { return all_came(); }));
  EXPECT_FALSE(server.end) << "the session has not lost its connection";
}

TEST_F(TunnelAttachTest, ASwitchThatComesBeforeTheNewConnectionIsRemembered) {
  connect();
  Ends ends = connection();
  attach_client(ends, AttachMode::kRekey);
  send_up(5);
  ASSERT_TRUE(run_until([&] { return server.session().channel()->peer_switched(); }));
  attach_server(ends, AttachMode::kRekey);
  send_down(5);
  ASSERT_TRUE(run_until([&] { return all_came(); }));
  ASSERT_TRUE(run_until([&] { return !server.session().draining(); }));
}

TEST_F(TunnelAttachTest, ANewConnectionThatIsLostTakesTheOldOneWithIt) {
  connect();
  Ends ends = connection();
  attach_server(ends, AttachMode::kRekey);
  attach_client(ends, AttachMode::kRekey);
  client.tunnel.remove(kSession);  // both of the client's
  ASSERT_TRUE(run_until([&] { return server.end.has_value(); }));
  EXPECT_EQ(server.end->kind, ChannelEnd::Kind::kLost);
  EXPECT_FALSE(server.session().draining());
  EXPECT_EQ(server.session().channel(), nullptr);
}

TEST_F(TunnelAttachTest, AThirdConnectionReplacesTheFirst) {
  connect();
  Ends second = connection();
  attach_server(second, AttachMode::kRekey);
  Ends third = connection();
  attach_server(third, AttachMode::kRekey);
  attach_client(third, AttachMode::kRekey);
  second.client_socket.reset();
  send_up(3);
  send_down(3);
  ASSERT_TRUE(run_until([&] { return all_came(); }));
}

TEST_F(TunnelAttachTest, AnEndThatIsWantedReachesBothConnections) {
  connect();
  Ends ends = connection();
  attach_server(ends, AttachMode::kRekey);
  ASSERT_TRUE(run_until([&] { return client.session().channel()->peer_switched(); }));
  server.session().disconnect(0xb0, "thrown out");
  // The client has not even heard of the second one.
  ASSERT_TRUE(run_until([&] { return client.end.has_value(); }));
  EXPECT_EQ(client.end->kind, ChannelEnd::Kind::kPeerEnded);
  ends.client_socket.reset();
  ASSERT_TRUE(run_until([&] { return server.end.has_value(); }));
  EXPECT_EQ(server.end->kind, ChannelEnd::Kind::kClosed);
}

TEST_F(TunnelAttachTest, WithoutAWordTheOldConnectionIsDropped) {
  connect();
  Ends ends = connection();
  attach_server(ends, AttachMode::kNone);
  EXPECT_FALSE(server.session().draining());
  ASSERT_TRUE(run_until([&] { return client.end.has_value(); }));
  EXPECT_FALSE(server.end);
}

}  // namespace
}  // namespace culvert::tunnel
