#include "vggflow/algorithms/pmp.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include "vggflow/algorithms/adjoint.h"
#include "vggflow/algorithms/matching.h"

namespace vggflow {

Tensor full_adjoint_step(AlignmentProblem& problem, const States& s, double h, const Tensor& a,
                         double lambda) {
  at::AutoGradMode on(true);
  const Tensor leaf = s.x.detach().requires_grad_(true);
  const Tensor policy = problem.policy({leaf, s.t, s.rows}),
               base = problem.adjoint_base({leaf, s.t, s.rows});
  const Tensor pull = lambda * (policy - base).detach();
  return a + h * torch::autograd::grad({policy, base}, {leaf}, {a.detach() + pull, -pull})[0];
}

MethodTrials PmpOptions::trials() {
  return {.small = "bins=3",
          .variants = {{"full, last step", "adjoint=full force_last_step=true"}}};
}

void Pmp::check(int64_t steps) const { check_transitions(options_.transitions, steps); }

MethodReport Pmp::update(AlignmentProblem& problem, const UpdateInput& input) const {
  MethodReport report;
  const WholeBatch& whole = input.whole;
  PhaseWatch watch(whole);
  const double beta = options_.beta * input.beta_scale;
  const Rollout trajectory = roll_out(problem, input, options_.transitions);
  report.seconds["rollout"] = watch.lap();

  const Tensor all_rows = row_numbers(input.x0.size(0), input.x0);
  const RewardGradients end = reward_gradients(problem, clip_, trajectory.final_state(), all_rows,
                                               input.micro_batch, whole);
  const Tensor rows = finite_rows(end.finite, "pmp", whole);
  report.rewards = whole.rows(end.reward);
  report.dropped = whole.count(all_rows.numel() - rows.numel());
  report.values["clip_threshold"] = end.threshold;
  report.seconds["reward"] = watch.lap();

  const StepPullBack full = [&](const States& s, double h, const Tensor& a) {
    return full_adjoint_step(problem, s, h, a, 1 / beta);
  };
  const bool lean = options_.adjoint == AdjointForm::kLean || beta == 0;
  const auto adjoints = sweep(trajectory, rows, -end.gradient.index_select(0, rows),
                              input.micro_batch, lean ? lean_step(problem) : full);
  report.series["adjoint_norm"] = mean_norms(adjoints, whole);
  report.seconds["adjoint"] = watch.lap();

  const Transitions transitions = keep_rows(draw(trajectory, options_.transitions, input), rows);
  const Tensor g = gather(adjoints, transitions, rows);
  report.values["control_energy"] = whole.mean((beta * g).square());
  report.loss["matching"] = match(problem, beta, transitions, g, input.micro_batch, whole);
  report.seconds["train"] = watch.lap();
  return report;
}

Passes Pmp::cost(const CostShape& s, const MethodReport&) const {
  const double m = s.batch * options_.transitions.count();
  const bool full = options_.adjoint == AdjointForm::kFull;
  return {.f = s.batch * s.steps * (s.rollout + s.adjoint + (full ? s.policy : 0)) +
               m * (s.known + s.reference),
          .b = s.batch * s.steps * (s.adjoint + (full ? s.policy_graph : 0)) + m * s.known_graph};
}

Demand Pmp::demand(const CostShape& s) const {
  return {.transitions = s.batch * options_.transitions.count(),
          .reward_gradients = s.batch,
          .adjoint = true};
}

std::string Pmp::cost_formula(const CostShape& s) const {
  const bool full = options_.adjoint == AdjointForm::kFull;
  return fmt::format("B N {}F + B N ({}F + {}B) + {} B ({}F + {}B)", s.rollout,
                     s.adjoint + (full ? s.policy : 0), s.adjoint + (full ? s.policy_graph : 0),
                     options_.transitions.count(), s.known + s.reference, s.known_graph);
}

}  // namespace vggflow
