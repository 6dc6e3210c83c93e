#include "vggflow/algorithms/gradient_probe.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "vggflow/algorithms/adjoint.h"

namespace vggflow {
namespace {

constexpr double kMostRows = 8;

Tensor squared(const Tensor& x) { return x.flatten(1).to(at::kDouble).square().sum(1); }

double average(const Tensor& x) { return x.mean().item<double>(); }

}  // namespace

Agreement agreement(const Tensor& g, const Tensor& a) {
  constexpr double kTiny = 1e-300;
  const Tensor gg = squared(g), aa = squared(a),
               product = (g.flatten(1).to(at::kDouble) * a.flatten(1)).sum(1);
  return {(squared(g - a) / aa.clamp_min(kTiny)).sqrt(),
          product / (gg.sqrt() * aa.sqrt()).clamp_min(kTiny), (gg / aa.clamp_min(kTiny)).sqrt()};
}

double probed_rows(double batch) { return std::min(batch, kMostRows); }

Passes probe_passes(const CostShape& s) {
  const double pulls = probed_rows(s.batch) * s.steps * s.adjoint;
  return {.f = pulls, .b = pulls};
}

void probe(AlignmentProblem& problem, const RewardClipOptions& clip, const Trajectory& trajectory,
           const Transitions& at, const Tensor& guess, const Tensor& g, int64_t micro_batch,
           MethodReport& report) {
  const Tensor& x1 = trajectory.final_state();
  const auto count = static_cast<int64_t>(probed_rows(static_cast<double>(x1.size(0))));
  const Tensor rows = row_numbers(count, x1);
  const RewardGradients end =
      reward_gradients(problem, clip, x1.narrow(0, 0, count), rows, micro_batch);
  const auto adjoints = sweep(trajectory, rows, -end.gradient, micro_batch, lean_step(problem));
  const Tensor index = (at.states.rows < count).nonzero().flatten();
  if (index.numel() == 0) return;
  const Tensor a = gather(adjoints, choose(at, index), rows);
  const Agreement of_guess = agreement(guess.index_select(0, index), a),
                  of_g = agreement(g.index_select(0, index), a);
  report.values["error_of_guess"] = average(of_guess.error);
  report.values["cosine_of_guess"] = average(of_guess.cosine);
  report.values["error_of_g"] = average(of_g.error);
  report.values["cosine_of_g"] = average(of_g.cosine);
}

}  // namespace vggflow
