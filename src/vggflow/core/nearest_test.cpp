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

TEST(NearestKeys, FindsEveryKeyThatEndsInTheWord) {
  const std::vector<std::string> keys{"batch", "value_optimizer.lr", "policy_optimizer.lr",
                                      "generator.sd3.height", "bolt"};
  EXPECT_THAT(nearest_keys("lr", keys), ElementsAre("value_optimizer.lr", "policy_optimizer.lr"));
  EXPECT_THAT(nearest_keys("sd3.height", keys), ElementsAre("generator.sd3.height"));
  EXPECT_THAT(nearest_keys("olt", keys), ElementsAre("bolt")) << "parts are whole";
}

TEST(NearestKeys, RanksByTheNearestOfTheLastParts) {
  const std::vector<std::string> keys{"batch", "generator.sd3.height", "generator.guidance"};
  EXPECT_THAT(nearest_keys("hieght", keys), ElementsAre("generator.sd3.height"));
  EXPECT_THAT(nearest_keys("guidence", keys), ElementsAre("generator.guidance"));
  EXPECT_THAT(nearest_keys("batsh", keys), ElementsAre("batch"));
  EXPECT_THAT(nearest_keys("x", {}), IsEmpty());
}

TEST(NearestKeys, DoesNotListAWordThatEndsManyKeys) {
  EXPECT_EQ(nearest_keys("s", {"a.s", "b.s", "c.s", "d.s"}).size(), 1u);
}

TEST(DidYouMean, JoinsWhatMayBeMeant) {
  EXPECT_EQ(did_you_mean({"a"}), "did you mean 'a'?");
  EXPECT_EQ(did_you_mean({"a", "b"}), "did you mean 'a' or 'b'?");
  EXPECT_EQ(did_you_mean({}), "");
}

}  // namespace
}  // namespace vggflow
