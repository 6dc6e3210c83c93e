#include "vggflow/core/home.h"

#include <gtest/gtest.h>

#include "vggflow/testing/variable.h"

namespace vggflow {
namespace {

TEST(WithHome, ExpandsWhereAPathBegins) {
  const testing::Variable home("HOME", "/me");
  EXPECT_EQ(with_home("~"), "/me");
  EXPECT_EQ(with_home("~/a b/c"), "/me/a b/c");
  EXPECT_EQ(with_home("hpsv2=~/h.safetensors"), "hpsv2=/me/h.safetensors");
  EXPECT_EQ(with_home("0.5*plugin:~/x.so + plugin:~/y.so"),
            "0.5*plugin:/me/x.so + plugin:/me/y.so");
}

TEST(WithHome, LeavesEverythingElse) {
  const testing::Variable home("HOME", "/me");
  for (const char* text : {"", "a~/b", "runs/~/x", "~user/x", "about ~ 5", "http://host/?of=~/x"})
    EXPECT_EQ(with_home(text), text);
}

TEST(WithHome, AsksTheSystemWhereTheVariableIsEmpty) {
  const testing::Variable home("HOME", "");
  EXPECT_TRUE(with_home("~/x").starts_with("/"));
}

}  // namespace
}  // namespace vggflow
