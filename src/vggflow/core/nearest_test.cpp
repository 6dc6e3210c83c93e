#include "vggflow/core/nearest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(EditDistance, CountsInsertionsDeletionsAndReplacements) {
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("sitting", "kitten"), 3);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("abc", ""), 3);
  EXPECT_EQ(edit_distance("abc", "abc"), 0);
  EXPECT_EQ(edit_distance("ab", "ba"), 2);
}

TEST(Nearest, RanksByEditDistanceThenAlphabet) {
  EXPECT_THAT(nearest("lerning_rate", {"steps", "learning_rate", "rate"}, 1),
              ElementsAre("learning_rate"));
  EXPECT_THAT(nearest("cat", {"bat", "dog", "cats", "cat"}, 3), ElementsAre("cat", "bat", "cats"));
}

TEST(Nearest, GivesAllWhenThereAreFewerThanAskedFor) {
  EXPECT_THAT(nearest("a", {"b"}, 3), ElementsAre("b"));
  EXPECT_THAT(nearest("a", {}, 3), IsEmpty());
}

}  // namespace
}  // namespace vggflow
