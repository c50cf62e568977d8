// A server's front and client channels joined by real UDP sockets on loopback, on one loop; between
// them a relay that can lose, change and move what passes.
#include "common/tunnel/dtls_channel.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <deque>
#include <functional>

#include "common/loop/poll.h"
#include "common/loop/timer.h"
#include "common/tls/random.h"
#include "common/tunnel/dtls_front.h"
#include "common/wire/cstp.h"

#define CULVERT_READS_ALLOCATIONS_ONLY
#include "tests/fakes/allocation_counter.h"

namespace culvert::tunnel {
namespace {

using namespace std::chrono_literals;

constexpr uint16_t kCeiling = 1472;

struct Recorder final : DtlsObserver {
  void on_packets(Channel& /*channel*/, net::PacketBatch& batch) override {
    count += batch.size();
    if (!count_only) sums.insert(sums.end(), batch.sums().begin(), batch.sums().end());
    for (const MutableBytes packet : batch.packets())
      if (!count_only) packets.emplace_back(packet.begin(), packet.end());
  }
  void on_alive(Channel& /*channel*/) override { ++alive; }
  void on_channel_end(Channel& /*channel*/, const ChannelEnd& /*end*/) override {}
  void on_dtls_up(DtlsChannel& /*channel*/) override { ++up; }
  void on_dtls_received(DtlsChannel& /*channel*/) override { ++received; }
  void on_dtls_down(DtlsChannel& /*channel*/, const std::string& text) override { down = text; }
  void on_path_mtu(DtlsChannel& /*channel*/) override {}
  void on_moved(DtlsChannel& /*channel*/) override { ++moved; }
  void on_due_changed(DtlsChannel& /*channel*/) override {}

  std::vector<std::vector<std::byte>> packets;
  std::vector<net::Sums> sums;
  size_t count = 0;
  bool count_only = false;
  int alive = 0, up = 0, received = 0, moved = 0;
  std::string down;
};

// Passes datagrams between a client and the server; knows the client by its last datagram.
class Relay {
 public:
  Relay(loop::Loop& loop, const Endpoint& server) : loop_(loop), server_(server) {
    inner_ = open();
    outer_ = open();
    watch(inner_fd_poll_, inner_, [this](Bytes d, const Endpoint& from) {
      client_ = from;
      if (allow && !allow(d, true)) return;
      send(outer_, d, server_);
    });
    move();
  }

  [[nodiscard]] Endpoint endpoint() const { return name_of(inner_); }
  // From now on the server sees another source port, as after a new NAT binding.
  void move() {
    if (outer_poll_) outer_poll_.reset();
    outer_ = open();
    watch(outer_poll_, outer_, [this](Bytes d, const Endpoint& /*from*/) {
      if (allow && !allow(d, false)) return;
      send(inner_, d, client_);
    });
  }

  std::function<bool(Bytes datagram, bool to_server)> allow;

 private:
  static UniqueFd open() {
    UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_storage name{};
    const socklen_t length = Endpoint{IpAddress::v4(0x7f000001), 0}.to_sockaddr(name);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), length), 0);
    return fd;
  }
  static Endpoint name_of(const UniqueFd& fd) {
    sockaddr_storage name{};
    socklen_t length = sizeof name;
    EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &length), 0);
    return Endpoint::from_sockaddr(name);
  }
  static void send(const UniqueFd& fd, Bytes datagram, const Endpoint& to) {
    sockaddr_storage name{};
    const socklen_t length = to.to_sockaddr(name);
    (void)::sendto(fd.get(), datagram.data(), datagram.size(), 0,
                   reinterpret_cast<sockaddr*>(&name), length);
  }
  void watch(std::optional<loop::Poll>& poll, const UniqueFd& fd,
             std::function<void(Bytes, const Endpoint&)> take) {
    poll.emplace(loop_, fd.get());
    ASSERT_TRUE(poll->start(
        [number = fd.get(), take = std::move(take)](unsigned, int) {
          std::array<std::byte, 65536> buffer;
          sockaddr_storage name{};
          socklen_t length = sizeof name;
          for (;;) {
            const ssize_t got = ::recvfrom(number, buffer.data(), buffer.size(), 0,
                                           reinterpret_cast<sockaddr*>(&name), &length);
            if (got < 0) return;
            take(Bytes(buffer).first(static_cast<size_t>(got)), Endpoint::from_sockaddr(name));
          }
        },
        loop::kReadable));
  }

  loop::Loop& loop_;
  Endpoint server_, client_;
  UniqueFd inner_, outer_;
  std::optional<loop::Poll> inner_fd_poll_, outer_poll_;
};

