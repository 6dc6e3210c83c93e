// Methods that train on noise added to end points: Efficient Adjoint Matching and Reinforce Adjoint
// Matching on one Gaussian, whose tilted laws are known.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/algorithms/eam.h"
#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/ram.h"
#include "vggflow/core/error.h"
#include "vggflow/proofs/analytic_claims.h"

namespace vggflow::analytic {
namespace {

// a - b + c, to train c around a policy that is known.
class Around : public Field {
 public:
  Around(FieldPtr a, FieldPtr b, FieldPtr c) : a_(a), b_(b), c_(c) {}
  Tensor operator()(const Tensor& x, const Tensor& t) const override {
    return (*a_)(x, t) - (*b_)(x, t) + (*c_)(x, t);
  }
  Dual operator()(const Dual& x, const Dual& t) const override {
    return (*a_)(x, t) - (*b_)(x, t) + (*c_)(x, t);
  }

 private:
  FieldPtr a_, b_, c_;
};

// Base N(0.5, 0.36), r = -(x - 2)^2 / 2, lambda = 1: the target is N(0.897, 0.265).
Tilt mild_tilt() { return {.mean = 0.5, .deviation = 0.6, .k = 1, .centre = 2, .lambda = 1}; }

FieldPtr gaussian(double mean, double variance) {
  return std::make_shared<MixtureField>(vector({1}), matrix({{mean}}),
                                        vector({std::sqrt(variance)}));
}

std::unique_ptr<Method> eam(const Tilt& tilt, EamControl control, double width,
                            double delta = 1e-3) {
  EamOptions o;
  o.lambda = tilt.lambda;
  o.width = width;
  o.delta = delta;
  o.draws = 4;
  o.control = control;
  return std::make_unique<Eam>(o, no_clip());
}

constexpr uint64_t kUpdates = 12;

// The gradient (kUpdates, parameters) of independent updates, at the policy that samples N(mean,
// variance).
Tensor gradients_at(const Tilt& tilt, const RewardPtr& reward, const Method& method, double mean,
                    double variance) {
  const auto times = uniform_grid(50);
  const auto bins = std::make_shared<BinnedLinear>(uniform_grid(4), 1);
  Problem problem(tilt.base(), reward,
                  std::make_shared<Around>(gaussian(mean, variance), tilt.base(), bins));
  std::vector<Tensor> gradients;
  for (uint64_t i = 0; i < kUpdates; ++i) {
    method.update(problem, update_input(9, i, 256, 1, times));
    gradients.push_back(bins->parameters.grad().clone());
    bins->parameters.mutable_grad().reset();
  }
  return at::stack(gradients).flatten(1);
}

// Its |mean| / standard error over the updates, the largest over parameters.
double gradient_z(const Tilt& tilt, const RewardPtr& reward, const Method& method, double mean,
                  double variance) {
  const Tensor g = gradients_at(tilt, reward, method, mean, variance);
  return largest(g.mean(0) / (g.std(0) / std::sqrt(static_cast<double>(kUpdates))));
}

// Mean and deviation of what an affine policy samples.
struct Law {
  double mean, deviation;
};
Law sampled(Problem& problem, const std::vector<double>& times) {
  const Tensor x1 = sample(
      [&](const Tensor& x, const Tensor& t) { return problem.rollout_velocity(x, t).detach(); },
      matrix({{0}, {1}}), times);
  const double mean = x1[0].item<double>();
  return {mean, x1[1].item<double>() - mean};
}

// Trains affine steps from the base; got is what they sample then.
struct Training {
  Law base, got;
};
Training train_from_base(const Tilt& tilt, const RewardPtr& reward, const Method& method) {
  const auto times = uniform_grid(20);
  const auto control = std::make_shared<BinnedLinear>(times, 1);
  Problem problem(tilt.base(), reward, control);
  const Law base = sampled(problem, times);
  train(problem, method, *control, nullptr,
        {.updates = 200, .batch = 128, .width = 1, .rate = 0.08}, times);
  return {base, sampled(problem, times)};
}

// Holds what is sampled after a training against a law that is known of the base's own samples.
void train_to(AnalyticReport& report, const std::string& name, const Tilt& tilt,
              const RewardPtr& reward, const Method& method,
              const std::function<Law(const Law& base)>& tilted) {
  const auto [base, got] = train_from_base(tilt, reward, method);
  const Law want = tilted(base);
  report.below(name + " trained from the base: mean - the tilted law's, deviations",
               std::abs(got.mean - want.mean) / want.deviation, 0.05,
               fmt::format("{:.4f} of {:.4f}; the base's {:.3f}", got.mean, want.mean, base.mean));
  report.below(name + " trained from the base: deviation / the tilted law's - 1",
               std::abs(got.deviation / want.deviation - 1), 0.05,
               fmt::format("{:.4f} of {:.4f}; the base's {:.3f}", got.deviation, want.deviation,
                           base.deviation));
}

// Without a reward nothing should move, however narrow the base is against delta = 0.02.
void hold_narrow_base(AnalyticReport& report) {
  const Tilt narrow{.mean = 0.5, .deviation = 0.005, .k = 1, .centre = 2, .lambda = 0};
  const auto moved = [&](EamControl control) {
    return largest(gradients_at(narrow, narrow.reward(), *eam(narrow, control, 1, 0.02),
                                narrow.mean, narrow.deviation * narrow.deviation)
                       .mean(0));
  };
  const double stein = moved(EamControl::kStein);
  report.below("EAM without a reward on N(0.5, 0.005^2), gradient by difference over stein's",
               moved(EamControl::kDifference) / stein, 0.01,
               fmt::format("delta 0.02, c = 1; stein's {:.2g}", stein));
}

}  // namespace

void renoised_targets(AnalyticReport& report) {
  const Tilt tilt = mild_tilt();
  const double mean = tilt.target_mean(), variance = tilt.target_variance();
  for (const auto& [word, control] : option_words(EamControl{})) {
    for (const double width : {0.5, 1.0}) {
      const auto method = eam(tilt, control, width);
      report.below(
          fmt::format("EAM's gradient at the tilted law, standard errors, {}, c = {}", word, width),
          gradient_z(tilt, tilt.reward(), *method, mean, variance), 4,
          "largest of 8 parameters, 12 updates of 256");
      report.above(
          fmt::format("EAM's gradient at the base, standard errors, {}, c = {}", word, width),
          gradient_z(tilt, tilt.reward(), *method, tilt.mean, tilt.deviation * tilt.deviation), 20,
          "the test can fail");
    }
  }
  train_to(report, "EAM (stein)", tilt, tilt.reward(), *eam(tilt, EamControl::kStein, 1),
           [&](const Law&) { return Law{mean, std::sqrt(variance)}; });
  // v_theta's own error at 1 - delta comes back 1 / delta times: docs/renoised.md.
  const Law got =
      train_from_base(tilt, tilt.reward(), *eam(tilt, EamControl::kDifference, 1, 0.02)).got;
  report.above(
      "EAM (difference) trained from the base: mean - the tilted law's, deviations: a miss",
      std::abs(got.mean - mean) / std::sqrt(variance), 0.2,
      fmt::format("{:.4f} of {:.4f}, delta 0.02", got.mean, mean));
  hold_narrow_base(report);
}

namespace {

// 0.8 x in one dimension, without a gradient.
struct Line : Reward {
  explicit Line(double slope) : slope_(slope) {}
  Tensor operator()(const Tensor& x) const override { return slope_ * x.detach().sum(1); }
  Dual operator()(const Dual& x) const override { return {(*this)(x.value), x.tangent.sum(1)}; }

