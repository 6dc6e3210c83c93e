#include "vggflow/algorithms/drtune.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

// The first step that may be scored.
int64_t first_scored(const DrtuneOptions& o, int64_t steps) {
  const auto late = std::llround(o.late * static_cast<double>(steps));
  return steps - std::clamp<int64_t>(late, 1, steps);
}

}  // namespace

DrtuneSteps draw_drtune(const DrtuneOptions& o, int64_t steps, RandomStream random) {
  const int64_t least = first_scored(o, steps);
  DrtuneSteps out{least + random.below(steps - least), {}};
  const int64_t stride = (out.scored + 1) / o.k;
  const int64_t first = random.below(out.scored - (o.k - 1) * stride + 1);
  for (int64_t i = 0; i < o.k; ++i) out.trained.push_back(first + i * stride);
  return out;
}

Surrogate drtune_surrogate(const std::vector<double>& times, const DrtuneSteps& steps) {
  Surrogate out;
  for (const int64_t k : steps.trained) {
    const auto i = static_cast<size_t>(k);
    out.late.push_back({k, k == steps.scored ? 1 - times[i] : times[i + 1] - times[i]});
  }
  return out;
}

MethodTrials DrtuneOptions::trials() {
  return {.variants = {{"one step", "k=1 late=1"}, {"all steps", "k=5 late=0.2"}}};
}

void Drtune::check(int64_t steps) const {
  const int64_t least = first_scored(options_, steps) + 1;
  VGGFLOW_CHECK(
      options_.k <= least,
      "[drtune] expected drtune.k of at most {}, the steps up to the first that drtune.late "
      "lets be scored, got {}",
      least, options_.k);
}

Surrogates Drtune::draw(const Trajectory& trajectory, const UpdateInput& input) const {
  const int64_t steps = std::ssize(input.times) - 1;
  Surrogates out;
  StepsOfSamples scored;
  for (int64_t i = 0; i < input.x0.size(0); ++i) {
    const DrtuneSteps drawn = draw_drtune(options_, steps, steps_stream(input, i));
    scored.push_back({drawn.scored});
    out.of.push_back(drtune_surrogate(input.times, drawn));
  }
  const Transitions at = pick(trajectory, scored);
  out.scored = one_step_guess(at.states.x, at.states.t, at.velocity);
  return out;
}

}  // namespace vggflow
