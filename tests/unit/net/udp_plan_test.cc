#include "common/net/udp_plan.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

namespace culvert::net {
namespace {

std::array<std::byte, 65535> g_memory;  // whose content nobody reads

OutDatagram datagram(size_t size, int path = 0) {
  return {Bytes(g_memory).first(size), static_cast<uint16_t>(path)};
}

std::vector<uint32_t> plan(const std::vector<OutDatagram>& batch, const RunLimits& limits = {}) {
  std::vector<DatagramRun> runs(200);
  runs.resize(plan_runs(batch, limits, runs));
  std::vector<uint32_t> counts;
  for (const DatagramRun& run : runs)
    counts.push_back(run.count);
  return counts;
}
using Counts = std::vector<uint32_t>;

TEST(UdpPlan, JoinsUnderTheseConditions) {
  struct Row {
    const char* what;
    uint32_t count, bytes;  // of the run so far
    size_t last, next;
    int path;
    bool joins;
  };
  const Row rows[] = {
      {"equal size", 1, 1000, 1000, 1000, 0, true},
      {"shorter, as the last", 1, 1000, 1000, 999, 0, true},
      {"one byte", 1, 1000, 1000, 1, 0, true},
      {"longer", 1, 1000, 1000, 1001, 0, false},
      {"after a shorter one", 2, 1999, 999, 999, 0, false},
      {"full size after a shorter one", 2, 1999, 999, 1000, 0, false},
      {"empty", 1, 1000, 1000, 0, 0, false},
      {"another path", 1, 1000, 1000, 1000, 1, false},
      {"the 64th", 63, 63000, 1000, 1000, 0, true},
      {"the 65th", 64, 64000, 1000, 1000, 0, false},
      {"up to the limit of bytes", 50, 64000, 1000, 1000, 0, true},
      {"beyond the limit of bytes", 50, 64001, 1000, 1000, 0, false},
  };
  for (const Row& row : rows) {
    const DatagramRun run{.count = row.count, .bytes = row.bytes, .segment_size = 1000};
    EXPECT_EQ(can_join_run(run, datagram(row.last), datagram(row.next, row.path), {}), row.joins)
        << row.what;
  }
}

TEST(UdpPlan, DividesABatchInOrder) {
  const auto full = datagram(1400);
  const auto small = datagram(90);
  const auto other = datagram(1400, 1);
  EXPECT_EQ(plan({}), Counts{});
  EXPECT_EQ(plan({full}), Counts{1});
  EXPECT_EQ(plan({full, full, small}), Counts{3});
  EXPECT_EQ(plan({full, small, full}), Counts({2, 1}));
  EXPECT_EQ(plan({small, full, full}), Counts({1, 2}));
  EXPECT_EQ(plan({full, other, full}), Counts({1, 1, 1}));
  EXPECT_EQ(plan({full, full, other, other}), Counts({2, 2}));
  EXPECT_EQ(plan(std::vector(130, small)), Counts({64, 64, 2}));
  EXPECT_EQ(plan(std::vector(100, full)), Counts({46, 46, 8}));  // 46 * 1,400 = 64,400
  EXPECT_EQ(plan({datagram(65535), datagram(65535)}), Counts({1, 1}));
  EXPECT_EQ(plan({datagram(0), datagram(0)}), Counts({1, 1}));
  EXPECT_EQ(plan({full, full, full}, kNoRuns), Counts({1, 1, 1}));
}

TEST(UdpPlan, StopsWhenThereIsNoRoomForMoreRuns) {
  std::array<DatagramRun, 2> runs;
  const OutDatagram batch[] = {datagram(10), datagram(20), datagram(20), datagram(30)};
  ASSERT_EQ(plan_runs(batch, {}, runs), 2u);
  EXPECT_EQ(runs[1].first, 1u);
  EXPECT_EQ(runs[1].count, 2u);
  EXPECT_EQ(runs[1].bytes, 40u);
}

TEST(UdpPlan, EveryDatagramIsInOneRunThatTheKernelTakes) {
  std::mt19937 random(3);
  const std::array<size_t, 5> sizes = {0, 60, 60, 1400, 1399};
  for (int round = 0; round < 200; ++round) {
    std::vector<OutDatagram> batch(random() % 300);
    for (OutDatagram& next : batch)
      next = datagram(sizes[random() % sizes.size()], random() % 20 == 0);
    std::vector<DatagramRun> runs(batch.size() + 1);
    runs.resize(plan_runs(batch, {}, runs));
    size_t at = 0;
    for (const DatagramRun& run : runs) {
      ASSERT_EQ(run.first, at);
      ASSERT_LE(run.count, 64u);
      size_t bytes = 0;
      for (uint32_t i = 0; i < run.count; ++i, ++at) {
        ASSERT_EQ(batch[at].path, run.path);
        ASSERT_LE(batch[at].bytes.size(), run.segment_size);
        const bool last = i + 1 == run.count;
        ASSERT_TRUE(last || batch[at].bytes.size() == run.segment_size);
        bytes += batch[at].bytes.size();
      }
      ASSERT_EQ(run.bytes, bytes);
      ASSERT_LE(bytes, 65000u);
    }
    ASSERT_EQ(at, batch.size());
  }
}

}  // namespace
}  // namespace culvert::net
