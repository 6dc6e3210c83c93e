#include "vggflow/algorithms/ram.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <vector>

#include "vggflow/algorithms/matching.h"
#include "vggflow/algorithms/renoised.h"
#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/algorithms/transitions.h"
#include "vggflow/core/error.h"
#include "vggflow/flow/sampling.h"

namespace vggflow {

Tensor advantages(const Tensor& rewards, int64_t group, bool normalize) {
  VGGFLOW_CHECK(rewards.numel() % group == 0,
                "[ram] expected a batch that ram.group={} divides, got {} samples", group,
                rewards.numel());
  const Tensor r = rewards.to(at::kDouble).view({-1, group}), known = at::isfinite(r);
  const Tensor filled = at::where(known, r, at::zeros_like(r)),
               count = known.sum(1, true).clamp_min(1);
  const Tensor mean = filled.sum(1, true) / count;
  const Tensor away = at::where(known, r - mean, at::zeros_like(r));
  if (!normalize) return away.flatten();
  const Tensor deviation = (away.square().sum(1, true) / count).sqrt();
  const Tensor alike = deviation <= 1e-9 * (1 + mean.abs());
  return at::where(alike, at::zeros_like(away), away / deviation).flatten();
}

namespace {

// This share's part of what there is of the whole batch.
Tensor own_rows(const Tensor& all, const UpdateInput& input, int64_t count) {
  return all.size(0) == count ? all
                              : all.narrow(0, static_cast<int64_t>(input.first_sample), count);
}

}  // namespace

MethodTrials RamOptions::trials() {
  return {.small = "group=2",
          .variants = {{"without division", "normalize=false draws=2 strength=3"}}};
}

MethodReport Ram::update(AlignmentProblem& problem, const UpdateInput& input) const {
  MethodReport report;
  const WholeBatch& whole = input.whole;
  PhaseWatch watch(whole);
  const double strength = options_.strength * input.beta_scale;
  const Tensor x1 = roll_out(problem, input).final_state();
  report.seconds["rollout"] = watch.lap();

  const Tensor reward = reward_values(problem, x1);
  report.rewards = whole.rows(reward);
  const Tensor rows = finite_rows(at::isfinite(reward), "ram", whole);
  report.dropped = whole.count(reward.numel() - rows.numel());
  const Tensor a = own_rows(advantages(report.rewards, options_.group, options_.normalize), input,
                            reward.numel())
                       .index_select(0, rows);
  report.values["advantage"] = whole.mean(a.abs());
  report.seconds["reward"] = watch.lap();

  const Renoised at = renoise(input, x1, rows, options_.draws, NoiseLevels::kHigh);
  const Tensor weight = strength * a.repeat_interleave(options_.draws, 0).to(x1.options());
  const double total = whole.sum(static_cast<double>(at.end.numel()));
  report.loss["matching"] = descend_in_parts(
      at.end.size(0), input.micro_batch, x1, whole, [&](int64_t start, int64_t length) {
        const auto part = [&](const Tensor& x) { return x.narrow(0, start, length); };
        const States s = slice(at.states, start, length);
        const Tensor straight = part(at.end) - part(at.noise);
        const Tensor push = -expand_time(part(weight), straight) * (straight - problem.lagged(s));
        return problem.has_difference()
                   ? difference_loss(problem, s, rollout_difference(problem, s).difference, push,
                                     total)
                   : (problem.policy_trained(s) - base_value(problem, s) + push).square().sum() /
                         total;
      });
  report.seconds["train"] = watch.lap();
  return report;
}

Passes Ram::cost(const CostShape& s, const MethodReport&) const {
  const double m = s.batch * static_cast<double>(options_.draws);
  const double policy = s.paired ? s.known : s.policy,
               graph = s.paired ? s.known_graph : s.policy_graph,
               base = s.paired ? s.reference + s.rollout : s.base;
  return {.f = s.batch * s.steps * s.rollout + m * (policy + base + s.policy), .b = m * graph};
}

Demand Ram::demand(const CostShape& s) const {
  return {.transitions = s.batch * static_cast<double>(options_.draws)};
}

std::string Ram::cost_formula(const CostShape& s) const {
  CostShape one = s;
  one.batch = 1;
  one.rollout = s.paired ? s.rollout : 0;
  const Passes p = cost(one, {});
  const auto draws = static_cast<double>(options_.draws);
  return fmt::format("B N {}F + {} B ({:g}F + {:g}B)", s.rollout, options_.draws,
                     (p.f - (s.paired ? s.steps * s.rollout : 0)) / draws, p.b / draws);
}

}  // namespace vggflow
