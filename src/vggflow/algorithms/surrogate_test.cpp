// Which steps DRTune, LeapAlign and FlowBP draw, and what they refuse. That their gradients are
// those of their graphs is in the analytic suite.
#include "vggflow/algorithms/surrogate.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "vggflow/algorithms/drtune.h"
#include "vggflow/algorithms/flowbp.h"
#include "vggflow/algorithms/leapalign.h"
#include "vggflow/algorithms/registry.h"
#include "vggflow/proofs/analytic_claims.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using namespace analytic;
using ::testing::ElementsAre;

RandomStream stream(uint64_t i) { return RandomStream({1, Purpose::kTime, i, 0}); }

std::string refusal(const std::string& name, const std::string& settings, int64_t steps) {
  MethodOptions o;
  o.set(name, settings);
  return testing::message_of([&] { make_method(name, o)->check(steps); });
}

TEST(Drtune, TrainsStepsEvenlySpreadUpToTheScoredOne) {
  DrtuneOptions o;
  std::set<int64_t> scored;
  bool with_scored = false;
  for (uint64_t i = 0; i < 400; ++i) {
    const DrtuneSteps steps = draw_drtune(o, 25, stream(i));
    scored.insert(steps.scored);
    ASSERT_EQ(steps.trained.size(), 3u);
    EXPECT_GE(steps.trained.front(), 0);
    EXPECT_LE(steps.trained.back(), steps.scored);
    for (size_t k = 0; k < 2; ++k)
      EXPECT_EQ(steps.trained[k + 1] - steps.trained[k], (steps.scored + 1) / 3);
    with_scored |= steps.trained.back() == steps.scored;
  }
  EXPECT_EQ(scored.size(), 10u);
  EXPECT_EQ(*scored.begin(), 15);
  EXPECT_TRUE(with_scored);
  EXPECT_EQ(refusal("drtune", "k=17", 25),
            "[drtune] expected drtune.k of at most 16, the steps up to the first that drtune.late "
            "lets be scored, got 17");
}

TEST(LeapAlign, DrawsTwoStepsAlike) {
  std::set<std::pair<int64_t, int64_t>> seen;
  for (uint64_t i = 0; i < 400; ++i) {
    RandomStream random = stream(i);
    const auto [k, j] = draw_two_steps(5, random);
    ASSERT_LT(k, j);
    seen.insert({k, j});
  }
  EXPECT_EQ(seen.size(), 10u);
  EXPECT_EQ(refusal("leapalign", "", 1),
            "[leapalign] expected time_grid.steps of at least 2, got 1");
}

// A leap's weight falls with its error: on a straight path both are exact.
TEST(LeapAlign, WeighsTrajectoriesByTheirLeapsErrors) {
  Trajectory path{{0, 0.25, 0.5, 1}, {}};
  for (const double x : {0.0, 1.0, 2.0, 6.0}) path.states.push_back(matrix({{x, x}}));
  const Leg first{0, 2, {{0, 0.5}}}, second{2, 3, {{2, 0.5}}}, far{0, 3, {{0, 1}}};
  EXPECT_DOUBLE_EQ(gap(path, 0, first).item<double>(), 0);
  EXPECT_DOUBLE_EQ(gap(path, 0, far).item<double>(), 2);
  EXPECT_DOUBLE_EQ(gap_weights(path, {{first, second}}, 0.1).item<double>(), 5);
  EXPECT_DOUBLE_EQ(gap_weights(path, {{first, far}}, 0.1).item<double>(), 1 / 2.1);
}

TEST(FlowBp, DrawsLateStepsMoreOftenAndNoneTwice) {
  std::vector<int> seen(10);
  for (uint64_t i = 0; i < 500; ++i) {
    RandomStream random = stream(i);
    const auto steps = draw_late(5, 10, 4, 2, random);
    ASSERT_EQ(std::set<int64_t>(steps.begin(), steps.end()).size(), 4u);
    EXPECT_TRUE(std::is_sorted(steps.begin(), steps.end()));
    for (const int64_t k : steps) ++seen[static_cast<size_t>(k - 5)];
  }
  EXPECT_GT(seen[9], 3 * seen[2]);
  RandomStream random = stream(0);
  EXPECT_THAT(draw_late(2, 3, 3, 4, random), ElementsAre(2, 3, 4));
}

TEST(FlowBp, CutsABridgeWithTheStepsThatItHas) {
  FlowBpOptions o;
  o.kind = FlowBpKind::kBridge;
  for (uint64_t i = 0; i < 200; ++i) {
    const Surrogate s = draw_flowbp(o, uniform_grid(25), stream(i)).terms;
    ASSERT_TRUE(s.joint);
    EXPECT_EQ(s.early.size() + s.late.size(), 4u);
    EXPECT_GE(s.early.size(), 1u);
    EXPECT_LT(s.early.back().step, s.joint->step);
    for (const StepTerm& term : s.late) EXPECT_GT(term.step, s.joint->step);
  }
}

TEST(FlowBp, DrawsLegsByTheDirichletLaw) {
  LagrangeOptions o;
  double between = 0;
  int64_t longest = 0;
  for (uint64_t i = 0; i < 2000; ++i) {
    RandomStream random = stream(i);
    const auto [k, j] = draw_legs(o, 25, random);
    ASSERT_GE(k, 1);
    ASSERT_LT(k, j);
    ASSERT_LT(j, 25);
    longest = std::max(longest, 25 - j);
    between += static_cast<double>(j - k) / 2000;
  }
  EXPECT_EQ(longest, 10);
  EXPECT_NEAR(between, 25 * 6 / 10.5, 0.3);
  o.lengths = {1, 1, 50};  // nearly all before k
  for (uint64_t i = 0; i < 50; ++i) {
    RandomStream random = stream(i);
    const auto [k, j] = draw_legs(o, 3, random);
    EXPECT_EQ(k, 1);
    EXPECT_EQ(j, 2);
  }
}

TEST(FlowBp, TellsOfStartsThatArePushedTheWrongWay) {
  const auto share = [](int64_t order) {
    FlowBpOptions o;
    o.lagrange.order = order;
    Problem problem(mixture(2), mixture_reward(2), std::make_shared<Mlp>(2, 4, 1, 1));
    const auto times = time_grid({.steps = 25, .kind = GridKind::kSingleShift, .shift = 3});
    return FlowBp(o, no_clip())
        .update(problem, update_input(1, 0, 40, 2, times))
        .values.at("negative_start_weight");
  };
  EXPECT_EQ(share(1), 0);
  EXPECT_GT(share(2), 0.02);
}

TEST(FlowBp, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal("flowbp", "kind=sparse sparse.k=9", 8),
            "[flowbp] expected flowbp.sparse.k of at most 8 (the steps), got 9");
  EXPECT_EQ(refusal("flowbp", "kind=bridge bridge.k=9", 8),
            "[flowbp] expected flowbp.bridge.k of at most 8 (the steps), got 9");
  EXPECT_EQ(refusal("flowbp", "", 2),
            "[flowbp] expected time_grid.steps of at least 3 for lagrange, got 2");
  EXPECT_EQ(refusal("flowbp", "lagrange.lengths=[1,2]", 8),
            "[flowbp] expected three flowbp.lagrange.lengths of at least 1, got [1, 2]");
}

}  // namespace
}  // namespace vggflow
