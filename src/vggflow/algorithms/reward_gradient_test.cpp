// Bounds, balance and transforms of reward gradients, on rewards whose gradients are known.
#include "vggflow/algorithms/reward_gradient.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "vggflow/proofs/analytic_problems.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using namespace analytic;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<double> numbers(const Tensor& x) {
  const Tensor c = x.to(at::kDouble).contiguous();
  return {c.const_data_ptr<double>(), c.const_data_ptr<double>() + c.numel()};
}

RewardClipOptions clip_of(const std::string& kind, double quantile = 0.8) {
  RewardClipOptions clip;
  clip.kind = kind;
  clip.quantile = quantile;
  return clip;
}

// r = -|x|^2 / 2: the gradient is -x.
Problem bowl(double second_weight = 0) {
  const Tensor one = at::eye(3, at::kDouble), zero = at::zeros({3}, at::kDouble);
  std::vector<RewardPtr> rewards{std::make_shared<Quadratic>(one, zero)};
  std::vector<double> weights{1};
  if (second_weight != 0) {
    rewards.push_back(std::make_shared<Quadratic>(100 * one, zero));
    weights.push_back(second_weight);
  }
  return Problem(std::make_shared<LinearField>(0 * one), rewards, weights,
                 std::make_shared<LinearField>(0 * one));
}

Tensor points_of_norms(const std::vector<double>& norms) {
  Tensor x = at::zeros({static_cast<int64_t>(norms.size()), 3}, at::kDouble);
  x.select(1, 1).copy_(vector(norms));
  return x;
}

TEST(RewardGradients, AreBoundedAtTheQuantileOfTheCurrentBatch) {
  Problem problem = bowl();
  const RewardGradients r = reward_gradients(problem, clip_of("quantile", 0.5),
                                             points_of_norms({1, 2, 1, 10, 20}), at::arange(5), 2);
  EXPECT_DOUBLE_EQ(r.threshold, 2.0);
  EXPECT_THAT(numbers(r.factor), ElementsAre(1.0, 1.0, 1.0, 0.2, 0.1));
  EXPECT_NEAR(r.gradient[4].norm().item<double>(), 2.0, 1e-12);
  EXPECT_THAT(numbers(r.reward), ElementsAre(-0.5, -2, -0.5, -50, -200));
}

TEST(RewardGradients, AreBoundedAtAFixedNormOrNotAtAll) {
  Problem problem = bowl();
  RewardClipOptions clip = clip_of("norm");
  clip.norm = 4;
  EXPECT_THAT(
      numbers(reward_gradients(problem, clip, points_of_norms({1, 8}), at::arange(2), 2).factor),
      ElementsAre(1.0, 0.5));
  EXPECT_THAT(
      numbers(reward_gradients(problem, clip_of("none"), points_of_norms({1, 8}), at::arange(2), 2)
                  .factor),
      ElementsAre(1.0, 1.0));
}

TEST(RewardGradients, LeaveOutWhatIsNotFiniteWithoutSpreadingIt) {
  for (const bool balance : {false, true}) {
    Problem problem = bowl(0.5);
    RewardClipOptions clip = clip_of("quantile");
    clip.balance = balance;
    Tensor x = points_of_norms({1, 2, 3, 4});
    x[2][0] = std::numeric_limits<double>::quiet_NaN();
    const RewardGradients r = reward_gradients(problem, clip, x, at::arange(4), 8);
    EXPECT_THAT(numbers(r.finite), ElementsAre(1, 1, 0, 1));
    EXPECT_TRUE(at::isfinite(r.gradient).all().item<bool>());
    EXPECT_EQ(r.gradient[2].norm().item<double>(), 0);
    EXPECT_EQ(r.factor[2].item<double>(), 0);
    EXPECT_TRUE(std::isfinite(r.threshold));
  }
}

TEST(RewardGradients, OfABalancedSumKeepTheSignOfAWeight) {
  Problem problem = bowl(-0.5);
  RewardClipOptions clip = clip_of("none");
  clip.balance = true;
  // Both gradients are along -x, with norms 1 and 100: n = (1 * 1 + 0.5 * 100) / 1.5 = 34, so the
  // sum is -(34 - 0.5 * 34) x.
  const RewardGradients r = reward_gradients(problem, clip, points_of_norms({1}), at::arange(1), 8);
  EXPECT_NEAR(r.weights[0].item<double>(), 34, 1e-12);
  EXPECT_NEAR(r.weights[1].item<double>(), -0.17, 1e-12);
  EXPECT_NEAR(r.gradient[0][1].item<double>(), -17, 1e-12);
}

TEST(RewardGradients, RefuseToBalanceARewardWithoutGradient) {
  Problem problem = bowl(0.5);
  RewardClipOptions clip = clip_of("none");
  clip.balance = true;
  EXPECT_THAT(testing::message_of(
                  [&] { reward_gradients(problem, clip, points_of_norms({0}), at::arange(1), 8); }),
              HasSubstr("[reward_clip.balance] expected every reward to have a gradient in the "
                        "batch, got mean norms 0, 0: drop"));
}

TEST(RewardTransforms, AndTheirSlopes) {
  RewardTransformOptions t;
  const Tensor r = vector({-1, 1, 3});
  EXPECT_THAT(numbers(transformed(t, r)), ElementsAre(-1, 1, 3));
  EXPECT_THAT(numbers(transform_slope(t, r)), ElementsAre(1, 1, 1));
  t.kind = "relu";
  EXPECT_THAT(numbers(transformed(t, r)), ElementsAre(0, 1, 3));
  EXPECT_THAT(numbers(transform_slope(t, r)), ElementsAre(0, 1, 1));
  t.kind = "relu_below";  // of top 2
  EXPECT_THAT(numbers(transformed(t, r)), ElementsAre(-3, -1, 0));
  EXPECT_THAT(numbers(transform_slope(t, r)), ElementsAre(1, 1, 0));
}

}  // namespace
}  // namespace vggflow
