#include "vggflow/algorithms/leapalign.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "vggflow/core/error.h"

namespace vggflow {

std::pair<int64_t, int64_t> draw_two_steps(int64_t steps, RandomStream& random) {
  const int64_t a = random.below(steps), other = random.below(steps - 1);
  const int64_t b = other + (other >= a ? 1 : 0);
  return std::minmax(a, b);
}

Surrogate leap_surrogate(const std::vector<double>& times, int64_t k, int64_t j) {
  const double from = times[static_cast<size_t>(k)], landing = times[static_cast<size_t>(j)];
  return {.late = {}, .joint = StepTerm{j, 1 - landing}, .early = {{k, landing - from}}};
}

MethodTrials LeapAlignOptions::trials() {
  return {.variants = {{"whole input", "alpha=1"}, {"detached input", "alpha=0 tau=2"}}};
}

void LeapAlign::check(int64_t steps) const {
  VGGFLOW_CHECK(steps >= 2, "[leapalign] expected time_grid.steps of at least 2, got {}", steps);
}

MethodReport LeapAlign::update(AlignmentProblem& problem, const UpdateInput& input) const {
  const auto steps = static_cast<int64_t>(input.times.size()) - 1;
  check(steps);
  return ascend(problem, input, {"leapalign", options_.transform, clip_},
                [&](const Trajectory& trajectory) {
                  Surrogates out{{}, trajectory.final_state(), {}, options_.alpha};
                  std::vector<std::pair<Leg, Leg>> legs;
                  for (int64_t i = 0; i < input.x0.size(0); ++i) {
                    RandomStream random = steps_stream(input, i);
                    const auto [k, j] = draw_two_steps(steps, random);
                    const Surrogate s = leap_surrogate(input.times, k, j);
                    legs.push_back({{k, j, s.early}, {j, steps, {*s.joint}}});
                    out.of.push_back(s);
                  }
                  out.weight = gap_weights(trajectory, legs, options_.tau);
                  return out;
                });
}

Passes LeapAlign::cost(const CostShape& s, const MethodReport&) const {
  return ascent_passes(s, s.batch, /*joint=*/true);
}

Demand LeapAlign::demand(const CostShape& s) const {
  return {.transitions = 2 * s.batch, .reward_gradients = s.batch, .policy_input = true};
}

std::string LeapAlign::cost_formula(const CostShape& s) const {
  return ascent_formula(s, 1, /*joint=*/true);
}

}  // namespace vggflow
