// Methods by name, what their settings refuse, and what they draw.
#include "vggflow/algorithms/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <tuple>

#include "vggflow/algorithms/adjoint_matching.h"
#include "vggflow/algorithms/draft.h"
#include "vggflow/algorithms/fitted_adjoint.h"
#include "vggflow/algorithms/refl.h"
#include "vggflow/algorithms/vgg_flow.h"
#include "vggflow/core/config.h"
#include "vggflow/proofs/analytic_claims.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using namespace analytic;
using ::testing::DoubleEq;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Problem small_problem() {
  return Problem(mixture(2), mixture_reward(2), std::make_shared<Mlp>(2, 4, 1, 1));
}

TEST(Methods, AreListedWhereANameIsUnknown) {
  EXPECT_EQ(testing::message_of([] { make_method("vggflow", {}); }),
            "[method] unknown method 'vggflow'; known are adjoint-matching, draft, drtune, eam, "
            "fitted-adjoint, flowbp, leapalign, ram, refl, vgg-flow, vgg-flow-pmp");
  const auto names = method_names();
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
}

TEST(Methods, OnlyVggFlowTrainsAValueNetwork) {
  for (const std::string& name : method_names())
    EXPECT_EQ(make_method(name, {})->trains_value(), name == "vgg-flow") << name;
}

TEST(Methods, ReportFiniteLossesRewardsAndTimes) {
  for (const std::string& name : method_names()) {
    Problem problem = small_problem();
    const MethodReport report =
        make_method(name, {})->update(problem, update_input(1, 0, 8, 2, uniform_grid(20)));
    ASSERT_EQ(report.rewards.numel(), 8) << name;
    EXPECT_FALSE(report.loss.empty()) << name;
    for (const auto& [key, value] : report.loss)
      EXPECT_TRUE(std::isfinite(value)) << name << " " << key;
    EXPECT_GE(report.seconds.size(), 2u) << name;
    EXPECT_EQ(report.dropped, 0) << name;
    EXPECT_NE(make_method(name, {})->cost_formula({}), "") << name;
  }
}

// The names of docs/ and of a run's config.yaml; a section lost would be an old run lost.
TEST(Methods, KeepTheirSectionsAndWordsInYaml) {
  MethodOptions o;
  load_yaml_text(fields_of(o),
                 "vgg:\n  beta: 2\npmp:\n  adjoint: full\nrefl:\n  k_max: 4\n"
                 "draft:\n  kind: lv\nadjoint_matching:\n  clip: none\nfitted:\n  steps: 3\n",
                 "test");
  EXPECT_EQ(o.of<VggFlowOptions>().beta, 2);
  EXPECT_EQ(o.of<ReflOptions>().k_max, 4);
  EXPECT_EQ(o.of<FittedAdjointOptions>().steps, 3);
  MethodOptions copy = o;
  copy.set("vgg-flow", "beta=5 bins=7");
  EXPECT_EQ(o.of<VggFlowOptions>().beta, 2) << "a copy has settings of its own";
  EXPECT_EQ(copy.of<VggFlowOptions>().transitions.bins, 7);
  EXPECT_EQ(differences(fields_of(o), fields_of(copy)),
            (std::vector<std::string>{"vgg.beta", "vgg.bins"}));
  EXPECT_EQ(make_method("vgg-flow", copy)->beta(), 5);
}

