#include "vggflow/algorithms/matching.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace vggflow {

Tensor base_value(AlignmentProblem& problem, const States& states) {
  at::NoGradGuard no_grad;
  return problem.base(states);
}

Tensor matching_loss(AlignmentProblem& problem, const States& states, const Tensor& velocity,
                     const Tensor& target, double total) {
  const Tensor residual = problem.policy_known(states, velocity) - target;
  return (residual * residual).sum() / total;
}

Tensor difference_loss(AlignmentProblem& problem, const States& states, const Tensor& difference,
                       const Tensor& push, double total) {
  return (problem.difference_known(states, difference) + push).square().sum() / total;
}

double match(AlignmentProblem& problem, double beta, const Transitions& all, const Tensor& g,
             int64_t micro_batch, const WholeBatch& whole) {
  const double total = whole.sum(static_cast<double>(g.numel()));
  return descend_in_parts(g.size(0), micro_batch, g, whole, [&](int64_t start, int64_t length) {
    const States states = slice(all.states, start, length);
    const Tensor push = beta * g.narrow(0, start, length);
    return all.difference.defined()
               ? difference_loss(problem, states, all.difference.narrow(0, start, length), push,
                                 total)
               : matching_loss(problem, states, all.velocity.narrow(0, start, length),
                               base_value(problem, states) - push, total);
  });
}

}  // namespace vggflow
