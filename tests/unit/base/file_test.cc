#include "common/base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace culvert {
namespace {

class FileTest : public testing::Test {
 protected:
  FileTest() {
    std::string name = testing::TempDir() + "culvert_file_XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    path_ = name + "/file";
  }
  ~FileTest() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] static mode_t mode_of(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(lstat(path.c_str(), &info), 0);
    return info.st_mode & 07777U;
  }
  [[nodiscard]] int files() const {
    const std::filesystem::directory_iterator entries(folder_);
    return static_cast<int>(std::distance(begin(entries), end(entries)));
  }

  std::string folder_, path_;
};

TEST_F(FileTest, CreatesWithExactlyTheModeAndReadsBack) {
  const mode_t before = umask(0027);
  for (const mode_t mode : {0600U, 0644U, 0666U}) {
    const std::string path = path_ + std::to_string(mode);
    ASSERT_TRUE(create_file(path, "content", {.mode = mode, .owner = {}}));
    EXPECT_EQ(mode_of(path), mode);
    EXPECT_EQ(read_file(path).value(), "content");
  }
  umask(before);
}

TEST_F(FileTest, NeverOverwritesAndNeverFollowsALink) {
  ASSERT_TRUE(create_file(path_, "first"));
  const auto second = create_file(path_, "second");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kUsage);
  EXPECT_FALSE(second.error().hint.empty());
  EXPECT_EQ(read_file(path_).value(), "first");

  const std::string link = folder_ + "/link", target = folder_ + "/target";
  ASSERT_EQ(symlink(target.c_str(), link.c_str()), 0);
  EXPECT_FALSE(create_file(link, "through the link"));
  EXPECT_NE(access(target.c_str(), F_OK), 0);
}

TEST_F(FileTest, ReplacesAtomicallyAndKeepsTheMode) {
  ASSERT_TRUE(replace_file(path_, "first"));
  EXPECT_EQ(mode_of(path_), 0600U);
  ASSERT_EQ(chmod(path_.c_str(), 0640), 0);
  std::ifstream reader(path_);  // has the old file open
  ASSERT_TRUE(replace_file(path_, "second, and longer"));
  EXPECT_EQ(mode_of(path_), 0640U);
  EXPECT_EQ(read_file(path_).value(), "second, and longer");
  std::string old;
  std::getline(reader, old);
  EXPECT_EQ(old, "first") << "readers see the one or the other";
  ASSERT_TRUE(replace_file(path_, "third", FileAttributes{.mode = 0600, .owner = {}}));
  EXPECT_EQ(mode_of(path_), 0600U);
  EXPECT_EQ(files(), 1) << "no temporary file stays";
}

TEST_F(FileTest, LeavesNothingBehindWhenItFails) {
  EXPECT_FALSE(create_file(folder_ + "/no/file", "x"));
  EXPECT_FALSE(replace_file(folder_ + "/no/file", "x"));
  ASSERT_EQ(mkdir(path_.c_str(), 0700), 0);
  EXPECT_FALSE(replace_file(path_, "x")) << "a folder is in the way";
  EXPECT_EQ(files(), 1);
}

TEST_F(FileTest, RefusesWhatIsNoSmallRegularFile) {
  EXPECT_EQ(read_file(path_).error().code, ErrorCode::kUsage) << "not there";
  EXPECT_EQ(read_file(folder_).error().code, ErrorCode::kUsage) << "a folder";
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(read_file(path_).error().code, ErrorCode::kUsage) << "a pipe, without waiting for it";
  const std::string large = folder_ + "/large";
  ASSERT_TRUE(create_file(large, "12345"));
  EXPECT_EQ(read_file(large, 4).error().code, ErrorCode::kUsage);
  EXPECT_EQ(read_file(large, 5).value(), "12345");
}

TEST_F(FileTest, ReadsAnEmptyFile) {
  ASSERT_TRUE(create_file(path_, ""));
  EXPECT_EQ(read_file(path_).value(), "");
  EXPECT_TRUE(read_secret_file(path_).value().empty());
}

TEST(ParentPath, IsTheFolder) {
  EXPECT_EQ(parent_path("/a/b"), "/a");
  EXPECT_EQ(parent_path("/a"), "/");
  EXPECT_EQ(parent_path("/"), "/");
  EXPECT_EQ(parent_path("b"), ".");
  EXPECT_EQ(parent_path("a/b/c"), "a/b");
  EXPECT_EQ(parent_path(""), ".");
}

}  // namespace
}  // namespace culvert
