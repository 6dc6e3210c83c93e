#pragma once
// Reinforce Adjoint Matching (arXiv 2605.10759), for rewards that need no gradient: the tilt of end
// points by the reward becomes a covariance, which a regression on noise added to them carries.
//
//   x_1 = x_N of a rollout of the lagged policy v_old, `group` samples of each prompt
//   A_i = (r_i - mean of its group) / (deviation of its group), or without the division
//   s with density 2 s on [0, 1] (one from each of `draws` parts of equal chance), t = 1 - s,
//   e ~ N(0, I), x_t = t x_1 + (1 - t) e
//   v* = v_base(x_t) + strength A ((x_1 - e) - v_old(x_t)),   detached
//   loss = mean |v_theta(x_t) - v*|^2 over elements and draws
//
// v_old is the average of the trained policy with decay min(lag, 0.01 n) after n updates; it draws
// the samples too. A constant reward gives v* = v_base. Where v_old is the flow-matching velocity
// of its own samples, E[v* | x_t] = v_base + strength Cov(A, x_1 - e | x_t): exact for a linear
// reward on a Gaussian, and weaker than the tilt p_base exp(strength A) elsewhere, which is that
// covariance integrated over the strength.
//
// The published method trains the conditional velocity: guidance_in=[rollout], its default.

#include <optional>
#include <string>

#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/reward_gradient.h"

namespace vggflow {

struct RamOptions {
  double strength = 1.0;
  int64_t group = 8;
  bool normalize = true;
  int64_t draws = 8;
  double lag = 0.9;

  template <class V>
  void fields(V& v) {
    v("strength", strength, "multiplier of the advantage: strength of the reward", range(0, 1e12));
    v("group", group, "group size: samples per prompt that are compared; must divide the batch",
      range(2, 1e6));
    v("normalize", normalize, "divide advantages by the standard deviation of the group's rewards");
    v("draws", draws, "noised states per end point", range(1, 1000));
    v("lag", lag, "EMA decay of the policy that samples", range(0, 0.9999));
  }

  static MethodTrials trials();
};

class Ram : public Method {
 public:
  /// Asks for no gradient: the clip has nothing to bound.
  Ram(const RamOptions& options, const RewardClipOptions&) : options_(options) {}
  MethodReport update(AlignmentProblem& problem, const UpdateInput& input) const override;
  Passes cost(const CostShape& shape, const MethodReport& report) const override;
  Demand demand(const CostShape& shape) const override;
  std::string cost_formula(const CostShape& shape) const override;
  bool scales_with_beta() const override { return true; }
  bool needs_reward_gradient() const override { return false; }
  bool guides_rollouts_alone() const override { return true; }
  int64_t group() const override { return options_.group; }
  std::optional<double> lag() const override { return options_.lag; }

 private:
  RamOptions options_;
};

/// A (B) of rewards (B) whose groups of `group` follow one another; 0 where a reward is not finite
/// or all of a group are alike.
Tensor advantages(const Tensor& rewards, int64_t group, bool normalize);

}  // namespace vggflow
