#include "vggflow/page/file_follower.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "vggflow/io/files.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

void append(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file, std::ios::app) << text;
}

TEST(FileFollower, GivesWholeLinesOnceAndWaitsForTheRestOfOne) {
  const testing::TemporaryFolder folder;
  FileFollower follower(folder / "log");
  EXPECT_THAT(follower.read().lines, IsEmpty()) << "it is not there yet";
  append(folder / "log", "one\ntwo\nthr");
  EXPECT_THAT(follower.read().lines, ElementsAre("one", "two"));
  append(folder / "log", "ee\n");
  const auto news = follower.read();
  EXPECT_THAT(news.lines, ElementsAre("three"));
  EXPECT_FALSE(news.anew);
  EXPECT_THAT(follower.read().lines, IsEmpty());
}

TEST(FileFollower, BeginsAgainWhereTheFileWasReplacedOrCut) {
  const testing::TemporaryFolder folder;
  FileFollower follower(folder / "log");
  append(folder / "log", "one\ntwo\nhalf");
  follower.read();
  write_text(folder / "log", "one\nanother\nlonger than before\n");  // another file by that name
  auto news = follower.read();
  EXPECT_TRUE(news.anew);
  EXPECT_THAT(news.lines, ElementsAre("one", "another", "longer than before"));
  std::filesystem::resize_file(folder / "log", 4);
  news = follower.read();
  EXPECT_TRUE(news.anew);
  EXPECT_THAT(news.lines, ElementsAre("one"));
}

TEST(FileFollower, ReadsTheEndOfALongFileFromAWholeLineOn) {
  const testing::TemporaryFolder folder;
  write_text(folder / "log", "first\nsecond\nthird\n");
  FileFollower follower(folder / "log", /*last=*/9);
  EXPECT_THAT(follower.read().lines, ElementsAre("third"));
}

TEST(FileFollower, LeavesOutLinesThatAreTooLongAndWhatIsNoFile) {
  const testing::TemporaryFolder folder;
  write_text(folder / "log", std::string(3 << 20, 'x') + "\nshort\n");
  FileFollower follower(folder / "log");
  EXPECT_THAT(follower.read().lines, ElementsAre("short"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink(folder / "log", folder / "link");
  for (const char* name : {"pipe", "link", "."}) {
    EXPECT_THAT(FileFollower(folder / name).read().lines, IsEmpty()) << name;
    EXPECT_EQ(read_plain_file(folder / name, 1 << 30), "") << name;
  }
  EXPECT_EQ(read_plain_file(folder / "log", 100), "") << "it has more";
}

}  // namespace
}  // namespace vggflow
