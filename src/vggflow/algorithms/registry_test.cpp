// Methods by name, what their settings refuse, and what they draw.
#include "vggflow/algorithms/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <tuple>

#include "vggflow/proofs/analytic_claims.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using namespace analytic;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Problem small_problem() {
  return Problem(mixture(2), mixture_reward(2), std::make_shared<Mlp>(2, 4, 1, 1));
}

TEST(Methods, AreListedWhereANameIsUnknown) {
  EXPECT_EQ(testing::message_of([] { make_method("vggflow", {}); }),
            "[method] unknown method 'vggflow'; known are adjoint-matching, draft, fitted-adjoint, "
            "refl, vgg-flow, vgg-flow-pmp");
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
        make_method(name, {})->update(problem, update_input(1, 0, 5, 2, uniform_grid(20)));
    ASSERT_EQ(report.rewards.numel(), 5) << name;
    EXPECT_FALSE(report.loss.empty()) << name;
    for (const auto& [key, value] : report.loss)
      EXPECT_TRUE(std::isfinite(value)) << name << " " << key;
    EXPECT_GE(report.seconds.size(), 2u) << name;
    EXPECT_EQ(report.dropped, 0) << name;
    EXPECT_NE(make_method(name, {})->cost_formula({}), "") << name;
  }
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
  MethodOptions o;
  o.draft.k = 11;
  Problem problem = small_problem();
  EXPECT_THAT(
      testing::message_of([&] {
        make_method("draft", o)->update(problem, update_input(1, 0, 2, 2, uniform_grid(10)));
      }),
      HasSubstr("[draft] expected draft.k of at most 10 (the steps), got 11"));
}

TEST(Draft, DrawsTheTruncationThatItsKindSays) {
  DraftOptions o;
  const auto drawn = [&](const std::string& kind, int64_t k) {
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
  EXPECT_EQ(drawn("full", 1).front(), 20);
  EXPECT_EQ(drawn("fixed", 7).front(), 7);
  const auto uniform = drawn("uniform", 5);
  EXPECT_EQ(std::set<int64_t>(uniform.begin(), uniform.end()), (std::set<int64_t>{1, 2, 3, 4, 5}));
  EXPECT_NEAR(mean(uniform), 3, 0.13);  // four standard errors
  o.k_sd = 2;
  EXPECT_NEAR(mean(drawn("gaussian", 10)), 10, 0.18);
  const auto clamped = drawn("gaussian", 1);
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
  for (const auto& [kind, quantile, share] : std::vector<std::tuple<std::string, double, double>>{
           {"quantile", 0.5, 0.5}, {"quantile", 0, 1}, {"none", 0, 0}}) {
    MethodOptions o = unclipped();
    o.adjoint_matching.clip = kind;
    o.adjoint_matching.clip_quantile = quantile;
    Problem problem = small_problem();
    const MethodReport report = make_method("adjoint-matching", o)
                                    ->update(problem, update_input(1, 0, 8, 2, uniform_grid(10)));
    EXPECT_NEAR(report.values.at("terms_above"), share, 0.03) << kind << " " << quantile;
  }
  MethodOptions o = unclipped();
  o.adjoint_matching.clip = "constant";
  o.adjoint_matching.lambda = 3;
  Problem problem = small_problem();
  EXPECT_DOUBLE_EQ(make_method("adjoint-matching", o)
                       ->update(problem, update_input(1, 0, 8, 2, uniform_grid(10)))
                       .values.at("term_bound"),
                   1.6 * 9);
  o.adjoint_matching.clip_constant = 0;
  auto control = std::make_shared<Mlp>(2, 4, 1, 1);
  Problem still(mixture(2), mixture_reward(2), control);
  make_method("adjoint-matching", o)->update(still, update_input(1, 0, 8, 2, uniform_grid(10)));
  EXPECT_EQ(largest(control->parameters.grad()), 0);
}

}  // namespace
}  // namespace vggflow
