#include "vggflow/algorithms/fitted_adjoint.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "vggflow/algorithms/adjoint.h"
#include "vggflow/algorithms/matching.h"

namespace vggflow {
namespace {

Tensor pull_back(AlignmentProblem& problem, const Trajectory& trajectory, size_t k,
                 const Tensor& rows, const Tensor& a, int64_t micro_batch) {
  return pull_back_step(trajectory, k, rows, a, micro_batch, lean_step(problem));
}

// Pull-backs of one trajectory: one a step of the lambda-return, min(n, N - k) for the n-step
// target at x_k, k = 1 ... N-1.
double pulls_of(const FittedAdjointOptions& o, double steps) {
  if (o.steps == 0) return steps - 1;
  double sum = 0;
  for (int64_t k = 1; k < static_cast<int64_t>(steps); ++k)
    sum += static_cast<double>(std::min(o.steps, static_cast<int64_t>(steps) - k));
  return sum;
}

}  // namespace

std::vector<Tensor> fitted_targets(AlignmentProblem& problem, const Trajectory& trajectory,
                                   const Tensor& rows, const std::vector<Tensor>& guesses,
                                   const FittedAdjointOptions& options, int64_t micro_batch) {
  const size_t n = trajectory.times.size() - 1;
  std::vector<Tensor> out(n + 1);
  out[n] = guesses[n];
  if (options.steps > 0) {
    for (size_t k = n - 1; k > 0; --k) {
      const size_t from = std::min(n, k + static_cast<size_t>(options.steps));
      Tensor a = guesses[from];
      for (size_t j = from; j-- > k;) a = pull_back(problem, trajectory, j, rows, a, micro_batch);
      out[k] = a;
    }
    return out;
  }
  const double lambda = options.lambda_return;
  for (size_t k = n - 1; k > 0; --k) {
    out[k] = pull_back(problem, trajectory, k, rows,
                       (1 - lambda) * guesses[k + 1] + lambda * out[k + 1], micro_batch);
  }
  return out;
}

MethodTrials FittedAdjointOptions::trials() {
  return {.small = "bins=3", .variants = {{"2 steps", "steps=2"}}};
}

void FittedAdjoint::check(int64_t steps) const { check_transitions(options_.transitions, steps); }

MethodReport FittedAdjoint::update(AlignmentProblem& problem, const UpdateInput& input) const {
  MethodReport report;
  const WholeBatch& whole = input.whole;
  PhaseWatch watch(whole);
  const double beta = options_.beta * input.beta_scale;
  const Rollout trajectory = roll_out(problem, input, options_.transitions);
  report.seconds["rollout"] = watch.lap();

  // G at every state, all clipped by one quantile; row k * B + i is trajectory i at t_{k+1}.
  const size_t n = trajectory.times.size() - 1;
  const int64_t batch = input.x0.size(0);
  std::vector<Tensor> points;
  for (size_t k = 1; k <= n; ++k) {
    const Tensor& x = trajectory.states[k];
    const Tensor velocity =
        k < n ? (trajectory.states[k + 1] - x) / (trajectory.times[k + 1] - trajectory.times[k])
              : at::zeros_like(x);
    points.push_back(
        one_step_guess(x, at::full({batch}, trajectory.times[k], x.options()), velocity));
  }
  const RewardGradients all = reward_gradients(
      problem, clip_, at::cat(points),
      row_numbers(batch, input.x0).repeat({static_cast<int64_t>(n)}), input.micro_batch, whole);
  const Tensor rows = finite_rows(all.finite.view({static_cast<int64_t>(n), batch}).all(0),
                                  "fitted_adjoint", whole);
  report.rewards = whole.rows(all.reward.narrow(0, static_cast<int64_t>(n - 1) * batch, batch));
  report.dropped = whole.count(batch - rows.numel());
  report.values["clip_threshold"] = all.threshold;
  report.seconds["reward"] = watch.lap();

  std::vector<Tensor> guesses(n + 1);
  for (size_t k = 1; k <= n; ++k)
    guesses[k] =
        -all.gradient.narrow(0, static_cast<int64_t>(k - 1) * batch, batch).index_select(0, rows);
  const auto targets =
      fitted_targets(problem, trajectory, rows, guesses, options_, input.micro_batch);
  report.series["adjoint_norm"] = mean_norms(targets, whole);
  report.seconds["adjoint"] = watch.lap();

  const Transitions transitions = keep_rows(draw(trajectory, options_.transitions, input), rows);
  const Tensor g = gather(targets, transitions, rows);
  report.values["control_energy"] = whole.mean((beta * g).square());
  report.loss["matching"] = match(problem, beta, transitions, g, input.micro_batch, whole);
  report.seconds["train"] = watch.lap();
  return report;
}

Passes FittedAdjoint::cost(const CostShape& s, const MethodReport&) const {
  const double m = s.batch * options_.transitions.count();
  const double pulls = s.batch * pulls_of(options_, s.steps);
  return {.f = s.batch * s.steps * s.rollout + pulls * s.adjoint + m * (s.known + s.reference),
          .b = pulls * s.adjoint + m * s.known_graph};
}

Demand FittedAdjoint::demand(const CostShape& s) const {
  return {.transitions = s.batch * options_.transitions.count(),
          .reward_gradients = s.batch * s.steps,
          .adjoint = true};
}

std::string FittedAdjoint::cost_formula(const CostShape& s) const {
  return fmt::format("B N {}F + {} B ({}F + {}B) + {} B ({}F + {}B)", s.rollout,
                     pulls_of(options_, s.steps), s.adjoint, s.adjoint,
                     options_.transitions.count(), s.known + s.reference, s.known_graph);
}

}  // namespace vggflow
