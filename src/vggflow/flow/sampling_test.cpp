#include "vggflow/flow/sampling.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "vggflow/core/error.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

// 20-step grids as diffusers' FlowMatchEulerDiscreteScheduler makes them at shift 3.
TEST(TimeGrid, GivesDiffusersDoubleShiftAndTheSingleShift) {
  const auto twice = time_grid({.steps = 20, .kind = "diffusers_default", .shift = 3.0});
  ASSERT_EQ(twice.size(), 21u);
  EXPECT_NEAR(1 - twice[1], 0.9819, 1e-4);
  EXPECT_NEAR(1 - twice[15], 0.4479, 1e-4);
  EXPECT_NEAR(1 - twice[19], 0.0089, 1e-4);
  const auto once = time_grid({.steps = 20, .kind = "single_shift", .shift = 3.0});
  EXPECT_NEAR(1 - once[1], 0.9828, 1e-4);
  EXPECT_NEAR(1 - once[19], 0.1364, 1e-4);
}

TEST(TimeGrid, ExplicitLevelsAreUsedAsGiven) {
  EXPECT_THAT(time_grid({.steps = 2, .kind = "explicit", .sigmas = {1.0, 0.25}}),
              ::testing::ElementsAre(0.0, 0.75, 1.0));
}

TEST(TimeGrid, RefusesLevelsThatDoNotDecrease) {
  EXPECT_THAT(testing::message_of(
                  [] { time_grid({.steps = 3, .kind = "explicit", .sigmas = {1.0, 0.25}}); }),
              ::testing::HasSubstr("expected as many steps as the explicit grid has noise levels, "
                                   "2, got 3: leave steps out"));
  EXPECT_THAT(
      testing::message_of([] { time_grid({.kind = "explicit", .sigmas = {1.0, 0.5, 0.5}}); }),
      ::testing::HasSubstr("strictly decreasing noise levels, got 0.5 after 0.5"));
}

// x' = a x has x(1) = e^a x(0); Euler with n steps gives (1 + a/n)^n.
TEST(Euler, IntegratesALinearFieldAsItsClosedForm) {
  const Tensor x0 = at::ones({2, 3}, at::kDouble);
  const auto velocity = [](const Tensor& x, const Tensor&) { return -0.7 * x; };
  const auto trajectory = integrate(velocity, x0, time_grid({.steps = 50}));
  EXPECT_EQ(trajectory.states.size(), 51u);
  EXPECT_NEAR(trajectory.final_state()[0][0].item<double>(), std::pow(1 - 0.7 / 50, 50), 1e-12);
  EXPECT_TRUE(at::equal(sample(velocity, x0, time_grid({.steps = 50})), trajectory.final_state()));
}

TEST(Euler, OneStepGuessIsExactOnStraightPaths) {
  const Tensor x1 = at::full({2, 3}, 4.0), x0 = at::full({2, 3}, -1.0),
               t = at::tensor({0.25f, 0.5f});
  const Tensor x = expand_time(t, x0) * x1 + (1 - expand_time(t, x0)) * x0;
  EXPECT_TRUE(at::allclose(one_step_guess(x, t, x1 - x0), x1));
}

}  // namespace
}  // namespace vggflow