// The plan multiplies these by what a pass takes.
TEST(Methods, AskForMemoryAndRewardsByTheirSettings) {
  const CostShape shape{.batch = 8, .steps = 20, .value = true};
  for (const std::string& name : method_names()) {
    const Demand want = make_method(name, {})->demand(shape);
    EXPECT_GT(want.transitions, 0) << name;
    EXPECT_EQ(want.reward_gradients >= 8, make_method(name, {})->needs_reward_gradient()) << name;
    EXPECT_EQ(want.moments.empty(), !make_method(name, {})->trains_value()) << name;
    EXPECT_GT(make_method(name, {})->mean_cost(shape).f, 8 * 20) << name;
  }
  const auto demand = [&](const std::string& name, const std::string& settings) {
    MethodOptions o;
    o.set(name, settings);
    return make_method(name, o)->demand(shape);
  };
  EXPECT_EQ(demand("vgg-flow", "bins=4").hessian_products, 32);
  EXPECT_EQ(demand("vgg-flow", "bins=4 consistency.kind=paper").reward_gradients, 5 * 32);
  EXPECT_EQ(demand("vgg-flow", "consistency.kind=off boundary=false").moments.size(), 0u);
  EXPECT_EQ(demand("draft", "kind=lv lv_noises=3 lv_own_step=true").reward_gradients, 4 * 8);
  EXPECT_EQ(demand("fitted-adjoint", "").reward_gradients, 20 * 8);
  EXPECT_EQ(demand("adjoint-matching", "tail=0.5 early=0").transitions, 10 * 8);
  MethodOptions o;
  o.set("draft", "kind=uniform k=5");
  EXPECT_EQ(make_method("draft", o)->mean_cost({.batch = 1, .steps = 0}).b, 3);
}

TEST(Methods, SayBeforeARunWhichStepsTheyCannotTake) {
  const auto refusal = [](const std::string& name, const std::string& settings, int64_t steps) {
    MethodOptions o;
    o.set(name, settings);
    return testing::message_of([&] { make_method(name, o)->check(steps); });
  };
  for (const char* name : {"vgg-flow", "vgg-flow-pmp", "fitted-adjoint"})
    EXPECT_EQ(refusal(name, "bins=5", 4),
              "[transitions] expected at most 4 bins for 4 steps, got 5");
  EXPECT_THAT(refusal("refl", "k_min=3 k_max=2", 20), HasSubstr("[refl] expected 0 <= refl.k_min"));
  EXPECT_EQ(refusal("draft", "kind=gaussian k=9", 8),
            "[draft] expected draft.k of at most 8 (the steps), got 9");
  for (const char* kind : {"kind=full k=9", "kind=lv k=9"})
    EXPECT_EQ(refusal("draft", kind, 8), "no error");
}

TEST(Refl, RefusesStepsThatTheGridDoesNotHave) {
  Problem problem = small_problem();
  EXPECT_THAT(
      testing::message_of([&] {
        make_method("refl", {})->update(problem, update_input(1, 0, 2, 2, uniform_grid(10)));
      }),
      HasSubstr("[refl] expected 0 <= refl.k_min <= refl.k_max < 10 (the steps), got 15 and 19"));
}

TEST(Draft, RefusesMoreStepsThanTheGridHas) {
  DraftOptions o;
  o.k = 11;
  Problem problem = small_problem();
  EXPECT_THAT(testing::message_of([&] {
                make_draft(o, {})->update(problem, update_input(1, 0, 2, 2, uniform_grid(10)));
              }),
              HasSubstr("[draft] expected draft.k of at most 10 (the steps), got 11"));
}

TEST(Draft, DrawsTheTruncationThatItsKindSays) {
  DraftOptions o;
  const auto drawn = [&](DraftKind kind, int64_t k) {
    o.kind = kind;
    o.k = k;
    std::vector<int64_t> out;
    for (uint64_t i = 0; i < 2000; ++i)
      out.push_back(draw_truncation(o, 20, RandomStream({1, Purpose::kTime, i, 0})));
    return out;
  };
  const auto mean = [](const std::vector<int64_t>& x) {
    return static_cast<double>(std::accumulate(x.begin(), x.end(), int64_t{0})) /
           static_cast<double>(x.size());
  };
  EXPECT_EQ(drawn(DraftKind::kFull, 1).front(), 20);
  EXPECT_EQ(drawn(DraftKind::kFixed, 7).front(), 7);
  const auto uniform = drawn(DraftKind::kUniform, 5);
  EXPECT_EQ(std::set<int64_t>(uniform.begin(), uniform.end()), (std::set<int64_t>{1, 2, 3, 4, 5}));
  EXPECT_NEAR(mean(uniform), 3, 0.13);  // four standard errors
  o.k_sd = 2;
  EXPECT_NEAR(mean(drawn(DraftKind::kGaussian, 10)), 10, 0.18);
  const auto clamped = drawn(DraftKind::kGaussian, 1);
  EXPECT_GE(*std::min_element(clamped.begin(), clamped.end()), 1);
}

