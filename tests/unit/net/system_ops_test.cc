// Requests carried out on the real kernel, in a network namespace of its own with one TUN, "t0".
#include "common/net/system_ops.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <fstream>
#include <mutex>

#include "common/net/tun_device.h"
#include "tests/unit/net/own_network.h"
#include "tests/unit/net/packets.h"
#include "tests/unit/net/temporary_folder.h"

namespace culvert::net {
namespace {

using testing::prefix;

// A loop's queue of posted tasks: tasks run on the test's thread, inside run_one().
class Tasks {
 public:
  void post(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    arrived_.notify_one();
  }
  bool run_one() {
    std::unique_lock lock(mutex_);
    if (!arrived_.wait_for(lock, std::chrono::seconds(10), [this] { return !tasks_.empty(); })) {
      return false;
    }
    const auto task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    return true;
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<std::function<void()>> tasks_;
};

class SystemOpsOnKernel : public testing::OwnNetwork {
 protected:
  void SetUp() override {
    OwnNetwork::SetUp();
    if (IsSkipped()) return;
    auto device = TunDevice::open(sys_, {.name = "t0"});
    ASSERT_TRUE(device) << device.error().message();
    device_ = std::make_unique<TunDevice>(*std::move(device));
    netlink_ = std::make_unique<Netlink>(Netlink::open().value());
    ASSERT_TRUE(netlink_->set_link({.device = "t0", .up = true}));
  }

  void start(LocalSystemOpsOptions options = {}) {
    ops_ = std::make_unique<LocalSystemOps>(
        Netlink::open().value(), [this](auto task) { tasks_.post(std::move(task)); },
        std::move(options));
  }
  LocalSystemOpsOptions journalled(std::string own_device = {}) {
    LocalSystemOpsOptions options;
    options.journal = std::make_unique<UndoJournal>(UndoJournal::open(path_).value());
    options.own_device = std::move(own_device);
    return options;
  }
  std::vector<SystemAnswer> carry_out(std::vector<SystemRequest> requests) {
    std::vector<SystemAnswer> result;
    ops_->submit(std::move(requests), [&](auto answers) { result = std::move(answers); });
    EXPECT_TRUE(result.empty()) << "answered from inside submit()";
    EXPECT_TRUE(tasks_.run_one());
    return result;
  }
  size_t route_count(uint32_t table) { return netlink_->routes(table, Family::kV4).value().size(); }
  static std::string sysctl(const std::string& path) {
    std::string value;
    std::ifstream("/proc/sys/" + path) >> value;
    return value;
  }