 private:
  double slope_;
};

}  // namespace

void reinforced_targets(AnalyticReport& report) {
  const Tilt tilt = mild_tilt();
  const double slope = 0.8, variance = tilt.deviation * tilt.deviation,
               mean = tilt.mean + slope * variance;
  const auto line = std::make_shared<Line>(slope);
  RamOptions o;
  o.normalize = false;
  o.draws = 4;
  o.group = 128;
  const Ram ram(o, no_clip());
  report.below("RAM's gradient at a linear reward's tilted law, standard errors",
               gradient_z(tilt, line, ram, mean, variance), 4,
               "largest of 8 parameters, 12 updates of 256; the reward has no gradient");
  report.above("RAM's gradient at the base, standard errors",
               gradient_z(tilt, line, ram, tilt.mean, variance), 20, "the test can fail");
  train_to(report, "RAM", tilt, line, ram, [&](const Law& base) {
    return Law{base.mean + slope * base.deviation * base.deviation, base.deviation};
  });

  const auto control = std::make_shared<BinnedLinear>(uniform_grid(4), 1);
  Problem flat(tilt.base(), std::make_shared<Line>(0), control);
  RamOptions divided;
  divided.group = 4;
  const MethodReport still =
      Ram(divided, no_clip()).update(flat, update_input(9, 0, 16, 1, uniform_grid(10)));
  report.below("RAM with a constant reward: loss and gradient at the base",
               still.loss.at("matching") + largest(control->parameters.grad()), 1e-28);
}

}  // namespace vggflow::analytic
