// Quantiles as the tables of Student's distribution have them.
#include "vggflow/metrics/student.h"

#include <gtest/gtest.h>

#include <optional>
#include <utility>

namespace vggflow {
namespace {

TEST(Student, GivesTheQuantilesOfTheTables) {
  for (const auto& [degrees, quantile] : {std::pair{1, 12.706205},
                                          {2, 4.302653},
                                          {3, 3.182446},
                                          {4, 2.776445},
                                          {7, 2.364624},
                                          {19, 2.093024},
                                          {20, 2.085963},
                                          {100, 1.983972},
                                          {1000000, 1.959964}})
    EXPECT_NEAR(student_quantile(0.95, degrees), quantile, 3e-4) << degrees;
  EXPECT_NEAR(student_quantile(0.99, 7), 3.499483, 1e-6);
}

TEST(Student, CallsNothingAFallThatFewPromptsCannotTellFromChance) {
  EXPECT_FALSE(fell_beyond_chance({-5, 1, 2})) << "two prompts, five standard errors";
  EXPECT_FALSE(fell_beyond_chance({-5, 1, kLeastValues - 1}));
  EXPECT_TRUE(fell_beyond_chance({-5, 1, kLeastValues}));
  EXPECT_FALSE(fell_beyond_chance({-2.5, 1, kLeastValues})) << "2.5 < t(4) = 2.78";
  EXPECT_TRUE(fell_beyond_chance({-2.5, 1, 20}));
  EXPECT_FALSE(fell_beyond_chance({5, 1, 20}));
  EXPECT_FALSE(fell_beyond_chance({-5, std::nullopt, 1}));
  EXPECT_TRUE(fell_beyond_chance({-15, 1, 2}, /*least=*/2));
  EXPECT_FALSE(fell_beyond_chance({-12, 1, 2}, /*least=*/2)) << "12 < t(1) = 12.7";
}

}  // namespace
}  // namespace vggflow