std::vector<std::byte> packet_of(size_t size, uint8_t tag) {
  std::vector<std::byte> packet(size, std::byte{tag});
  packet[0] = std::byte{0x45};
  return packet;
}

class DtlsChannelTest : public testing::Test {
 protected:
  DtlsChannelTest() {
    tls::random_bytes(app_id_);
    tls::random_bytes(psk_.bytes());
    auto socket = net::UdpSocket::open(sys_, {.local = {IpAddress::v4(0x7f000001), 0}});
    EXPECT_TRUE(socket);
    server_ = socket->local();
    auto key = tls::DtlsCookieKey::generate();
    front_ = DtlsFront::create(loop_, scratch_, std::move(*socket), key).value();
    EXPECT_TRUE(front_->start());
    server_config_ =
        tls::DtlsConfig::build(
            {.role = tls::Role::kServer, .cid_size = tls::kServerCidSize, .cookie_key = key})
            .value();
    client_config_ = tls::DtlsConfig::build({.role = tls::Role::kClient, .cid_size = 0}).value();
    relay_ = std::make_unique<Relay>(loop_, server_);
  }

  DtlsOptions options(bool client) {
    DtlsOptions made;
    made.config = client ? client_config_ : server_config_;
    made.psk = psk_.clone();
    made.app_id = app_id_;
    made.floor = 1200;
    made.ceiling = kCeiling;
    made.unsummed = unsummed_;
    if (client) made.server = direct_ ? server_ : relay_->endpoint();
    return made;
  }
  void make_server() {
    serving_ = std::make_unique<DtlsChannel>(loop_, scratch_, sys_, front_.get(), options(false),
                                             at_server_, server_counters_);
  }
  void make_client() {
    calling_ = std::make_unique<DtlsChannel>(loop_, scratch_, sys_, nullptr, options(true),
                                             at_client_, client_counters_);
    ASSERT_TRUE(calling_->dial());
  }
  void connect() {
    make_server();
    make_client();
    ASSERT_TRUE(run_until([&] { return at_client_.up == 1 && at_server_.up == 1; }));
  }

  // Turns the loop until the condition holds, at most ten seconds.
  bool run_until(const std::function<bool()>& condition) {
    loop::Timer timer(loop_);
    const TimePoint limit = BootClock::now() + 10s;
    timer.start_repeating(5ms, [&] {
      for (DtlsChannel* channel : {serving_.get(), calling_.get()})
        if (channel != nullptr && loop_.now() >= channel->next_due()) channel->tick();
      if (condition() || BootClock::now() > limit) loop_.stop();
    });
    loop_.run();
    return condition();
  }

  static void send(DtlsChannel& channel, const std::vector<std::byte>& packet,
                   net::Sums sums = net::Sums::kDone) {
    std::vector<std::byte> memory(kChannelHeadroom + packet.size());
    std::copy(packet.begin(), packet.end(), memory.begin() + kChannelHeadroom);
    channel.add(MutableBytes(memory).subspan(kChannelHeadroom), sums);
    channel.flush();
  }

  loop::Loop loop_;
  net::KernelSys sys_;
  DtlsScratch scratch_;
  Secret psk_{32};
  tls::AppId app_id_{};
  std::shared_ptr<const tls::DtlsConfig> server_config_, client_config_;
  Endpoint server_;
  std::unique_ptr<DtlsFront> front_;
  std::unique_ptr<Relay> relay_;
  bool unsummed_ = false;
  bool direct_ = false;  // without the relay, which knows one port of the client at a time
  Recorder at_server_, at_client_;
  Counters server_counters_, client_counters_;
  std::unique_ptr<DtlsChannel> serving_, calling_;
};

