// The hinge on the velocity's norm against its own autograd, its telemetry, and its passes.
#include "vggflow/algorithms/norm_guard.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/algorithms/adjoint.h"
#include "vggflow/algorithms/pmp.h"
#include "vggflow/algorithms/registry.h"
#include "vggflow/ops/row_norms.h"
#include "vggflow/proofs/analytic_claims.h"

namespace vggflow {
namespace {

using namespace analytic;

struct Updated {
  Tensor gradient;
  MethodReport report;
};

MethodOptions options_of(const std::string& method, const std::string& settings,
                         const NormGuardOptions& guard) {
  MethodOptions o = unclipped();
  o.set(method, settings);
  o.norm_guard = guard;
  return o;
}

NormGuardOptions hinge(double weight, double margin = 0) {
  NormGuardOptions o;
  o.weight = weight;
  o.margin = margin;
  return o;
}

constexpr int64_t kBatch = 8;

// One update on the mixture; with every step trained once.
Updated updated(const MethodOptions& options, const std::string& name = "vgg-flow-pmp",
                uint64_t update = 5) {
  const auto control = std::make_shared<Mlp>(2, 8, 11, /*last=*/0.7);
  Problem problem(mixture(2), mixture_reward(2), control);
  MethodReport report = make_method(name, options)
                            ->update(problem, update_input(3, update, kBatch, 2, uniform_grid(6)));
  return {control->parameters.grad().clone(), report};
}

MethodOptions every_step(const NormGuardOptions& guard) {
  return options_of("vgg-flow-pmp", "bins=6", guard);
}

// v_theta and v_base at all states of that update's rollout.
struct Along {
  Along() {
    const Transitions at = all_steps(
        roll_out(problem, update_input(3, 5, kBatch, 2, uniform_grid(6)), StepsOfSamples{}));
    v = problem.policy(at.states);
    base = problem.base(at.states);
  }
  Tensor ratio() const { return row_norms(v) / row_norms(base); }
  std::shared_ptr<Mlp> control = std::make_shared<Mlp>(2, 8, 11, /*last=*/0.7);
  Problem problem{mixture(2), mixture_reward(2), control};
  Tensor v, base;
};

TEST(NormGuard, AddsTheGradientOfItsHinge) {
  const Updated off = updated(every_step({})), on = updated(every_step(hinge(3, 0.1)));
  Along along;
  const Tensor loss = 3 * (along.ratio() - 1 - 0.1).clamp_min(0).square().mean();
  loss.backward();
  const Tensor want = along.control->parameters.grad();
  EXPECT_GT(largest(want), 1e-3);
  EXPECT_LT(largest(on.gradient - off.gradient - want), 1e-13);
  EXPECT_NEAR(on.report.loss.at("norm"), loss.item<double>(), 1e-13);
  EXPECT_EQ(on.report.loss.at("matching"), off.report.loss.at("matching"));
}

TEST(NormGuard, IsNothingInsideItsBall) {
  const Updated off = updated(every_step({})), inside = updated(every_step(hinge(3, 1e6)));
  EXPECT_TRUE(at::equal(inside.gradient, off.gradient));
  EXPECT_EQ(inside.report.loss.at("norm"), 0);
}

// v_theta = q v_base: the loss is weight (q - 1)^2, and the gradient to q is radial.
TEST(NormGuard, OfALongerBaseIsTheSquareOfWhatIsOver) {
  const double q = 1.5;
  const Tensor a = matrix({{0.3, 1}, {-1, 0.2}});
  const auto control = std::make_shared<BinnedLinear>(std::vector<double>{0, 1}, 2);
  control->set(0, (q - 1) * a, at::zeros({2}, at::kDouble));
  Problem problem(std::make_shared<LinearField>(a), mixture_reward(2), control);
  MethodOptions o = every_step(hinge(2));
  o.of<PmpOptions>().beta = 0;
  const MethodReport report = make_method("vgg-flow-pmp", o)
                                  ->update(problem, update_input(3, 5, kBatch, 2, uniform_grid(6)));
  EXPECT_NEAR(report.loss.at("norm"), 2 * (q - 1) * (q - 1), 1e-13);
  EXPECT_NEAR(report.values.at("norm_ratio"), q, 1e-13);
  EXPECT_NEAR(report.values.at("velocity_cosine"), 1, 1e-13);
  EXPECT_EQ(report.values.at("norm_above"), 1);
}

TEST(NormGuard, MeasuresTheTrainedStates) {
  NormGuardOptions every;
  every.every = 5;
  const Updated on = updated(every_step(every)), off = updated(every_step({}));
  EXPECT_TRUE(at::equal(on.gradient, off.gradient));
  EXPECT_FALSE(on.report.loss.contains("norm"));
  const Along along;
  const Tensor ratio = along.ratio().detach();
  const auto& values = on.report.values;
  EXPECT_NEAR(values.at("norm_ratio"), ratio.mean().item<double>(), 1e-13);
  EXPECT_NEAR(values.at("policy_energy"), (along.v - along.base).square().mean().item<double>(),
              1e-13);
  const Tensor cosine =
      (along.v * along.base).sum(1) / (row_norms(along.v) * row_norms(along.base));
  EXPECT_NEAR(values.at("velocity_cosine"), cosine.mean().item<double>(), 1e-13);
  EXPECT_EQ(values.at("guarded_states"), 6 * kBatch);
  const Tensor by_step = ratio.view({kBatch, 6}).mean(0);
  for (int64_t k = 0; k < 6; ++k)
    EXPECT_NEAR(on.report.series.at("norm_ratio").at(static_cast<size_t>(k)),
                by_step[k].item<double>(), 1e-13);
  EXPECT_FALSE(updated(every_step(every), "vgg-flow-pmp", 6).report.values.contains("norm_ratio"));
}

TEST(NormGuard, CountsItsPassesWhateverTheMethod) {
  for (const std::string& name : method_names()) {
    const MethodTrials trials = method_trials(name);
    std::vector<std::string> all{""};
    for (const MethodTrial& trial : trials.variants) all.push_back(trial.settings);
    for (const std::string& settings : all) {
      const auto method =
          make_method(name, options_of(name, trials.small + " " + settings, hinge(1)));
      Problem inner(mixture(2), mixture_reward(2), std::make_shared<Mlp>(2, 8, 11, /*last=*/0.7));
      Counted problem(inner);
      const MethodReport report =
          method->update(problem, update_input(3, 5, kBatch, 2, uniform_grid(6)));
      CostShape shape;
      shape.batch = kBatch;
      shape.steps = 6;
      shape.rollout = shape.policy = shape.policy_graph = shape.known = shape.tangent = shape.base =
          shape.adjoint = shape.reference = 1;
      const Passes want = method->cost(shape, report);
      EXPECT_EQ(problem.passes.f, want.f) << name << " " << settings;
      EXPECT_EQ(problem.passes.b, want.b) << name << " " << settings;
      EXPECT_GT(report.values.at("guarded_states"), 0) << name << " " << settings;
      const bool varies = settings.find("uniform") != std::string::npos ||
                          settings.find("gaussian") != std::string::npos || name == "flowbp";
      if (varies) continue;
      EXPECT_EQ(report.values.at("guarded_states"), method->trained_states(shape))
          << name << " " << settings;
    }
  }
}

TEST(NormGuard, SaysWhatItCosts) {
  NormGuardOptions every;
  every.every = 4;
  const CostShape shape{.batch = 8, .steps = 20};
  const auto method = make_method("vgg-flow", options_of("vgg-flow", "", every));
  EXPECT_EQ(method->cost_formula(shape), "B N 2F + 5 B (3F + 1B) + 5 B 2F every 4 updates");
  EXPECT_EQ(method->mean_cost(shape).f, 8 * (40 + 15) + 8 * 5 * 2 / 4);
  EXPECT_EQ(make_method("refl", options_of("refl", "", hinge(1)))->cost_formula(shape),
            "B N 2F + B (1F + 1B) + 1 B 2F");
}

}  // namespace
}  // namespace vggflow
