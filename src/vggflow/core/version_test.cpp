#include "vggflow/core/version.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vggflow {
namespace {

TEST(Version, NamesTheReleaseAndTheCommit) {
  EXPECT_THAT(version(), testing::MatchesRegex("[0-9]+[.][0-9]+[.][0-9]+"));
  EXPECT_THAT(commit(), testing::MatchesRegex("unknown|[0-9a-f]+(-dirty)?"));
}

}  // namespace
}  // namespace vggflow
