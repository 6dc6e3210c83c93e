#include "vggflow/core/home.h"

#include <gtest/gtest.h>

#include "vggflow/testing/variable.h"

namespace vggflow {
namespace {

TEST(WithHome, ExpandsWhereAPathBegins) {
  const testing::Variable home("HOME", "/home/me");
  EXPECT_EQ(with_home("~"), "/home/me");
  EXPECT_EQ(with_home("~/a b/c"), "/home/me/a b/c");
  EXPECT_EQ(with_home("hpsv2=~/h.safetensors"), "hpsv2=/home/me/h.safetensors");
  EXPECT_EQ(with_home("0.5*plugin:~/x.so + plugin:~/y.so"),
            "0.5*plugin:/home/me/x.so + plugin:/home/me/y.so");
}

TEST(WithHome, LeavesEverythingElse) {
  const testing::Variable home("HOME", "/home/me");
  for (const char* text : {"", "a~/b", "runs/~/x", "~user/x", "about ~ 5", "http://host/?of=~/x"})
    EXPECT_EQ(with_home(text), text);
}

TEST(WithHome, AsksTheSystemWhereTheVariableIsEmpty) {
  const testing::Variable home("HOME", "");
  EXPECT_TRUE(with_home("~/x").starts_with("/"));
}

}  // namespace
}  // namespace vggflow
