// Which steps of trajectories are trained, and what is read off them.
#include "vggflow/algorithms/transitions.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "vggflow/algorithms/adjoint.h"
#include "vggflow/proofs/analytic_problems.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using namespace analytic;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TransitionOptions options_of(int64_t bins, bool force_last = false, bool skip_first = false) {
  TransitionOptions o;
  o.bins = bins;
  o.force_last_step = force_last;
  o.skip_first_step = skip_first;
  return o;
}

TEST(Transitions, AreOneFromEachBin) {
  std::vector<int> seen(20);
  for (uint64_t i = 0; i < 400; ++i) {
    const auto steps = draw_transitions(options_of(5), 20, RandomStream({1, Purpose::kTime, 0, i}));
    ASSERT_EQ(steps.size(), 5u);
    for (size_t b = 0; b < 5; ++b) {
      EXPECT_EQ(steps[b] / 4, static_cast<int64_t>(b));
      ++seen[static_cast<size_t>(steps[b])];
    }
  }
  for (const int count : seen) EXPECT_NEAR(count, 100, 45);
}

TEST(Transitions, CanForceTheLastStepAndSkipTheFirstAsTheReleasedCodeDoes) {
  for (uint64_t i = 0; i < 20; ++i) {
    const auto steps =
        draw_transitions(options_of(5, true, true), 20, RandomStream({1, Purpose::kTime, 0, i}));
    EXPECT_EQ(steps.size(), 6u);
    EXPECT_EQ(steps.back(), 19);
    EXPECT_GE(steps.front(), 1);
  }
}

TEST(Transitions, RefuseMoreBinsThanSteps) {
  EXPECT_THAT(testing::message_of([] { draw_transitions(options_of(21), 20, RandomStream({})); }),
              HasSubstr("[transitions] expected at most 20 bins for 20 steps, got 21"));
}

TEST(Transitions, HoldTheRolloutsVelocityAtTheirStates) {
  const auto times = uniform_grid(6);
  Problem problem(std::make_shared<LinearField>(matrix({{0.3, 1}, {-1, 0}})),
                  std::make_shared<LogCosh>(1, at::zeros({2}, at::kDouble)),
                  std::make_shared<Mlp>(2, 4, 1, 1));
  UpdateInput input;
  input.x0 = noise(1, 0, 4, 2);
  input.times = times;
  const Transitions all = draw(roll_out(problem, input, options_of(3)), options_of(3), input);
  EXPECT_EQ(all.steps.size(), 12u);
  EXPECT_LT((all.velocity - problem.policy(all.states).detach()).abs().max().item<double>(), 1e-13);
  for (size_t i = 0; i < all.steps.size(); ++i) {
    EXPECT_EQ(all.states.t[static_cast<int64_t>(i)].item<double>(),
              times[static_cast<size_t>(all.steps[i])]);
    EXPECT_EQ(all.states.rows[static_cast<int64_t>(i)].item<int64_t>(),
              static_cast<int64_t>(i / 3));
  }
}

// Adjoints exist for the finite rows only; transitions of the others go, and each of the rest finds
// its own, one step later.
TEST(Transitions, FindTheAdjointOfTheirRowAndNextStep) {
  Trajectory path{{0, 0.5, 1}, {}};
  for (int k = 0; k < 3; ++k)
    path.states.push_back(at::arange(3, at::kDouble).unsqueeze(1) + 10 * k);
  const Transitions all = pick(path, {{0}, {1}, {0, 1}});
  const Tensor rows = at::tensor(std::vector<int64_t>{0, 2});
  const Transitions kept = keep_rows(all, rows);
  EXPECT_THAT(kept.steps, ElementsAre(0, 0, 1));
  std::vector<Tensor> adjoints;
  for (int k = 0; k < 3; ++k) adjoints.push_back(vector({100.0 * k, 100.0 * k + 2}).unsqueeze(1));
  const Tensor found = gather(adjoints, kept, rows).flatten();
  EXPECT_THAT(
      (std::vector<double>{found.const_data_ptr<double>(), found.const_data_ptr<double>() + 3}),
      ElementsAre(100, 102, 202));
}

TEST(Transitions, OfNoFiniteSampleAreRefused) {
  EXPECT_THAT(testing::message_of([] { finite_rows(at::zeros({3}, at::kBool), "pmp", {}); }),
              HasSubstr("[pmp] no sample of this update has a finite reward"));
}

}  // namespace
}  // namespace vggflow