  testing::TemporaryFolder folder_;
  std::string path_ = folder_.file("journal.undo");
  KernelSys sys_;
  std::unique_ptr<TunDevice> device_;
  std::unique_ptr<Netlink> netlink_;
  Tasks tasks_;
  std::unique_ptr<LocalSystemOps> ops_;
};

const AddRoute kRoute{{.destination = prefix("10.20.0.0/16"), .device = "t0", .table = 77}};
const AddRoute kPool{
    {.destination = prefix("10.99.0.0/24"), .table = 77, .type = Route::Type::kUnreachable}};
const AddRule kRule{{.family = Family::kV4, .priority = 700, .table = 77}};
const char* const kForwarding = "net/ipv4/conf/t0/forwarding";

TEST_F(SystemOpsOnKernel, CarriesOutABatchInOrder) {
  start();
  const auto answers =
      carry_out({SetLink{{.device = "t0", .mtu = 1390}}, AddAddress{"t0", prefix("10.99.0.1/32")},
                 kRoute, kPool, kRule, SetSysctl{kForwarding, "1"}});
  ASSERT_EQ(answers.size(), 6u);
  EXPECT_TRUE(first_error(answers)) << first_error(answers).error().message();
  EXPECT_EQ(netlink_->link("t0")->mtu, 1390u);
  EXPECT_EQ(route_count(77), 2u);
  EXPECT_EQ(answers[5].output, "0");
  EXPECT_EQ(sysctl(kForwarding), "1");
}

TEST_F(SystemOpsOnKernel, StopsAtTheFirstFailure) {
  start();
  const auto answers = carry_out({kRoute, kRoute, kPool});
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_TRUE(answers[0].ok());
  EXPECT_FALSE(answers[1].ok());
  EXPECT_TRUE(answers[1].attempted);
  EXPECT_FALSE(answers[2].ok());
  EXPECT_FALSE(answers[2].attempted);
  EXPECT_EQ(route_count(77), 1u);
  ASSERT_FALSE(first_error(answers));
  EXPECT_EQ(first_error(answers).error().what, answers[1].error->what);
}

TEST_F(SystemOpsOnKernel, AnswersInTheOrderOfTheSubmissions) {
  start();
  std::vector<int> order;
  for (int i = 0; i < 5; ++i) {
    ops_->submit({}, [&order, i](const auto& answers) {
      EXPECT_TRUE(answers.empty());
      order.push_back(i);
    });
  }
  for (int i = 0; i < 5; ++i)
    ASSERT_TRUE(tasks_.run_one());
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST_F(SystemOpsOnKernel, RefusesWhatWeWouldNeverAskFor) {
  start();
  const auto answers = carry_out({SetSysctl{"kernel/core_pattern", "|/bin/sh"}});
  ASSERT_FALSE(answers[0].ok());
  EXPECT_EQ(answers[0].error->code, ErrorCode::kUsage);
}

TEST_F(SystemOpsOnKernel, InversesTakeEverythingBack) {
  const SystemRequest requests[] = {AddAddress{"t0", prefix("10.99.0.1/32")}, kRoute, kRule,
                                    SetSysctl{kForwarding, "1"}};
  std::vector<SystemRequest> inverses;
  for (const SystemRequest& request : requests) {
    const auto before = inverse_before(request);
    ASSERT_TRUE(before);
    const SystemAnswer answer = execute(*netlink_, request);
    ASSERT_TRUE(answer.ok()) << answer.error->message();
    const auto after = inverse(request, answer);
    ASSERT_TRUE(after);
    EXPECT_EQ(*before, after);
    inverses.push_back(*after);
  }
  for (auto request = inverses.rbegin(); request != inverses.rend(); ++request) {
    const SystemAnswer answer = execute(*netlink_, *request);
    EXPECT_TRUE(answer.ok()) << answer.error->message();
  }
  EXPECT_EQ(route_count(77), 0u);
  EXPECT_EQ(sysctl(kForwarding), "0");
  const auto rules = netlink_->rules(Family::kV4).value();
  EXPECT_EQ(std::count(rules.begin(), rules.end(), kRule.rule), 0);
}

TEST_F(SystemOpsOnKernel, WhatAKilledProcessLeftIsUndoneByTheNext) {
  start(journalled());
  ASSERT_TRUE(first_error(carry_out({kRoute, kPool, kRule, SetSysctl{kForwarding, "1"}})));
  ops_.reset();  // as a kill: nothing is undone
  EXPECT_EQ(route_count(77), 2u);

  auto journal = UndoJournal::open(path_).value();
  EXPECT_EQ(journal.pending().size(), 4u);
  const auto undone = journal.undo_all(*netlink_);
  ASSERT_TRUE(undone) << undone.error().message();
  EXPECT_TRUE(journal.empty());
  EXPECT_EQ(route_count(77), 0u);
  EXPECT_EQ(sysctl(kForwarding), "0");
}

TEST_F(SystemOpsOnKernel, ADeviceThatIsGoneTookItsSettingsAlong) {
  auto journal = UndoJournal::open(path_).value();
  ASSERT_TRUE(journal.record(SetSysctl{"net/ipv4/conf/nosuch0/rp_filter", "1"}));
  const auto undone = journal.undo_all(*netlink_);
  EXPECT_TRUE(undone) << undone.error().message();
  EXPECT_TRUE(journal.empty());
}

TEST_F(SystemOpsOnKernel, UndoAllComesAfterWhatWasSubmittedBefore) {
  start(journalled());
  bool undone = false;
  ops_->submit({kRoute, kRule}, [](const auto& answers) { EXPECT_TRUE(first_error(answers)); });
  ops_->undo_all([&](const Status& status) { undone = status.has_value(); });
  ASSERT_TRUE(tasks_.run_one());
  ASSERT_TRUE(tasks_.run_one());
  EXPECT_TRUE(undone);
  EXPECT_EQ(route_count(77), 0u);
}

TEST_F(SystemOpsOnKernel, AFailedChangeLeavesNothingToUndo) {
  // Somebody else's route: undoing our failed attempt must not delete it.
  ASSERT_TRUE(netlink_->add_route(kRoute.route));
  start(journalled());
  EXPECT_FALSE(first_error(carry_out({kRoute})));
  ops_.reset();
  EXPECT_TRUE(UndoJournal::open(path_)->empty());
  EXPECT_EQ(route_count(77), 1u);
}

TEST_F(SystemOpsOnKernel, TakingAChangeBackStrikesItsEntry) {
  start(journalled());
  ASSERT_TRUE(first_error(carry_out({kRoute, SetSysctl{kForwarding, "1"}})));
  ASSERT_TRUE(first_error(carry_out({SetSysctl{kForwarding, "0"}, DelRoute{kRoute.route}})));
  ops_.reset();
  EXPECT_TRUE(UndoJournal::open(path_)->empty());
}

TEST_F(SystemOpsOnKernel, WhatHangsOnTheOwnDeviceIsNotJournalled) {
  start(journalled("t0"));
  ASSERT_TRUE(first_error(carry_out(
      {AddAddress{"t0", prefix("10.99.0.1/32")}, kRoute, kPool, SetSysctl{kForwarding, "1"}})));
  ops_.reset();
  EXPECT_EQ(UndoJournal::open(path_)->pending(), std::vector<SystemRequest>{DelRoute{kPool.route}});
}

TEST_F(SystemOpsOnKernel, MissingSettingsAreErrors) {
  start(journalled());
  const auto answers = carry_out({SetSysctl{"net/ipv4/conf/nosuch0/forwarding", "1"}});
  ASSERT_FALSE(answers[0].ok());
  EXPECT_NE(answers[0].error->where.find("nosuch0"), std::string::npos);
}

TEST_F(SystemOpsOnKernel, RunsNftTransactionsAndTheirUndo) {
  if (access("/usr/sbin/nft", X_OK) != 0) GTEST_SKIP() << "nft is not installed";
  start(journalled());
  const std::string table = R"({"family": "inet", "name": "culvert_test"})";
  const RunNft add{R"({"nftables": [{"add": {"table": )" + table + "}}]}",
                   R"({"nftables": [{"delete": {"table": )" + table + "}}]}"};
  const auto added = carry_out({add});
  ASSERT_TRUE(added[0].ok()) << added[0].error->message();
  const auto wrong = carry_out({RunNft{R"({"nftables": [{"add": {"chain": {}}}]})"}});
  ASSERT_FALSE(wrong[0].ok());
  EXPECT_NE(wrong[0].error->what.find("nft refused"), std::string::npos);
  ops_.reset();

  auto journal = UndoJournal::open(path_).value();
  ASSERT_EQ(journal.pending().size(), 1u);
  EXPECT_TRUE(journal.undo_all(*netlink_));
  // Gone: deleting it again is refused.
  EXPECT_FALSE(execute(*netlink_, RunNft{add.undo}).ok());
}

TEST_F(SystemOpsOnKernel, DestructionDropsWhatWaits) {
  start();
  for (int i = 0; i < 50; ++i) {
    ops_->submit({kRoute, DelRoute{kRoute.route}}, [](const auto&) {});
  }
  ops_.reset();
  EXPECT_EQ(route_count(77), 0u);
}

}  // namespace
}  // namespace culvert::net
