// A run's folder: whose it is, and what of it is left.
#include "vggflow/train/run_folder.h"

#include <fmt/format.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "vggflow/core/shell_word.h"
#include "vggflow/io/files.h"
#include "vggflow/io/folder_lock.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

TEST(RunFolder, TakesAwayWhatItMadeAndNothingElse) {
  const testing::TemporaryFolder outer;
  {
    const RunFolder folder(outer / "a/b/c/");
  }
  EXPECT_FALSE(fs::exists(outer / "a"));
  make_writable_folder(outer / "a/b");
  write_text(outer / "a/b/console.txt", "mine");
  {
    const RunFolder folder(outer / "a/b");
    write_text(outer / "a/b/config.yaml", "");
    make_writable_folder(outer / "a/b/grids");
  }
  EXPECT_FALSE(fs::exists(outer / "a/b/config.yaml"));
  EXPECT_FALSE(fs::exists(outer / "a/b/grids"));
  EXPECT_EQ(read_text(outer / "a/b/console.txt"), "mine");
}

TEST(RunFolder, StaysOnceThereIsAResult) {
  const testing::TemporaryFolder outer;
  {
    const RunFolder folder(outer / "run");
    write_text(outer / "run/metrics.jsonl", "{\"kind\":\"update\",\"update\":1}\n");
  }
  EXPECT_TRUE(fs::exists(outer / "run/metrics.jsonl"));
  EXPECT_TRUE(holds_results(outer / "run"));
}

TEST(RunFolder, ClearsWhatDeadProcessesLeftHalfWritten) {
  const testing::TemporaryFolder outer;
  make_writable_folder(outer / "checkpoints/.tmp-00ff00ff00ff00ff-update_000004");
  for (const char* left : {".tmp-71-config.yaml", ".tmp-mine", ".tmp-12", "checkpoints/notes"})
    write_text(outer / left, "");
  const RunFolder folder(outer.path());
  EXPECT_FALSE(fs::exists(outer / ".tmp-71-config.yaml"));
  EXPECT_FALSE(fs::exists(outer / "checkpoints/.tmp-00ff00ff00ff00ff-update_000004"));
  for (const char* kept : {".tmp-mine", ".tmp-12", "checkpoints/notes"})
    EXPECT_TRUE(fs::exists(outer / kept)) << kept;
}

// The holder is killed, so that it cannot clean up.
TEST(FolderLock, DiesWithItsProcess) {
  const testing::TemporaryFolder folder;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const FolderLock lock(folder.path());
    (void)!::write(ready[1], "x", 1);
    ::pause();
    ::_exit(0);
  }
  char byte;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_THAT(testing::message_of([&] { const FolderLock second(folder.path()); }),
              HasSubstr(fmt::format("is in use by process {}", child)));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_NO_THROW({ const FolderLock now(folder.path()); });
}

TEST(ShellWord, QuotesWhatAShellWouldRead) {
  EXPECT_EQ(shell_word("runs/nano-1.5/config.yaml"), "runs/nano-1.5/config.yaml");
  EXPECT_EQ(shell_word("my runs/a"), "'my runs/a'");
  EXPECT_EQ(shell_word("it's"), "'it'\\''s'");
  EXPECT_EQ(shell_word(""), "''");
  EXPECT_EQ(shell_words({"prompts=[a, b]", "x=1"}), "'prompts=[a, b]' x=1");
}

}  // namespace
}  // namespace vggflow
