#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/algorithms/adjoint_matching.h"
#include "vggflow/algorithms/method.h"
#include "vggflow/core/error.h"
#include "vggflow/proofs/analytic_claims.h"

namespace vggflow::analytic {
namespace {

struct Grid {
  std::string name;
  std::vector<double> times;
};

std::vector<Grid> coarse_grids() {
  TimeGridOptions sd3;
  sd3.steps = 20;
  sd3.kind = GridKind::kDiffusersDefault;
  sd3.shift = 3;
  return {{"uniform 40", uniform_grid(40)},
          {"uniform 20", uniform_grid(20)},
          {"SD3 20 (default)", time_grid(sd3)}};
}

std::vector<double> zeros(const std::vector<double>& times) {
  return std::vector<double>(times.size() - 1, 0.0);
}

AdjointMatchingOptions all_steps() {
  AdjointMatchingOptions o;
  o.tail = 1;
  o.early = 0;
  o.clip = TermClip::kNone;
  return o;
}

std::unique_ptr<Method> adjoint_matching(double lambda) {
  AdjointMatchingOptions o = all_steps();
  o.lambda = lambda;
  return std::make_unique<AdjointMatching>(o, no_clip());
}

// |mean| / standard error of the update's gradient over independent updates, the largest over
// parameters.
double gradient_z(const Tilt& tilt, BinnedLinear& control, std::shared_ptr<const Field> policy,
                  const std::vector<double>& times) {
  constexpr int64_t kUpdates = 24, kBatch = 256;
  Problem problem(tilt.base(), tilt.reward(), policy);
  const auto method = adjoint_matching(tilt.lambda);
  std::vector<Tensor> gradients;
  for (uint64_t i = 0; i < kUpdates; ++i) {
    method->update(problem, update_input(9, i, kBatch, 1, times));
    gradients.push_back(control.parameters.grad().clone());
    control.parameters.mutable_grad().reset();
  }
  const Tensor g = at::stack(gradients);
  constexpr double kRounding = 1e-12;  // the last step's residual is 0 on every path
  return largest(g.mean(0) / (g.std(0) / std::sqrt(static_cast<double>(kUpdates)) + kRounding));
}

// Mean and variance of the memoryless SDE's ends, in standard errors from the target's.
void sample_fixed_point(AnalyticReport& report, const Tilt& tilt) {
  constexpr int64_t kSteps = 800, kSamples = 4000;
  const auto times = uniform_grid(kSteps);
  const TiltFixedPoint fixed(tilt, times);
  Problem problem(tilt.base(), tilt.reward(), fixed.control());
  const MemorylessPath path = roll_out_memoryless(problem, update_input(4, 0, kSamples, 1, times));
  const Tensor x = path.trajectory.final_state();
  const double mean = x.mean().item<double>(), variance = x.var().item<double>(), n = kSamples;
  const double z_mean = std::abs(mean - tilt.target_mean()) / std::sqrt(tilt.target_variance() / n);
  const double z_variance =
      std::abs(variance - tilt.target_variance()) / (tilt.target_variance() * std::sqrt(2 / n));
  report.below("sampled mean at AM's fixed point, standard errors", z_mean, 3,
               fmt::format("{:.4f}, p_base exp(lambda r) has {:.4f}; 4000 samples, 800 steps", mean,
                           tilt.target_mean()));
  report.below(
      "sampled variance at AM's fixed point, standard errors", z_variance, 3,
      fmt::format("{:.4f}, p_base exp(lambda r) has {:.4f}", variance, tilt.target_variance()));
  report.above("the base's mean, standard errors from the target",
               std::abs(tilt.mean - tilt.target_mean()) / std::sqrt(tilt.target_variance() / n), 20,
               fmt::format("{:.4f}: the test can fail", tilt.mean));
}

// Training from the base reaches the fixed point.
void train_to_fixed_point(AnalyticReport& report, const Tilt& tilt) {
  const auto times = uniform_grid(20);
  const TiltFixedPoint fixed(tilt, times);
  auto control = std::make_shared<BinnedLinear>(times, 1);
  Problem problem(tilt.base(), tilt.reward(), control);
  train(problem, *adjoint_matching(tilt.lambda), *control, nullptr,
        {.updates = 500, .batch = 128, .width = 1, .rate = 0.1}, times);
  const Tensor p = control->parameters.detach().view({-1, 2});
  std::vector<double> slopes, offsets;
  for (int64_t k = 0; k < p.size(0); ++k)
    slopes.push_back(p[k][0].item<double>()), offsets.push_back(p[k][1].item<double>());
  const Gaussian end = memoryless_end(tilt, times, slopes, offsets);
  const double sd = std::sqrt(fixed.variance);
  report.below(
      "AM trained from the base: mean - fixed point's, deviations",
      std::abs(end.mean - fixed.mean) / sd, 0.03,
      fmt::format("{:.4f} and {:.4f}, 20 steps, 500 updates of 128", end.mean, fixed.mean));
  report.below("AM trained from the base: deviation / fixed point's - 1",
               std::abs(std::sqrt(end.variance) / sd - 1), 0.03,
               fmt::format("{:.4f} and {:.4f}", std::sqrt(end.variance), sd));
}

}  // namespace

void tilted_distribution(AnalyticReport& report) {
  const Tilt tilt;
  sample_fixed_point(report, tilt);
  const auto times = uniform_grid(20);
  const auto fixed = TiltFixedPoint(tilt, times).control();
  const auto base = std::make_shared<BinnedLinear>(times, 1);
  report.below("AM's gradient at its fixed point, standard errors",
               gradient_z(tilt, *fixed, fixed, times), 4,
               "largest of 40 parameters, 24 updates of 256");
  report.above("AM's gradient at the base, standard errors", gradient_z(tilt, *base, base, times),
               20, "the test can fail");
  train_to_fixed_point(report, tilt);

  // The bias of coarse grids: of the base alone (lambda = 0, deviation 0.5) and of the fixed point.
  const std::vector<double> known_sd{0.521, 0.542, 0.569}, known_mean{2.035, 2.064, 2.120};
  const auto grids = coarse_grids();
  AnalyticFigure figure{
      "analytic_tilt",
      "Adjoint Matching's bias on uniform grids",
      "steps",
      "deviation / target's",
      false,
      {{"base, lambda 0", {}, {}}, {"fixed point", {}, {}}, {"target", {8, 160}, {1, 1}, true}}};
  for (size_t i = 0; i < grids.size(); ++i) {
    const auto& [name, grid] = grids[i];
    const Gaussian alone = memoryless_end(tilt, grid, zeros(grid), zeros(grid));
    const TiltFixedPoint tilted(tilt, grid);
    report.below(
        "base's bias on " + name + " - simulated before",
        std::max(std::abs(std::sqrt(alone.variance) - known_sd[i]),
                 std::abs(alone.mean - known_mean[i])),
        6e-3,
        fmt::format("mean {:.3f}, deviation {:.3f} of 2, 0.5; 40000 samples gave {:.3f}, {:.3f} "
                    "(bound: 3 standard errors). Fixed point: mean {:.3f} of {:.3f}, "
                    "deviation {:.3f} of {:.3f}",
                    alone.mean, std::sqrt(alone.variance), known_mean[i], known_sd[i], tilted.mean,
                    tilt.target_mean(), std::sqrt(tilted.variance),
                    std::sqrt(tilt.target_variance())));
  }
  for (const int64_t n : {10, 20, 40, 80, 160}) {
    const auto grid = uniform_grid(n);
    for (AnalyticSeries& s : figure.series) {
      if (!s.dashed) s.x.push_back(static_cast<double>(n));
    }
    figure.series[0].y.push_back(
        std::sqrt(memoryless_end(tilt, grid, zeros(grid), zeros(grid)).variance) / tilt.deviation);
    figure.series[1].y.push_back(
        std::sqrt(TiltFixedPoint(tilt, grid).variance / tilt.target_variance()));
  }
  report.figures.push_back(figure);
  const auto bias = [&](int64_t n) {
    return std::abs(TiltFixedPoint(tilt, uniform_grid(n)).mean - tilt.target_mean());
  };
  report.below("order of the fixed point's bias in the mean",
               std::abs(std::log2(bias(400) / bias(800)) - 1), 0.1,
               fmt::format("{:.1e} with 400 steps, {:.1e} with 800: it vanishes with the step",
                           bias(400), bias(800)));
}

}  // namespace vggflow::analytic
