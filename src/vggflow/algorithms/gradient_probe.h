#pragma once
// How good an estimate of the value gradient is: held against the lean adjoint of the same
// trajectories (pmp.h), which is what the estimate stands for at a tenth of the passes.

#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/algorithms/transitions.h"

namespace vggflow {

/// By sample (M): |g - a| / |a|, the cosine of g and a, and |g| / |a|. Where a is 0 they are 0.
struct Agreement {
  Tensor error, cosine, ratio;
};
Agreement agreement(const Tensor& g, const Tensor& a);

/// Trajectories of a batch that a probe takes.
double probed_rows(double batch);

/// Passes of one probe.
Passes probe_passes(const CostShape& shape);

/// Pulls the end points' gradients of the batch's first trajectories back through every step and
/// sets report.values: error_of_guess, cosine_of_guess, error_of_g and cosine_of_g, means over the
/// transitions of these trajectories. Nothing is set where none of them is there. `guess`: g
/// without nu at the transitions; `g`: with it.
void probe(AlignmentProblem& problem, const RewardClipOptions& clip, const Trajectory& trajectory,
           const Transitions& at, const Tensor& guess, const Tensor& g, const UpdateInput& input,
           MethodReport& report);

}  // namespace vggflow
