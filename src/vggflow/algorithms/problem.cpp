#include "vggflow/algorithms/problem.h"

#include <ATen/ATen.h>

namespace vggflow {

VelocityDifference AlignmentProblem::rollout_difference(const States& s) {
  const Tensor velocity = rollout_rows(s);
  return {velocity, policy(s) - base(s)};
}

Tensor AlignmentProblem::difference_known(const States& s, const Tensor& difference) {
  const Tensor v = policy(s);
  return difference + (v - v.detach());
}

}  // namespace vggflow