TEST_F(DtlsChannelTest, PacketsTravelBothWays) {
  connect();
  const auto up = packet_of(1400, 1);
  const auto down = packet_of(600, 2);
  send(*calling_, up);
  send(*serving_, down);
  ASSERT_TRUE(
      run_until([&] { return !at_server_.packets.empty() && !at_client_.packets.empty(); }));
  EXPECT_EQ(at_server_.packets[0], up);
  EXPECT_EQ(at_client_.packets[0], down);
  EXPECT_EQ(client_counters_.tx_packets, 1U);
  EXPECT_EQ(front_->stats().challenged, 1U) << "one cookie for one client";
  EXPECT_EQ(front_->stats().accepted, 1U);
}

TEST_F(DtlsChannelTest, PacketsSayThatTheyAreWithoutChecksum) {
  unsummed_ = true;
  connect();
  EXPECT_TRUE(calling_->takes_unsummed() && serving_->takes_unsummed());
  send(*calling_, packet_of(1400, 1), net::Sums::kLeft);
  send(*calling_, packet_of(1400, 2));
  send(*serving_, packet_of(40, 3), net::Sums::kLeft);
  ASSERT_TRUE(
      run_until([&] { return at_server_.packets.size() == 2 && at_client_.packets.size() == 1; }));
  EXPECT_EQ(at_server_.packets[0], packet_of(1400, 1));
  EXPECT_EQ(at_server_.sums, (std::vector{net::Sums::kLeft, net::Sums::kDone}));
  EXPECT_EQ(at_client_.sums, (std::vector{net::Sums::kLeft}));
}

// What was agreed on holds for the association, not for what is agreed on later.
TEST_F(DtlsChannelTest, PacketsWithoutChecksumAreNoneUnlessTheyWereAgreedOn) {
  make_server();
  unsummed_ = true;
  make_client();
  ASSERT_TRUE(run_until([&] { return at_client_.up == 1 && at_server_.up == 1; }));
  EXPECT_FALSE(serving_->takes_unsummed());
  serving_->renew(options(false));
  EXPECT_FALSE(serving_->takes_unsummed());
  send(*calling_, packet_of(1400, 1), net::Sums::kLeft);
  send(*calling_, packet_of(1400, 2));
  ASSERT_TRUE(run_until([&] { return !at_server_.packets.empty(); }));
  EXPECT_EQ(at_server_.packets[0], packet_of(1400, 2));
}

// Both directions: sealing, sending, receiving, finding the session, opening.
TEST_F(DtlsChannelTest, ABatchAllocatesNothing) {
  connect();
  ASSERT_TRUE(run_until([&] { return !calling_->probing_mtu() && !serving_->probing_mtu(); }));
  at_server_.count_only = at_client_.count_only = true;
  std::vector<std::byte> memory(kChannelHeadroom + 1300);
  memory[kChannelHeadroom] = std::byte{0x45};
  const MutableBytes packet = MutableBytes(memory).subspan(kChannelHeadroom);
  loop::Timer poll(loop_);
  size_t expected = 0;
  poll.start_repeating(1ms, [&] {
    if (at_server_.count == expected && at_client_.count == expected) loop_.stop();
  });
  const auto round = [&] {
    expected += 20;
    const fakes::AllocationCounter allocations;
    for (DtlsChannel* channel : {calling_.get(), serving_.get()}) {
      for (int i = 0; i < 20; ++i)
        channel->add(packet);
      channel->flush();
    }
    loop_.run();
    return allocations.count();
  };
  (void)round();  // warms up
  EXPECT_EQ(round(), 0U);
}

