#include "vggflow/algorithms/leapalign.h"

#include <ATen/ATen.h>

#include <iterator>
#include <utility>

#include "vggflow/core/error.h"

namespace vggflow {

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

Surrogates LeapAlign::draw(const Trajectory& trajectory, const UpdateInput& input) const {
  const int64_t steps = std::ssize(input.times) - 1;
  Surrogates out{.of = {}, .scored = trajectory.final_state(), .alpha = options_.alpha};
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
}

}  // namespace vggflow
