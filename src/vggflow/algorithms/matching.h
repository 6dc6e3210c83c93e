#pragma once
// Value gradient matching (VGG-Flow, Eq. 14), the loss of every method that regresses the velocity
// on v_base - beta g:
//
//   L(theta) = E |v_theta - sg(v_base - beta g)|^2, a mean over elements

#include "vggflow/algorithms/transitions.h"

namespace vggflow {

/// |v_theta - target|^2 summed over the given transitions and divided by `total` elements; gradient
/// to theta. `velocity` is v_theta there as the rollout found it.
Tensor matching_loss(AlignmentProblem& problem, const States& states, const Tensor& velocity,
                     const Tensor& target, double total);

/// The same for v_theta - v_base as the rollout carried it, with push = beta g: the mean of
/// |v_theta - v_base + push|^2.
Tensor difference_loss(AlignmentProblem& problem, const States& states, const Tensor& difference,
                       const Tensor& push, double total);

/// The loss on v_base - beta g over all transitions in parts, its gradient accumulated; returns the
/// mean over the elements of the whole batch.
double match(AlignmentProblem& problem, double beta, const Transitions& transitions,
             const Tensor& g, int64_t micro_batch, const WholeBatch& whole = {});

/// v_base without gradient.
Tensor base_value(AlignmentProblem& problem, const States& states);

}  // namespace vggflow
