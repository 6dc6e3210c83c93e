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

#include <map>
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
  std::map<std::string, double> values = {};  ///< telemetry of the whole batch
};

/// A method that is told by its surrogates. An update rolls out, draws them, and accumulates the
/// gradient of -mean w f(r); it reports `terms`, the products without p, of the whole batch.
class Ascent : public Method {
 public:
  /// `name`: of the method, in messages.
  Ascent(const char* name, const RewardTransformOptions& transform, const RewardClipOptions& clip)
      : name_(name), transform_(transform), clip_(clip) {}
  MethodReport update(AlignmentProblem& problem, const UpdateInput& input) const override;
  Passes cost(const CostShape& shape, const MethodReport& report) const override;
  Demand demand(const CostShape& shape) const override;
  std::string cost_formula(const CostShape& shape) const override;

 protected:
  virtual Surrogates draw(const Trajectory& trajectory, const UpdateInput& input) const = 0;
  /// Products without p of a trajectory, at most.
  virtual double terms() const = 0;
  virtual bool has_joint() const = 0;

 private:
  const char* name_;
  RewardTransformOptions transform_;
  RewardClipOptions clip_;
};

/// Accumulates theta's gradient of <a, v_theta> and returns the input's, [d v / d x]^T a.
Tensor policy_pull_back(AlignmentProblem& problem, const States& states, const Tensor& a);

/// Two distinct steps, the earlier one first.
std::pair<int64_t, int64_t> draw_two_steps(int64_t steps, RandomStream& random);

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
