#include "vggflow/io/staged_output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iterator>

#include "vggflow/io/files.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;

TEST(StagedOutput, HasItsNameOnceItIsCommittedAndIsGoneOtherwise) {
  const testing::TemporaryFolder folder;
  fs::create_directories(folder / "new");
  {
    StagedOutput file(folder / "new/a.safetensors"), dropped(folder / "new/b");
    EXPECT_EQ(file.path().extension(), ".safetensors");
    write_text(file.path(), "whole");
    fs::create_directories(dropped.path() / "inside");
    EXPECT_FALSE(fs::exists(folder / "new/a.safetensors"));
    file.commit();
  }
  EXPECT_EQ(read_text(folder / "new/a.safetensors"), "whole");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "new"), fs::directory_iterator{}), 1);
}

TEST(StagedOutput, LeavesWhatIsThereAlone) {
  const testing::TemporaryFolder folder;
  write_text(folder / "a", "old");
  EXPECT_THAT(message_of([&] { StagedOutput again(folder / "a"); }),
              HasSubstr("exists already: choose another name or remove it"));
  StagedOutput late(folder / "b");
  write_text(late.path(), "new");
  write_text(folder / "b", "old");
  EXPECT_THAT(message_of([&] { late.commit(); }), HasSubstr("exists already"));
  EXPECT_EQ(read_text(folder / "a") + read_text(folder / "b"), "oldold");
}

TEST(StagedOutput, RefusesAFilesNameForAFolder) {
  for (const char* name : {"x.ckpt", "x.safetensors", "dir/x.pt"}) {
    EXPECT_THAT(
        message_of([&] { expect_folder_name(name, "diffusers' layout"); }),
        HasSubstr("reads as the name of a file, but diffusers' layout is a folder: leave out '."))
        << name;
  }
  for (const char* name : {"stable-diffusion-3.5-medium", "mine.v2", "plain"})
    expect_folder_name(name, "it");
}

}  // namespace
}  // namespace vggflow
