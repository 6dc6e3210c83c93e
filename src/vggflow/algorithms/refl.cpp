#include "vggflow/algorithms/refl.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <vector>
#include "vggflow/algorithms/transitions.h"
#include "vggflow/core/error.h"

namespace vggflow {

MethodTrials ReflOptions::trials() { return {.small = "k_min=2 k_max=5"}; }

void Refl::check(int64_t steps) const {
  VGGFLOW_CHECK(options_.k_min <= options_.k_max && options_.k_max < steps,
                "[refl] expected 0 <= refl.k_min <= refl.k_max < {} (the steps), got {} and {}",
                steps, options_.k_min, options_.k_max);
}

MethodReport Refl::update(AlignmentProblem& problem, const UpdateInput& input) const {
  check(static_cast<int64_t>(input.times.size()) - 1);
  MethodReport report;
  const WholeBatch& whole = input.whole;
  PhaseWatch watch(whole);
  const Trajectory trajectory = roll_out(problem, input);
  const int64_t batch = input.x0.size(0);
  std::vector<std::vector<int64_t>> chosen;
  for (int64_t i = 0; i < batch; ++i) {
    RandomStream random = steps_stream(input, i);
    chosen.push_back({options_.k_min + random.below(options_.k_max - options_.k_min + 1)});
  }
  const Transitions all = pick(trajectory, chosen);
  report.rewards = whole.rows(reward_values(problem, trajectory.final_state()));
  report.seconds["rollout"] = watch.lap();

  const RewardGradients r =
      reward_gradients(problem, clip_, one_step_guess(all.states.x, all.states.t, all.velocity),
                       all.states.rows, input.micro_batch, whole);
  const Tensor keep = finite_rows(r.finite, "refl", whole);
  report.dropped = whole.count(batch - keep.numel());
  report.values["clip_threshold"] = r.threshold;
  report.loss["reward"] =
      -whole.mean(transformed(options_.transform, r.reward.index_select(0, keep)));
  const Tensor weight = (1 - all.states.t) * transform_slope(options_.transform, r.reward) /
                        static_cast<double>(whole.count(keep.numel()));
  const Tensor pull = -expand_time(weight, r.gradient) * r.gradient;
  report.seconds["reward"] = watch.lap();

  in_parts(keep.numel(), input.micro_batch, [&](int64_t start, int64_t length) {
    const Tensor part = keep.narrow(0, start, length);
    const Tensor velocity =
        problem.policy_known(select(all.states, part), all.velocity.index_select(0, part));
    (velocity * pull.index_select(0, part)).sum().backward();
  });
  report.seconds["train"] = watch.lap();
  return report;
}

Passes Refl::cost(const CostShape& s, const MethodReport&) const {
  return {.f = s.batch * (s.steps * s.rollout + s.known), .b = s.batch * s.known_graph};
}

Demand Refl::demand(const CostShape& s) const {
  return {.transitions = s.batch, .reward_gradients = s.batch};
}

std::string Refl::cost_formula(const CostShape& s) const {
  return fmt::format("B N {}F + B ({}F + {}B)", s.rollout, s.known, s.known_graph);
}

}  // namespace vggflow
