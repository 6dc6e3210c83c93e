#pragma once
// Direct ascent of a reward along a rollout that is kept without a graph (docs/reward-ascent.md).
// ReFL's relatives differ in which steps of a trajectory are shown the reward's gradient, and how
// much of it. Each is a sum of vector-Jacobian products of single steps:
//
//   G = -(w / B) f'(r) grad r at the point that is scored,   v_k = v_theta(x_k, t_k)
//   p = c_j [d v_j / d x_j]^T G
//   grad_theta = sum_late c_k [d v_k / d theta]^T G + c_j [d v_j / d theta]^T G
//              + sum_early c_k [d v_k / d theta]^T (G + alpha p)
//
// So no graph spans two steps, and memory is that of one. With the unconditional branch detached
// every product is the guidance scale times the conditional branch's, that of p too.

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/algorithms/transitions.h"

namespace vggflow {

/// c_k [d v_k / d theta]^T of what a step is shown.
struct StepTerm {
  int64_t step;
  double weight;
};

/// The terms of one trajectory.
struct Surrogate {
  std::vector<StepTerm> late;          ///< shown G
  std::optional<StepTerm> joint = {};  ///< j, whose input hands on p
  std::vector<StepTerm> early = {};    ///< shown G + alpha p
};

/// What a method makes of a batch's rollout.
struct Surrogates {
  std::vector<Surrogate> of;  ///< by sample
  Tensor scored;              ///< (B, ...) where the reward is asked, detached
  Tensor weight = {};         ///< (B) w; undefined: 1
  double alpha = 0;
};

/// Settings that all share.
struct AscentOptions {
  const char* name;  ///< of the method, in messages
  RewardTransformOptions transform;
  RewardClipOptions clip;
};

/// One update: rolls out, asks `draw` for the surrogates, and accumulates the gradient of -mean w
/// f(r). Reports `terms`, the products without p, of the whole batch.
MethodReport ascend(AlignmentProblem& problem, const UpdateInput& input,
                    const AscentOptions& options,
                    const std::function<Surrogates(const Trajectory& trajectory)>& draw);

/// Accumulates theta's gradient of <a, v_theta> and returns the input's, [d v / d x]^T a.
Tensor policy_pull_back(AlignmentProblem& problem, const States& states, const Tensor& a);

/// Passes of an update whose trajectories have so many terms without p, and a joint one or not.
Passes ascent_passes(const CostShape& shape, double terms, bool joint);
std::string ascent_formula(const CostShape& shape, double terms, bool joint);

/// The random numbers of one sample's steps.
RandomStream steps_stream(const UpdateInput& input, int64_t sample);

/// The part of a rollout between two of its states, and what stands for it: x_target ~ x_start +
/// sum_i weight_i v_i.
struct Leg {
  int64_t start, target;
  std::vector<StepTerm> supports;
};

/// mean |x_target - x_start - sum_i weight_i v_i| over the elements of one sample, a number on the
/// states' device; v_i as the rollout found it.
Tensor gap(const Trajectory& trajectory, int64_t sample, const Leg& leg);

/// w = 1 / (max(d_j, tau) + max(d_0, tau)) (B), d_j and d_0 the gaps of each sample's two legs.
Tensor gap_weights(const Trajectory& trajectory, const std::vector<std::pair<Leg, Leg>>& legs,
                   double tau);

}  // namespace vggflow
