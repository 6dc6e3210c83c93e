// The truncated adjoint: where it ends, what becomes of the steps before, and what it refuses. Its
// fixed points are in the analytic suite.
#include "vggflow/algorithms/pmp.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "vggflow/algorithms/adjoint.h"
#include "vggflow/algorithms/vgg_flow.h"
#include "vggflow/proofs/analytic_claims.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using namespace analytic;

struct Updated {
  Tensor gradient;
  MethodReport report;
};

Updated updated(const Method& method) {
  const auto control = std::make_shared<Mlp>(2, 8, 11, /*last=*/0.7);
  Problem problem(mixture(2), mixture_reward(2), control);
  MethodReport report = method.update(problem, update_input(3, 5, 7, 2, uniform_grid(6)));
  return {control->parameters.grad().clone(), report};
}

PmpOptions options_of(int64_t steps, EarlySteps early) {
  PmpOptions o;
  o.steps = steps;
  o.early = early;
  o.transitions.bins = 6;  // every step
  return o;
}
Pmp truncated(int64_t steps, EarlySteps early) { return {options_of(steps, early), no_clip()}; }

TEST(TruncatedPmp, WithoutAPullBackIsRewardScoreMatchingsEndPoint) {
  VggFlowOptions o;
  o.guess = Guess::kEndpoint;
  o.eta = Eta::kConstant;
  o.transitions.bins = 6;
  const Updated end = updated(VggFlow(o, no_clip())),
                pmp = updated(truncated(0, EarlySteps::kFrozenAdjoint));
  EXPECT_GT(largest(end.gradient), 1e-3);
  EXPECT_TRUE(at::equal(pmp.gradient, end.gradient)) << largest(pmp.gradient - end.gradient);
  EXPECT_EQ(pmp.report.loss.at("matching"), end.report.loss.at("matching"));
}

TEST(TruncatedPmp, OfAllStepsIsTheWholeOne) {
  const Updated whole = updated(truncated(-1, EarlySteps::kNone));
  for (const auto& [name, early] : option_words(EarlySteps{}))
    EXPECT_TRUE(at::equal(updated(truncated(6, early)).gradient, whole.gradient)) << name;
}

// The earlier steps' part of the loss: none, |v_theta - v_base|^2, or that of the adjoint's end.
TEST(TruncatedPmp, TreatsTheEarlyStepsAsItsSettingSays) {
  const auto control = std::make_shared<Mlp>(2, 8, 11, /*last=*/0.7);
  Problem problem(mixture(2), mixture_reward(2), control);
  const UpdateInput input = update_input(3, 5, 7, 2, uniform_grid(6));
  const Trajectory path = roll_out(problem, input);
  const Tensor rows = at::arange(7);
  const auto a =
      sweep(path, rows, -mixture_reward(2)->gradient(path.final_state()), 7, lean_step(problem));
  const auto residual = [&](size_t k, const Tensor& g) {
    const Tensor u = (*control)(path.states[k], states(path.states[k], path.times[k]).t).detach();
    return (u + g).square().mean().item<double>();
  };
  double last = 0, anchored = 0, frozen = 0;
  for (size_t k = 0; k < 6; ++k) {
    if (k >= 4) last += residual(k, a[k + 1]);
    if (k < 4) anchored += residual(k, at::zeros_like(a[0]));
    if (k < 4) frozen += residual(k, a[std::max<size_t>(k + 1, 4)]);
  }
  const auto loss = [&](EarlySteps early, int64_t bins) {
    PmpOptions o = options_of(2, early);
    o.transitions.bins = bins;
    return updated(Pmp(o, no_clip())).report.loss.at("matching");
  };
  EXPECT_NEAR(loss(EarlySteps::kNone, 2), last / 2, 1e-12);
  EXPECT_NEAR(loss(EarlySteps::kAnchor, 6), (last + anchored) / 6, 1e-12);
  EXPECT_NEAR(loss(EarlySteps::kFrozenAdjoint, 6), (last + frozen) / 6, 1e-12);
  EXPECT_GT(std::abs(frozen - anchored), 1e-3);
}

TEST(TruncatedPmp, RefusesStepsThatDoNotFit) {
  const auto refusal = [](const PmpOptions& o) {
    return testing::message_of([&] { Pmp(o, no_clip()).check(6); });
  };
  EXPECT_EQ(refusal(options_of(7, EarlySteps::kAnchor)),
            "[pmp] expected pmp.steps of at most 6 (the steps), got 7");
  EXPECT_EQ(refusal(options_of(0, EarlySteps::kAnchor)),
            "[pmp] expected pmp.early=frozen_adjoint with pmp.steps=0, got anchor: no transition "
            "would see the reward");
  EXPECT_EQ(refusal(options_of(4, EarlySteps::kNone)),
            "[transitions] expected at most 4 bins for 4 steps, got 6");
  EXPECT_EQ(refusal(options_of(4, EarlySteps::kAnchor)), "no error");
}

}  // namespace
}  // namespace vggflow