TEST_F(DtlsChannelTest, TheLargestDatagramOfTheLinkIsFound) {
  connect();
  ASSERT_TRUE(run_until([&] { return !calling_->probing_mtu() && !serving_->probing_mtu(); }));
  EXPECT_EQ(calling_->max_packet(), kCeiling - calling_->dtls().expansion() - 1);
  EXPECT_EQ(serving_->max_packet(), kCeiling - serving_->dtls().expansion() - 1);
}

TEST_F(DtlsChannelTest, ANarrowPathIsFoundWithoutAnybodySayingSo) {
  relay_->allow = [](Bytes datagram, bool) { return datagram.size() <= 1372; };
  connect();
  ASSERT_TRUE(run_until([&] { return !calling_->probing_mtu() && !serving_->probing_mtu(); }));
  EXPECT_LE(calling_->max_packet(), 1372 - calling_->dtls().expansion() - 1);
  EXPECT_GE(calling_->max_packet(), 1372 - calling_->dtls().expansion() - 1 - 16);
}

TEST_F(DtlsChannelTest, AQuestionIsEchoedWhole) {
  connect();
  calling_->probe();
  ASSERT_TRUE(run_until([&] { return at_client_.alive > 0; }));
}

// The association in use carries packets until one with the new key is there; the App-ID from
// before is nobody's.
TEST_F(DtlsChannelTest, NewKeysComeBesideTheOldOnes) {
  direct_ = true;
  connect();
  const tls::AppId before = app_id_;
  tls::random_bytes(app_id_);
  tls::random_bytes(psk_.bytes());
  serving_->renew(options(false));
  EXPECT_TRUE(serving_->up());
  send(*calling_, packet_of(100, 1));
  send(*serving_, packet_of(100, 2));
  ASSERT_TRUE(
      run_until([&] { return at_server_.packets.size() == 1 && at_client_.packets.size() == 1; }));
  ASSERT_TRUE(calling_->dial());  // with the old App-ID
  ASSERT_TRUE(run_until([&] { return front_->stats().unknown_app > 0; }));
  EXPECT_EQ(at_server_.up, 1);
  calling_->renew(options(true));
  EXPECT_TRUE(calling_->up());
  EXPECT_NE(before, calling_->app_id());
  ASSERT_TRUE(calling_->dial());
  ASSERT_TRUE(run_until([&] { return at_client_.up == 2 && at_server_.up == 2; }));
  send(*calling_, packet_of(100, 3));
  ASSERT_TRUE(run_until([&] { return at_server_.packets.size() == 2; }));
  EXPECT_TRUE(at_server_.down.empty()) << at_server_.down;
}

TEST_F(DtlsChannelTest, AnUnknownAppIdGetsACookieAndNothingElse) {
  make_server();
  app_id_[0] ^= std::byte{1};
  size_t answers = 0;
  relay_->allow = [&](Bytes, bool to_server) {
    if (!to_server) ++answers;
    return true;
  };
  make_client();
  ASSERT_TRUE(run_until([&] { return front_->stats().unknown_app > 0; }));
  EXPECT_EQ(answers, 1U) << "the cookie";
  EXPECT_EQ(at_server_.up, 0);
}

// The client may be faster than the news of its session on their way to the data thread.
TEST_F(DtlsChannelTest, AClientThatComesEarlyNeedNotRepeatItself) {
  make_client();
  ASSERT_TRUE(run_until([&] { return front_->stats().unknown_app == 1; }));
  size_t repeated = 0;
  relay_->allow = [&](Bytes, bool to_server) {
    if (to_server && at_server_.up == 0 && front_->stats().accepted == 0) ++repeated;
    return true;
  };
  make_server();
  front_->catch_up(app_id_);
  ASSERT_TRUE(run_until([&] { return at_client_.up == 1 && at_server_.up == 1; }));
  EXPECT_EQ(repeated, 0U);
  EXPECT_EQ(front_->stats().unknown_app, 1U);
}

