// The measurement of g on the nano that ships, small: what it must say of choices whose answer is
// known, and that the coarse adjoint keeps what docs/coarse-adjoint.md promises of it.
#include "vggflow/train/value_gradient.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;

std::map<std::string, ValueGradientRow> rows_at(double guidance, const std::string& reward) {
  ValueGradientOptions o;
  o.guidance = {guidance};
  o.rewards = {reward};
  o.grids = {"single_shift:20:1"};
  o.prompts = 6;
  std::map<std::string, ValueGradientRow> out;
  check_value_gradient(o, {}, [&](const ValueGradientTable& table) {
    EXPECT_EQ(table.guidance, guidance);
    for (const ValueGradientRow& row : table.rows) out[row.name] = row;
  });
  return out;
}

TEST(ValueGradient, OfNanoIsTheLeanAdjointsByCoarseOnesAndNotByTheGuess) {
  for (const double guidance : {3.0, 5.0}) {
    const auto rows = rows_at(guidance, guidance == 3 ? "colorfulness" : "emoji-clip");
    EXPECT_NEAR(rows.at("PMP, lean").cosine.mean, 1, 1e-9);
    EXPECT_NEAR(rows.at("PMP, lean").gain.mean, 1, 1e-9);
    EXPECT_NEAR(rows.at("PMP, lean").ratio, 1, 1e-9);
    EXPECT_EQ(rows.at("PMP, lean").passes, 140);
    EXPECT_EQ(rows.at("one-step guess, t^2").passes, 60);
    EXPECT_EQ(rows.at("coarse 3").pulls, 3);
    EXPECT_LT(rows.at("one-step guess, t^2").cosine.mean, 0.55);
    EXPECT_LT(rows.at("end point, t^2").cosine.mean, 0.6);
    EXPECT_GT(rows.at("coarse 5").cosine.mean, guidance == 3 ? 0.92 : 0.86);
    EXPECT_GT(rows.at("coarse 8").cosine.mean, 0.9);
    EXPECT_GT(rows.at("coarse 8").gain.mean, rows.at("one-step guess, t^2").gain.mean + 0.2);
  }
}

TEST(ValueGradient, RefusesAGridThatItCannotRead) {
  ValueGradientOptions o;
  o.prompts = 1;
  o.grids = {"uniform"};
  EXPECT_THAT(testing::message_of([&] { check_value_gradient(o, {}, [](const auto&) {}); }),
              HasSubstr("[value_gradient] expected a grid as KIND:STEPS:SHIFT, got 'uniform'"));
}

}  // namespace
}  // namespace vggflow
