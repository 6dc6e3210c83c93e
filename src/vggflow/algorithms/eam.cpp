#include "vggflow/algorithms/eam.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "vggflow/algorithms/renoised.h"
#include "vggflow/algorithms/transitions.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/ops/row_norms.h"

namespace vggflow {

namespace {

// s(x_1) of the head, without gradient.
Tensor score(AlignmentProblem& problem, const Tensor& x1, const Tensor& rows,
             const EamOptions& options) {
  at::NoGradGuard no_grad;
  const double t = 1 - options.delta;
  const States s{t * x1, at::full({x1.size(0)}, t, x1.options()), rows};
  if (options.control == EamControl::kStein) return t / options.delta * (t * problem.base(s) - s.x);
  const Tensor change = problem.has_difference() ? problem.rollout_difference(s).difference
                                                 : problem.policy(s) - problem.base(s);
  return -(t * t / options.delta) * change;
}

// v* of the head; q (M, ...) beside the states.
Tensor target_of(const Renoised& at, const Tensor& q, const EamOptions& options) {
  const Tensor t = expand_time(at.states.t, q),
               c2 = at::full_like(t, options.width * options.width),
               pull =
                   options.control == EamControl::kStein ? (1 - t) * q + t * at.noise : (1 - t) * q;
  return at.end - at.noise + c2 / (t.square() * c2 + (1 - t).square()) * pull;
}

}  // namespace

MethodTrials EamOptions::trials() {
  return {.variants = {{"one draw, narrow", "draws=1 width=0.5"},
                       {"difference of scores", "control=difference"}}};
}

MethodReport Eam::update(AlignmentProblem& problem, const UpdateInput& input) const {
  MethodReport report;
  const WholeBatch& whole = input.whole;
  PhaseWatch watch(whole);
  const double lambda = lambda_of(options_.lambda, options_.lambda_unit, input);
  const Tensor x1 = roll_out(problem, input).final_state();
  report.seconds["rollout"] = watch.lap();

  const Tensor all_rows = row_numbers(x1.size(0), x1);
  const RewardGradients end =
      reward_gradients(problem, clip_, x1, all_rows, input.micro_batch, whole);
  const Tensor rows = finite_rows(end.finite, "eam", whole);
  report.rewards = whole.rows(end.reward);
  report.dropped = whole.count(all_rows.numel() - rows.numel());
  report.values["clip_threshold"] = end.threshold;
  report.seconds["reward"] = watch.lap();

  std::vector<Tensor> scores;
  in_parts(rows.numel(), input.micro_batch, [&](int64_t start, int64_t length) {
    const Tensor part = rows.narrow(0, start, length);
    scores.push_back(score(problem, x1.index_select(0, part), part, options_));
  });
  const Tensor change = joined(scores, x1), pull = lambda * end.gradient.index_select(0, rows);
  report.values["score_norm"] = whole.mean(row_norms(change));
  report.values["reward_norm"] = whole.mean(row_norms(pull));
  report.seconds["score"] = watch.lap();

  const Renoised at = renoise(input, x1, rows, options_.draws);
  const Tensor target =
      target_of(at, (pull + change).repeat_interleave(options_.draws, 0), options_);
  const double total = whole.sum(static_cast<double>(target.numel()));
  report.loss["matching"] = descend_in_parts(
      target.size(0), input.micro_batch, x1, whole, [&](int64_t start, int64_t length) {
        const Tensor v = problem.policy_trained(slice(at.states, start, length));
        return (v - target.narrow(0, start, length)).square().sum() / total;
      });
  report.seconds["train"] = watch.lap();
  return report;
}

// Forwards of an end point.
double Eam::of_end(const CostShape& s) const {
  if (options_.control == EamControl::kStein) return s.base;
  return s.paired ? s.rollout + s.reference : s.policy + s.base;
}

Passes Eam::cost(const CostShape& s, const MethodReport&) const {
  const double m = s.batch * static_cast<double>(options_.draws);
  return {.f = s.batch * (s.steps * s.rollout + of_end(s)) + m * s.policy, .b = m * s.policy_graph};
}

Demand Eam::demand(const CostShape& s) const {
  return {.transitions = s.batch * static_cast<double>(options_.draws),
          .reward_gradients = s.batch,
          .policy_input = false};
}

std::string Eam::cost_formula(const CostShape& s) const {
  return fmt::format("B (N {}F + {}F) + {} B ({}F + {}B)", s.rollout, of_end(s), options_.draws,
                     s.policy, s.policy_graph);
}

}  // namespace vggflow
