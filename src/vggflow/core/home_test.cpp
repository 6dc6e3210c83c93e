#include "vggflow/core/home.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pwd.h>

#include <string>

#include "vggflow/testing/message.h"
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
  for (const char* text : {"", "a~/b", "runs/~/x", "about ~ 5", "~ 5 cats", "~no such user", "=~",
                           "~no-such-user-here", "http://host/?of=~/x"})
    EXPECT_EQ(with_home(text), text);
}

TEST(WithHome, ExpandsTheHomeOfAnyUserAndRefusesAUserThatIsNone) {
  const passwd* root = ::getpwuid(0);
  ASSERT_NE(root, nullptr);
  const std::string name = root->pw_name, home = root->pw_dir;
  EXPECT_EQ(with_home("~" + name), home);
  EXPECT_EQ(with_home("~" + name + "/a b"), home + "/a b");
  EXPECT_EQ(with_home("plugin:~" + name + "/x.so"), "plugin:" + home + "/x.so");
  EXPECT_EQ(with_home("~" + name + " the cat"), "~" + name + " the cat");
  const std::string message = testing::message_of([] { with_home("~no-such-user-here/runs"); });
  EXPECT_THAT(message, ::testing::HasSubstr("there is no user 'no-such-user-here'"));
  EXPECT_THAT(message, ::testing::HasSubstr("'./~no-such-user-here' for a folder of that name"));
}

TEST(WithHome, AsksTheSystemWhereTheVariableIsEmpty) {
  const testing::Variable home("HOME", "");
  EXPECT_TRUE(with_home("~/x").starts_with("/"));
}

}  // namespace
}  // namespace vggflow
