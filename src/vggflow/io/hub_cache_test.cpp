#include "vggflow/io/hub_cache.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace vggflow {
namespace {

TEST(ExpandPath, FollowsPythonsOsPath) {
  ::setenv("HOME", "/nowhere/someone/", 1);
  ::setenv("VGGFLOW_TEST_A", "x y", 1);
  ::unsetenv("VGGFLOW_TEST_B");
  for (const auto& [text, want] : std::vector<std::pair<std::string, std::string>>{
           {"~", "/nowhere/someone"},
           {"~/x", "/nowhere/someone/x"},
           {"a/~", "a/~"},
           {"~no-such-user-here/x", "~no-such-user-here/x"},
           {"$VGGFLOW_TEST_A/b", "x y/b"},
           {"a${VGGFLOW_TEST_A}b$VGGFLOW_TEST_A", "ax ybx y"},
           {"$VGGFLOW_TEST_B/${VGGFLOW_TEST_B}", "$VGGFLOW_TEST_B/${VGGFLOW_TEST_B}"},
           {"$", "$"},
           {"", ""}})
    EXPECT_EQ(expand_path(text), want) << text;
}

}  // namespace
}  // namespace vggflow
