#pragma once
// What nu learns from with consistency.kind=return: the lean adjoint (pmp.h) of the rollouts,
//
//   a_N = -c grad r(x_N),   a_k = a_{k+1} + h_k [grad v_base(x_k, t_k)]^T a_{k+1},
//
// which is the lambda-return of fitted_adjoint.h with lambda = 1. The loss is the mean over all
// states of the sweep of
//
//   |guess(x_k, t_k) + nu_phi(x_k, t_k) - a_{k+1}|^2 / |a_{k+1}|^2
//
// in which |a|^2 is at least 1e-3 |c grad r(x_N)|^2: every state counts alike although adjoints
// differ a hundredfold, and the loss does not know the reward's scale. It asks for no derivative of
// nu and costs one sweep, which the value consistency's bootstrap would need for one step of the
// same path.

#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/algorithms/transitions.h"

namespace vggflow {

/// Sweeps from `end` (gradients at the end points) and trains nu at the transitions `at`, where g
/// is `guess` without nu: in `parts` steps of its optimizer, the last of which is left to the
/// caller. Step k of sample i belongs to part (k + i + update) mod parts, so that each part has all
/// times. Returns the loss, a mean over the whole batch's states as they were before their step.
double train_on_return(AlignmentProblem& problem, const Trajectory& trajectory,
                       const RewardGradients& end, const Transitions& at, const Tensor& guess,
                       int64_t parts, const UpdateInput& input);

}  // namespace vggflow
