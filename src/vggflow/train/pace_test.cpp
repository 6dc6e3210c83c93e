#include "vggflow/train/pace.h"

#include <gtest/gtest.h>

namespace vggflow {
namespace {

TEST(Pace, CountsTheEvaluationsThatAreStillToCome) {
  const Pace even(60, 30), odd(50, 20), once(3, 100);
  EXPECT_EQ(even.evaluations_left(0), 2);
  EXPECT_EQ(even.evaluations_left(29), 2);
  EXPECT_EQ(even.evaluations_left(30), 1);
  EXPECT_EQ(even.evaluations_left(60), 0);
  EXPECT_EQ(odd.evaluations_left(0), 3) << "after 20, 40 and 50";
  EXPECT_EQ(odd.evaluations_left(40), 1);
  EXPECT_EQ(once.evaluations_left(0), 1);
}

// An ETA of updates alone said 60 s here.
TEST(Pace, AddsEvaluationsToTheTimeOfTheUpdatesLeft) {
  Pace pace(60, 30);
  EXPECT_FALSE(pace.seconds_left(0));
  pace.base(80);
  pace.update(1.5);
  pace.update(2.5);
  EXPECT_DOUBLE_EQ(*pace.seconds_left(2), 58 * 2 + 2 * 40);
  pace.evaluation(30);
  EXPECT_DOUBLE_EQ(*pace.seconds_left(30), 30 * 2 + 30);
  EXPECT_DOUBLE_EQ(*pace.seconds_left(60), 0);
}

}  // namespace
}  // namespace vggflow