TEST(AdjointMatching, TrainsTheLastStepsAndAsManyOfTheOthers) {
  AdjointMatchingOptions o;
  std::set<int64_t> early;
  for (uint64_t i = 0; i < 200; ++i) {
    const auto steps = draw_steps(o, 40, RandomStream({1, Purpose::kTime, i, 0}));
    ASSERT_EQ(steps.size(), 20u);
    EXPECT_TRUE(std::is_sorted(steps.begin(), steps.end()));
    EXPECT_EQ(std::set<int64_t>(steps.begin(), steps.end()).size(), 20u);
    for (size_t k = 10; k < 20; ++k) EXPECT_EQ(steps[k], static_cast<int64_t>(20 + k));
    early.insert(steps.begin(), steps.begin() + 10);
  }
  EXPECT_EQ(early.size(), 30u);  // every one of the first 30 is drawn sometimes
  o.tail = o.early = 0;
  EXPECT_THAT(draw_steps(o, 40, RandomStream({})), ElementsAre(39));
}

// Terms above the bound are constant: with a bound of nothing, nothing has a gradient.
TEST(AdjointMatching, ClipsTermsAtTheConstantOrTheQuantile) {
  for (const auto& [kind, quantile, share] :
       std::vector<std::tuple<TermClip, double, double>>{{TermClip::kQuantile, 0.5, 0.5},
                                                         {TermClip::kQuantile, 0, 7.0 / 8},
                                                         {TermClip::kNone, 0, 0}}) {
    AdjointMatchingOptions o;
    o.clip = kind;
    o.clip_quantile = quantile;
    Problem problem = small_problem();
    const MethodReport report =
        AdjointMatching(o, no_clip()).update(problem, update_input(1, 0, 8, 2, uniform_grid(10)));
    EXPECT_DOUBLE_EQ(report.values.at("terms_above"), share) << word_of(kind) << " " << quantile;
    // Outliers are clipped, and not the steps whose terms are largest.
    EXPECT_THAT(report.series.at("terms_above"), Each(DoubleEq(share)));
  }
  AdjointMatchingOptions o;
  o.clip = TermClip::kConstant;
  o.lambda = 3;
  Problem problem = small_problem();
  EXPECT_THAT(AdjointMatching(o, no_clip())
                  .update(problem, update_input(1, 0, 8, 2, uniform_grid(10)))
                  .series.at("term_bound"),
              Each(DoubleEq(1.6 * 9)));
  o.clip_constant = 0;
  auto control = std::make_shared<Mlp>(2, 4, 1, 1);
  Problem still(mixture(2), mixture_reward(2), control);
  AdjointMatching(o, no_clip()).update(still, update_input(1, 0, 8, 2, uniform_grid(10)));
  EXPECT_EQ(largest(control->parameters.grad()), 0);
}

// lambda in the reward's spread: twice the reward's numbers, with twice the spread, change nothing.
TEST(LambdaUnit, DividesByTheSpreadOrNot) {
  UpdateInput input;
  input.beta_scale = 0.5;
  input.reward_spread = 4;
  EXPECT_DOUBLE_EQ(lambda_of(3, LambdaUnit::kSpread, input), 3 * 0.5 / 4);
  EXPECT_DOUBLE_EQ(lambda_of(3, LambdaUnit::kReward, input), 3 * 0.5);
}

}  // namespace
}  // namespace vggflow
