#include "server/handover.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <cstring>
#include <string>
#include <thread>

#include "common/base/bytes.h"
#include "tests/fakes/allocation_counter.h"

namespace culvert::server {
namespace {

struct Recorder final : Handover::Sink {
  void on_packet(SessionId session, MutableBytes header, MutableBytes packet) override {
    EXPECT_EQ(header.data() + header.size(), packet.data());
    heard.push_back(std::to_string(session.value()) + ":" + std::string(as_text(header)) + ":" +
                    std::string(as_text(packet)));
    bytes += packet.size();
  }
  void on_train(const net::UdpTrain& train) override {
    heard.push_back(train.path.peer.to_string() + "/" + std::to_string(train.segment_size) + ":" +
                    std::string(as_text(train.bytes)));
  }
  void on_batch_end() override { ++batches; }
  std::vector<std::string> heard;
  size_t bytes = 0, batches = 0;
};

bool is_awake(const Handover& handover, size_t to) {
  pollfd entry{handover.wake_fd(to), POLLIN, 0};
  return ::poll(&entry, 1, 0) == 1;
}

class HandoverTest : public testing::Test {
 protected:
  std::unique_ptr<Handover> handover_ = Handover::create(3).value();
  Recorder sink_;
};

TEST_F(HandoverTest, PacketsAndTrainsArriveInOrder) {
  const net::UdpPath path{*Endpoint::parse("192.0.2.1:4433"), *IpAddress::parse("2001:db8::1"), 0};
  EXPECT_TRUE(handover_->push_packet(0, 2, SessionId(7), as_bytes("head"), as_bytes("one")));
  EXPECT_TRUE(handover_->push_train(0, 2, path, as_bytes("abcdef"), 3));
  EXPECT_TRUE(handover_->push_packet(0, 2, SessionId(8), {}, as_bytes("two")));
  EXPECT_FALSE(is_awake(*handover_, 2)) << "not yet published";
  handover_->publish(0);
  EXPECT_TRUE(is_awake(*handover_, 2));
  EXPECT_FALSE(is_awake(*handover_, 1));
  handover_->take(2, sink_);
  EXPECT_EQ(sink_.heard,
            (std::vector<std::string>{"7:head:one", "192.0.2.1:4433/3:abcdef", "8::two"}));
  EXPECT_GE(sink_.batches, 1U);
  EXPECT_FALSE(is_awake(*handover_, 2));
}

TEST_F(HandoverTest, EachThreadHearsItsOwnOnly) {
  EXPECT_TRUE(handover_->push_packet(0, 1, SessionId(1), {}, as_bytes("a")));
  EXPECT_TRUE(handover_->push_packet(2, 1, SessionId(2), {}, as_bytes("b")));
  EXPECT_TRUE(handover_->push_packet(0, 2, SessionId(3), {}, as_bytes("c")));
  handover_->publish(0);
  handover_->publish(2);
  handover_->take(1, sink_);
  EXPECT_EQ(sink_.heard, (std::vector<std::string>{"1::a", "2::b"}));
}

TEST_F(HandoverTest, OneTurnIsBoundedAndTheRestFollows) {
  const std::vector<std::byte> packet(60000);
  size_t pushed = 0;
  while (handover_->push_packet(1, 0, SessionId(1), {}, packet))
    ++pushed;
  handover_->publish(1);
  handover_->take(0, sink_);
  EXPECT_LE(sink_.bytes, (512U << 10) + packet.size());
  size_t turns = 1;
  for (; is_awake(*handover_, 0) && turns < 1000; ++turns)
    handover_->take(0, sink_);
  EXPECT_EQ(sink_.heard.size(), pushed);
  EXPECT_GT(turns, 2U);
  EXPECT_TRUE(handover_->push_packet(1, 0, SessionId(1), {}, packet)) << "there is room again";
}

TEST_F(HandoverTest, PassingOnAllocatesNothing) {
  struct Counter final : Handover::Sink {
    void on_packet(SessionId, MutableBytes, MutableBytes) override { ++count; }
    void on_train(const net::UdpTrain& /*train*/) override { ++count; }
    void on_batch_end() override {}
    size_t count = 0;
  } counter;
  const std::vector<std::byte> packet(1400);
  const fakes::AllocationCounter allocations;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(handover_->push_packet(0, 1, SessionId(1), {}, packet));
    EXPECT_TRUE(handover_->push_train(0, 1, {}, packet, 1400));
    if (i % 16 != 15) continue;
    handover_->publish(0);
    handover_->take(1, counter);
  }
  EXPECT_EQ(allocations.count(), 0U);
  EXPECT_GT(counter.count, 1900U);
}

TEST_F(HandoverTest, NothingIsLostBetweenTwoThreads) {
  constexpr uint64_t kCount = 200'000;
  std::thread producer([&] {
    for (uint64_t i = 0; i < kCount; ++i) {
      const Bytes packet = std::as_bytes(std::span(&i, 1));
      while (!handover_->push_packet(0, 1, SessionId(i), {}, packet)) {
        handover_->publish(0);
        std::this_thread::yield();
      }
      if (i % 7 == 0) handover_->publish(0);
    }
    handover_->publish(0);
  });
  struct Counter final : Handover::Sink {
    void on_packet(SessionId session, MutableBytes /*header*/, MutableBytes packet) override {
      uint64_t number = 0;
      std::memcpy(&number, packet.data(), sizeof number);
      good = good && number == next && session.value() == next;
      ++next;
    }
    void on_train(const net::UdpTrain& /*train*/) override {}
    void on_batch_end() override {}
    uint64_t next = 0;
    bool good = true;
  } counter;
  while (counter.next < kCount) {
    pollfd entry{handover_->wake_fd(1), POLLIN, 0};
    if (::poll(&entry, 1, 10'000) != 1) break;  // nobody woke us
    handover_->take(1, counter);
  }
  producer.join();
  EXPECT_EQ(counter.next, kCount);
  EXPECT_TRUE(counter.good);
}

}  // namespace
}  // namespace culvert::server
