#pragma once
// ReFL (Xu et al. 2023, ImageReward) for flows: a rollout without gradient to a random late step k,
// one jump x1_hat = x_k + (1 - t_k) v_theta(x_k, t_k) with gradient, and ascent on f(r(x1_hat)).
//
//   grad_theta = (1 - t_k) [d v_theta(x_k, t_k) / d theta]^T f'(r) grad r(x1_hat)
//
// k is uniform on {k_min, ..., k_max}, one draw a trajectory, 0-based and inclusive. The loss is
// the mean of -f(r) over samples.

#include <string>

#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/reward_gradient.h"

namespace vggflow {

struct ReflOptions {
  int64_t k_min = 15;
  int64_t k_max = 19;
  RewardTransformOptions transform;

  template <class V>
  void fields(V& v) {
    v("k_min", k_min, "first step (from 0) that may be trained", range(0, 1000));
    v("k_max", k_max, "last step that may be trained", range(0, 1000));
    v.section("transform", transform);
  }

  static MethodTrials trials();
};

class Refl : public Method {
 public:
  Refl(const ReflOptions& options, const RewardClipOptions& clip)
      : options_(options), clip_(clip) {}
  MethodReport update(AlignmentProblem& problem, const UpdateInput& input) const override;
  void check(int64_t steps) const override;
  Passes cost(const CostShape& shape, const MethodReport& report) const override;
  Demand demand(const CostShape& shape) const override;
  std::string cost_formula(const CostShape& shape) const override;

 private:
  ReflOptions options_;
  RewardClipOptions clip_;
};

}  // namespace vggflow