// Two threads in one: what is handed over arrives at once.
struct Joined final : Neighbours {
  void hand_over(size_t front, const net::UdpPath& path, Bytes datagrams,
                 size_t segment_size) override {
    EXPECT_EQ(front, 1U);
    copy.assign(datagrams.begin(), datagrams.end());
    home->take_over({copy, segment_size, path});
  }
  void hand_over_end() override { home->taken_over(); }
  DtlsFront* home = nullptr;
  std::vector<std::byte> copy;
};

class TwoFrontsTest : public DtlsChannelTest {
 protected:
  // Datagrams arrive at front 0; the session lives behind front 1.
  TwoFrontsTest() {
    const auto key = tls::DtlsCookieKey::generate();
    server_config_ =
        tls::DtlsConfig::build(
            {.role = tls::Role::kServer, .cid_size = tls::kServerCidSize, .cookie_key = key})
            .value();
    front_ = make_front(1, key);
    wrong_ = make_front(0, key);
    joined_.home = front_.get();
    server_ = wrong_->port().socket().local();
    relay_ = std::make_unique<Relay>(loop_, server_);
  }
  std::unique_ptr<DtlsFront> make_front(size_t number,
                                        const std::shared_ptr<const tls::DtlsCookieKey>& key) {
    auto socket = net::UdpSocket::open(sys_, {.local = {IpAddress::v4(0x7f000001), 0}});
    auto front = DtlsFront::create(loop_, scratch_, std::move(*socket), key,
                                   {.number = number, .count = 2, .neighbours = &joined_})
                     .value();
    EXPECT_TRUE(front->start());
    return front;
  }

  Joined joined_;
  std::unique_ptr<DtlsFront> wrong_;
};

TEST_F(TwoFrontsTest, ASessionIsReachedThroughTheWrongFront) {
  wrong_->expect_elsewhere(app_id_, 1);
  connect();
  send(*calling_, packet_of(500, 1));
  send(*serving_, packet_of(500, 2));
  ASSERT_TRUE(
      run_until([&] { return at_server_.packets.size() == 1 && at_client_.packets.size() == 1; }));
  EXPECT_EQ(wrong_->stats().challenged, 1U);
  EXPECT_EQ(wrong_->stats().accepted, 0U);
  EXPECT_EQ(front_->stats().accepted, 1U);
  // From here on the connection ID tells whose it is.
  wrong_->forget_elsewhere(app_id_);
  relay_->move();
  send(*calling_, packet_of(500, 3));
  ASSERT_TRUE(run_until([&] { return at_server_.packets.size() == 2; }));
  EXPECT_EQ(at_server_.moved, 1);
}

TEST_F(TwoFrontsTest, AClientThatComesBeforeTheNewsIsHandedOverLater) {
  make_server();
  make_client();
  ASSERT_TRUE(run_until([&] { return wrong_->stats().unknown_app == 1; }));
  wrong_->expect_elsewhere(app_id_, 1);
  wrong_->catch_up(app_id_);
  ASSERT_TRUE(run_until([&] { return at_client_.up == 1 && at_server_.up == 1; }));
  EXPECT_EQ(wrong_->stats().unknown_app, 1U) << "it did not have to repeat itself";
}

TEST_F(TwoFrontsTest, WhatWasHandedOverGoesNoFurther) {
  wrong_->expect_elsewhere(app_id_, 1);
  front_->expect_elsewhere(app_id_, 0);
  make_client();
  ASSERT_TRUE(run_until([&] { return front_->stats().unknown_app > 0; }));
  EXPECT_EQ(front_->stats().handed_over, 0U);
}

TEST_F(DtlsChannelTest, AnotherKeyIsRefused) {
  make_server();
  tls::random_bytes(psk_.bytes());
  make_client();
  ASSERT_TRUE(run_until([&] { return !at_server_.down.empty() || !at_client_.down.empty(); }));
  EXPECT_EQ(at_server_.up, 0);
  EXPECT_EQ(at_client_.up, 0);
}

