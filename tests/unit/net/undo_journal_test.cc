#include "common/net/undo_journal.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include "tests/unit/net/temporary_folder.h"

namespace culvert::net {
namespace {

SystemRequest route(int i) {
  return DelRoute{
      {.destination = Prefix::host(IpAddress::v4(0x0a000000u + static_cast<unsigned>(i))),
       .device = "culvert0",
       .table = 77}};
}

using Requests = std::vector<SystemRequest>;

class UndoJournalFile : public ::testing::Test {
 protected:
  UndoJournal open() {
    auto journal = UndoJournal::open(path_);
    EXPECT_TRUE(journal) << journal.error().message();
    return *std::move(journal);
  }
  std::string content() const {
    std::ostringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }
  void write(const std::string& text) const { std::ofstream(path_) << text; }

  testing::TemporaryFolder folder_;
  std::string path_ = folder_.file("client-office.undo");
};

TEST_F(UndoJournalFile, BeginsEmptyAndPrivate) {
  const UndoJournal journal = open();
  EXPECT_TRUE(journal.empty());
  struct stat info {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(UndoJournalFile, GivesBackNewestFirstAfterAKill) {
  {
    UndoJournal journal = open();
    for (int i = 1; i <= 3; ++i)
      ASSERT_TRUE(journal.record(route(i)));
  }
  UndoJournal journal = open();
  EXPECT_EQ(journal.pending(), (Requests{route(3), route(2), route(1)}));
  // Numbers go on, so that striking hits the right entry.
  ASSERT_TRUE(journal.record(route(4)));
  journal.strike(route(4));
  EXPECT_EQ(journal.pending(), (Requests{route(3), route(2), route(1)}));
}

TEST_F(UndoJournalFile, StruckEntriesStayStruck) {
  {
    UndoJournal journal = open();
    for (int i = 1; i <= 3; ++i)
      ASSERT_TRUE(journal.record(route(i)));
    journal.strike(route(2));
    journal.strike(route(9));
    EXPECT_FALSE(journal.contains(route(2)));
  }
  EXPECT_EQ(open().pending(), (Requests{route(3), route(1)}));
}

// Else one strike would end two changes, on file but not in memory.
TEST_F(UndoJournalFile, ANumberIsGivenOnce) {
  const std::string first = to_text(route(1));
  const std::string second = to_text(route(2));
  write("culvert-undo 1\n+5 " + first + "\n+5 " + second + "\n+3 " + second + "\n");
  UndoJournal journal = open();
  EXPECT_EQ(journal.pending(), Requests{route(1)});
  EXPECT_EQ(journal.unreadable(), 2u);
}

TEST_F(UndoJournalFile, NumbersDoNotStartOver) {
  const std::string largest = "+9223372036854775807 " + to_text(route(1)) + "\n";
  write("culvert-undo 1\n" + largest);
  {
    UndoJournal journal = open();
    EXPECT_EQ(journal.pending(), Requests{route(1)});
    EXPECT_FALSE(journal.record(route(2)));
    EXPECT_EQ(journal.pending(), Requests{route(1)});
  }
  EXPECT_EQ(content(), "culvert-undo 1\n" + largest);
}

TEST_F(UndoJournalFile, StrikingTakesTheNewestOfEquals) {
  UndoJournal journal = open();
  for (const int i : {1, 2, 1})
    ASSERT_TRUE(journal.record(route(i)));
  journal.strike(route(1));
  EXPECT_EQ(journal.pending(), (Requests{route(2), route(1)}));
}

TEST_F(UndoJournalFile, ShrinksWhenNothingIsLeft) {
  UndoJournal journal = open();
  const std::string empty = content();
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(journal.record(route(1)));
    EXPECT_GT(content().size(), empty.size());
    journal.strike(route(1));
    EXPECT_EQ(content(), empty);
  }
  ASSERT_TRUE(journal.record(route(1)));
  journal.settle();
  EXPECT_TRUE(journal.empty());
  EXPECT_EQ(content(), empty);
}

TEST_F(UndoJournalFile, SurvivesBeingCutAtAnyByte) {
  {
    UndoJournal journal = open();
    ASSERT_TRUE(journal.record(route(1)));
    ASSERT_TRUE(journal.record(route(2)));
    journal.strike(route(1));
  }
  const std::string whole = content();
  for (size_t length = 0; length <= whole.size(); ++length) {
    write(whole.substr(0, length));
    UndoJournal journal = open();
    EXPECT_EQ(journal.unreadable(), 0u) << length;
    const size_t before = journal.pending().size();
    ASSERT_TRUE(journal.record(route(3)));
    ASSERT_EQ(journal.pending().size(), before + 1);
    EXPECT_EQ(journal.pending().front(), route(3)) << length;
  }
}

TEST_F(UndoJournalFile, KeepsWhatItUnderstandsAndCountsTheRest) {
  write("culvert-undo 1\n+1 " + to_text(route(1)) +
        "\n+2 launch_missiles target=all\nnoise\n+ \n-x\n-7 trailing\n+0 " + to_text(route(2)) +
        "\n");
  UndoJournal journal = open();
  EXPECT_EQ(journal.pending(), Requests{route(1)});
  EXPECT_EQ(journal.unreadable(), 6u);
}

TEST_F(UndoJournalFile, RefusesAFileOfAnotherKind) {
  write("# my notes\nbuy milk\n");
  const auto journal = UndoJournal::open(path_);
  ASSERT_FALSE(journal);
  EXPECT_EQ(journal.error().where, path_);
  EXPECT_EQ(content(), "# my notes\nbuy milk\n");
}

TEST_F(UndoJournalFile, BelongsToOneProcessAtATime) {
  {
    const UndoJournal journal = open();
    const auto second = UndoJournal::open(path_);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::kAlreadyUp);
  }
  EXPECT_TRUE(UndoJournal::open(path_));
}

TEST_F(UndoJournalFile, DoesNotFollowALink) {
  ASSERT_EQ(symlink("/etc/passwd", path_.c_str()), 0);
  EXPECT_FALSE(UndoJournal::open(path_));
}

TEST_F(UndoJournalFile, UndoesNewestFirstAndKeepsWhatFailed) {
  UndoJournal journal = open();
  for (int i = 1; i <= 3; ++i)
    ASSERT_TRUE(journal.record(route(i)));
  Requests undone;
  const auto status = journal.undo_all([&](const SystemRequest& request) -> Status {
    undone.push_back(request);
    if (request == route(2)) return fail(ErrorCode::kFailure, "busy");
    return {};
  });
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().what, "busy");
  EXPECT_EQ(undone, (Requests{route(3), route(2), route(1)}));
  EXPECT_EQ(journal.pending(), Requests{route(2)});
}

TEST_F(UndoJournalFile, IsRemovedWithoutATrace) {
  UndoJournal journal = open();
  journal.remove();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(UndoJournalFile, AFullDiskForbidsTheChange) {
  auto journal = UndoJournal::open("/dev/full");
  EXPECT_FALSE(journal);
}

}  // namespace
}  // namespace culvert::net
