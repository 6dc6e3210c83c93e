#include "vggflow/algorithms/pmp.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "vggflow/algorithms/adjoint.h"
#include "vggflow/algorithms/matching.h"
#include "vggflow/core/error.h"

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
          .variants = {{"full, last step", "adjoint=full force_last_step=true"},
                       {"last 4 steps alone", "steps=4 early=none"},
                       {"last 2 steps, full, anchored", "steps=2 early=anchor adjoint=full"},
                       {"last 2 steps, frozen", "steps=2"},
                       {"end point", "steps=0"}}};
}

// Of a trajectory of so many steps.
double Pmp::pull_backs(double steps) const {
  return options_.steps < 0 ? steps : std::min(static_cast<double>(options_.steps), steps);
}

int64_t Pmp::first_trained(int64_t steps) const {
  return options_.early == EarlySteps::kNone && options_.steps >= 0 ? steps - options_.steps : 0;
}

void Pmp::check(int64_t steps) const {
  VGGFLOW_CHECK(options_.steps <= steps,
                "[pmp] expected pmp.steps of at most {} (the steps), got {}", steps,
                options_.steps);
  VGGFLOW_CHECK(options_.steps != 0 || options_.early == EarlySteps::kFrozenAdjoint,
                "[pmp] expected pmp.early=frozen_adjoint with pmp.steps=0, got {}: no transition "
                "would see the reward",
                word_of(options_.early));
  check_transitions(options_.transitions, steps - first_trained(steps));
}

namespace {

// What transitions before x_first's see in place of an adjoint.
void fill_early(std::vector<Tensor>& adjoints, size_t first, EarlySteps early) {
  const Tensor& last = adjoints[first];
  if (early == EarlySteps::kAnchor && first > 0) adjoints[first] = at::zeros_like(last);
  for (size_t k = 0; k < first; ++k) adjoints[k] = adjoints[first];
}

}  // namespace

MethodReport Pmp::update(AlignmentProblem& problem, const UpdateInput& input) const {
  MethodReport report;
  const WholeBatch& whole = input.whole;
  PhaseWatch watch(whole);
  const double beta = options_.beta * input.beta_scale;
  const auto count = static_cast<int64_t>(input.times.size()) - 1;
  check(count);
  const StepsOfSamples steps = draw_steps(options_.transitions, input, first_trained(count));
  const Rollout trajectory = roll_out(problem, input, steps);
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
  const auto first =
      static_cast<size_t>(count) - static_cast<size_t>(pull_backs(static_cast<double>(count)));
  auto adjoints = sweep(trajectory, rows, -end.gradient.index_select(0, rows), input.micro_batch,
                        lean ? lean_step(problem) : full, first);
  report.series["adjoint_norm"] = mean_norms(adjoints, whole);
  fill_early(adjoints, first, options_.early);
  report.seconds["adjoint"] = watch.lap();

  const Transitions transitions = keep_rows(pick(trajectory, steps), rows);
  const Tensor g = gather(adjoints, transitions, rows);
  report.values["control_energy"] = whole.mean((beta * g).square());
  report.loss["matching"] = match(problem, beta, transitions, g, input.micro_batch, whole);
  report.seconds["train"] = watch.lap();
  return report;
}

Passes Pmp::cost(const CostShape& s, const MethodReport&) const {
  const double m = s.batch * options_.transitions.count();
  const bool full = options_.adjoint == AdjointForm::kFull;
  const double pulls = s.batch * pull_backs(s.steps);
  return {.f = s.batch * s.steps * s.rollout + pulls * (s.adjoint + (full ? s.policy : 0)) +
               m * (s.known + s.reference),
          .b = pulls * (s.adjoint + (full ? s.policy_graph : 0)) + m * s.known_graph};
}

Demand Pmp::demand(const CostShape& s) const {
  return {.transitions = s.batch * options_.transitions.count(),
          .reward_gradients = s.batch,
          .adjoint = pull_backs(s.steps) > 0};
}

std::string Pmp::cost_formula(const CostShape& s) const {
  const bool full = options_.adjoint == AdjointForm::kFull;
  const double pulls = pull_backs(s.steps);
  const std::string adjoint =
      pulls > 0
          ? fmt::format(" + {} ({}F + {}B)", pulls == s.steps ? "B N" : fmt::format("{} B", pulls),
                        s.adjoint + (full ? s.policy : 0), s.adjoint + (full ? s.policy_graph : 0))
          : "";
  return fmt::format("B N {}F{} + {} B ({}F + {}B)", s.rollout, adjoint,
                     options_.transitions.count(), s.known + s.reference, s.known_graph);
}

}  // namespace vggflow
