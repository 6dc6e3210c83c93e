#include "vggflow/core/shipped_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;

// This program stands in a checkout's build folder; tests/installed.sh shows the installed one.
class ShippedFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    before_ = fs::current_path();
    fs::current_path(folder_.path());
  }
  void TearDown() override { fs::current_path(before_); }
  const testing::TemporaryFolder folder_;
  fs::path before_;
};

TEST_F(ShippedFiles, AreThoseOfTheWorkingFolderFirst) {
  fs::create_directories("models/nano");
  EXPECT_EQ(find_shipped("models/nano"), "models/nano");
  EXPECT_EQ(require_shipped("models/nano", "model"), "models/nano");
}

TEST_F(ShippedFiles, AreElseThoseOfTheProgramsCheckout) {
  EXPECT_EQ(find_shipped("models/nano"), fs::path(VGGFLOW_SOURCE_DIR) / "models/nano");
  EXPECT_EQ(find_shipped("configs/nano.yaml"), fs::path(VGGFLOW_SOURCE_DIR) / "configs/nano.yaml");
}

TEST_F(ShippedFiles, AreNamedWithEveryPlaceThatWasLookedAt) {
  const fs::path program = fs::read_symlink("/proc/self/exe").parent_path();
  const std::string message = message_of([] { require_shipped("models/no-such", "judge"); });
  EXPECT_THAT(message, HasSubstr("[judge] expected a file or folder at models/no-such or "));
  EXPECT_THAT(message, HasSubstr((program / "models/no-such").string()));
  EXPECT_EQ(find_shipped("models/no-such"), "models/no-such");
}

TEST_F(ShippedFiles, AreNoFoldersOfTheUsersOwn) {
  EXPECT_EQ(places_of("mine/nano"), "mine/nano");
  EXPECT_EQ(places_of("/models/nano"), "/models/nano");
}

}  // namespace
}  // namespace vggflow
