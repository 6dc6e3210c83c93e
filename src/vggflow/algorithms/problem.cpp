#include "vggflow/algorithms/problem.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace vggflow {

Tensor AlignmentProblem::lagged(const States& s) {
  at::NoGradGuard no_grad;
  return policy(s);
}

VelocityDifference AlignmentProblem::rollout_difference(const States& s) {
  const Tensor velocity = rollout_rows(s);
  return {velocity, policy(s) - base(s)};
}

Tensor AlignmentProblem::difference_known(const States& s, const Tensor& difference) {
  const Tensor v = policy(s);
  return difference + (v - v.detach());
}

}  // namespace vggflow
