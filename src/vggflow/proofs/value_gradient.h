#pragma once
// How good VGG-Flow's choices of g are on a problem: each held against the lean adjoint of the same
// trajectories (docs/coarse-adjoint.md). `vggflow check --value-gradient` prints it for a model.

#include <string>
#include <vector>

#include "vggflow/algorithms/vgg_flow.h"

namespace vggflow {

/// A mean over trajectories and its standard error.
struct Figure {
  double mean = 0, error = 0;
};

/// One choice of g. Cosine, ratio and error are of all transitions but the last, where the end's
/// gradient is g itself.
struct ValueGradientRow {
  std::string name;
  double pulls = 0;   ///< pull-backs of one trajectory
  double passes = 0;  ///< F + J + B of one trajectory of an update, on average
  Figure cosine;      ///< with the lean adjoint, mean over transitions
  Figure gain;  ///< sum h <g, a> / sqrt(sum h |g|^2 sum h |a|^2): of the reward to first order, at
                ///< equal control energy; 1 is the most
  double ratio = 0;  ///< geometric mean of |g| / |a|
  double error = 0;  ///< mean of |g - a| / |a|
};

/// The guess and the end point, each times t^2, coarse adjoints of 3, 5 and 8 nodes, damped and
/// not, one of every second step, the problem's nu on top of the guess `below_nu` where it has one
/// (its own passes are not counted), and the lean adjoint itself; along the policy's trajectories
/// from input.x0. `shape`: what the problem's calls cost.
std::vector<ValueGradientRow> measure_value_gradient(AlignmentProblem& problem,
                                                     const UpdateInput& input, CostShape shape,
                                                     double damping,
                                                     Guess below_nu = Guess::kOneStep);

}  // namespace vggflow
