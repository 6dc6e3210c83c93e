#include "vggflow/core/secret.h"

#include <gtest/gtest.h>

namespace vggflow {
namespace {

TEST(WithoutPassword, LeavesUserAndPasswordOut) {
  EXPECT_EQ(without_password("http://me:pass@host:80/score"), "http://host:80/score");
  EXPECT_EQ(without_password("https://token@host"), "https://host");
  EXPECT_EQ(without_password("http://me:p@ss(w,o)rd@host/x"), "http://host/x");
  EXPECT_EQ(without_password("a + 0.5*http://u:p@h/s#batch=8 + http://v:q@i"),
            "a + 0.5*http://h/s#batch=8 + http://i");
}

TEST(WithoutPassword, LeavesEverythingElse) {
  for (const char* text : {"", "me@host", "http://host/a@b", "http://host?mail=a@b", "http://",
                           "a://b://c", "http://h and me@host"})
    EXPECT_EQ(without_password(text), text);
}

TEST(WithPassword, GivesTheRequestWhatWasKept) {
  EXPECT_EQ(keep_password("0.5*(http://one:1@secret.test/a) + http://two:2@secret.test/b#batch=1"),
            "0.5*(http://secret.test/a) + http://secret.test/b#batch=1");
  EXPECT_EQ(with_password("http://secret.test/a"), "http://one:1@secret.test/a");
  EXPECT_EQ(with_password("http://secret.test/b"), "http://two:2@secret.test/b");
  EXPECT_EQ(with_password("http://secret.test/c"), "http://secret.test/c");
  EXPECT_EQ(with_password("https://secret.test/a"), "https://secret.test/a");
  EXPECT_EQ(with_password("http://secret.test/ab"), "http://secret.test/ab");
  EXPECT_EQ(with_password("http://secret.test/a/b?c"), "http://one:1@secret.test/a/b?c");
}

TEST(Secret, FoldersOfThisMachineStayOutOfWhatIsGivenOn) {
  EXPECT_EQ(without_folders("/opt/me/models/sd3/"), "sd3");
  EXPECT_EQ(without_folders("0.5*plugin:/opt/my files/my.so?k=1 + colorfulness"),
            "0.5*plugin:my.so?k=1 + colorfulness");
  EXPECT_EQ(without_folders("clip-vit-l14=/data/clip"), "clip-vit-l14=clip");
  EXPECT_EQ(without_folders("(plugin:/a/b.so) + https://host/score"),
            "(plugin:b.so) + https://host/score");
  EXPECT_EQ(without_folders("runs/mine"), "runs/mine") << "says nothing of the machine";
  EXPECT_EQ(without_folders("stabilityai/stable-diffusion-3.5-medium"),
            "stabilityai/stable-diffusion-3.5-medium");
  EXPECT_EQ(without_folders("/"), "");
  EXPECT_EQ(without_folders(""), "");
}

}  // namespace
}  // namespace vggflow