TEST_F(DtlsChannelTest, GarbageIsCountedAndNotAnswered) {
  size_t answers = 0;
  relay_->allow = [&](Bytes, bool to_server) {
    if (!to_server) ++answers;
    return true;
  };
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_storage name{};
  const socklen_t length = relay_->endpoint().to_sockaddr(name);
  for (const size_t size : {1, 13, 60, 200, 1400}) {
    const std::vector<std::byte> junk(size, std::byte{0x17});
    ASSERT_GT(
        ::sendto(fd.get(), junk.data(), junk.size(), 0, reinterpret_cast<sockaddr*>(&name), length),
        0);
  }
  ASSERT_TRUE(run_until([&] { return front_->stats().stray == 5; }));
  EXPECT_EQ(answers, 0U);
}

TEST_F(DtlsChannelTest, AClientThatMovesGoesOnWithItsFirstPacket) {
  connect();
  send(*calling_, packet_of(100, 1));
  ASSERT_TRUE(run_until([&] { return at_server_.packets.size() == 1; }));
  const net::UdpPath before = serving_->path();
  relay_->move();
  send(*calling_, packet_of(100, 2));
  ASSERT_TRUE(run_until([&] { return at_server_.packets.size() == 2; }));
  EXPECT_EQ(at_server_.moved, 1);
  EXPECT_NE(serving_->path(), before);
  EXPECT_EQ(front_->stats().accepted, 1U) << "no second handshake";
  send(*serving_, packet_of(100, 3));
  ASSERT_TRUE(run_until([&] { return at_client_.packets.size() == 1; }));
}

TEST_F(DtlsChannelTest, AForgedRecordDoesNotMoveThePeer) {
  connect();
  std::vector<std::byte> last;
  relay_->allow = [&](Bytes datagram, bool to_server) {
    if (to_server) last.assign(datagram.begin(), datagram.end());
    return true;
  };
  send(*calling_, packet_of(100, 1));
  ASSERT_TRUE(run_until([&] { return at_server_.packets.size() == 1; }));
  const net::UdpPath before = serving_->path();
  // The same connection ID from elsewhere: once replayed as it was, once changed.
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_storage name{};
  const socklen_t length = server_.to_sockaddr(name);
  for (int i = 0; i < 2; ++i) {
    ASSERT_GT(
        ::sendto(fd.get(), last.data(), last.size(), 0, reinterpret_cast<sockaddr*>(&name), length),
        0);
    last.back() ^= std::byte{1};
    last[10] = std::byte{0x7f};  // a sequence number of the future
  }
  send(*calling_, packet_of(100, 2));
  ASSERT_TRUE(run_until([&] { return at_server_.packets.size() == 2; }));
  EXPECT_EQ(serving_->path(), before);
  EXPECT_EQ(at_server_.moved, 0);
}

TEST_F(DtlsChannelTest, ANewHandshakeReplacesTheOldKeysWithoutLosingAPacket) {
  direct_ = true;
  connect();
  size_t sent = 0;
  loop::Timer sender(loop_);
  sender.start_repeating(1ms,
                         [&] { send(*calling_, packet_of(200, static_cast<uint8_t>(++sent))); });
  ASSERT_TRUE(calling_->dial());
  ASSERT_TRUE(run_until([&] { return at_client_.up == 2 && at_server_.up == 2; }));
  const size_t until = sent + 20;
  ASSERT_TRUE(run_until([&] { return sent >= until; }));
  sender.stop();
  ASSERT_TRUE(run_until([&] { return at_server_.packets.size() == sent; }));
  EXPECT_EQ(at_client_.down, "");
}

TEST_F(DtlsChannelTest, AnUnansweredHandshakeIsReported) {
  relay_->allow = [](Bytes, bool) { return false; };
  client_config_ = tls::DtlsConfig::build({.role = tls::Role::kClient,
                                           .cid_size = 0,
                                           .first_retransmission = 20ms,
                                           .last_retransmission = 40ms})
                       .value();
  make_client();
  ASSERT_TRUE(run_until([&] { return !at_client_.down.empty(); }));
  EXPECT_NE(at_client_.down.find("UDP"), std::string::npos) << at_client_.down;
  EXPECT_FALSE(calling_->handshaking());
}

}  // namespace
}  // namespace culvert::tunnel
