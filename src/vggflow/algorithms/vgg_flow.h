#pragma once
// VGG-Flow: value gradient guidance (Liu et al., NeurIPS 2025, arXiv 2512.05116).
//
// Objective (Eq. 6)   min_theta E[ (lambda/2) int |v_theta - v_base|^2 dt - r(x_1) ],  beta =
// 1/lambda, V the cost-to-go. Value gradient      g = grad V,  optimum v = v_base - beta g (Eq. 8),
// g(x, 1) = -grad r(x). Forward-looking g   g(x, t) = -eta(t) sg(grad r(x1_hat)) + nu_phi(x, t),
// x1_hat = x + (1 - t) sg(v_theta(x, t))   (Eq. 16) Matching            L(theta) = E |v_theta -
// v_base + beta sg(g)|^2                                              (Eq. 14) Consistency L(phi) =
// E |dg/dt + [grad g]^T (v_base - beta g) + [grad v_base]^T g|^2                      (Eq. 12)
// Boundary            L(phi) = E |g(x_1, 1) + grad r(x_1)|^2 (Eq. 13)
//
//   symbol     variable            symbol        variable
//   beta       options.beta        grad r        reward_gradient
//   eta(t)     eta()               c grad r      RewardGradients::gradient, c = min(1, threshold /
//   |grad r|) per transition nu_phi     correction          w             direction, v_base - beta
//   sg(g)
//
// What is detached, and where we differ from the paper or its code:
// - Matching: g whole (theta moves, phi does not), as the paper says below Eq. 14. There is one
// optimizer step an update, so the value
//   of v_theta is the rollout's; only the branch with gradient is computed again.
// - Consistency: consistency.h has the estimators and what each detaches. J_g w equals [grad g]^T w
// because g is a gradient field.
// - Losses are means over elements, not sums: only the learning rate's scale knows the difference.

#include <string>

#include "vggflow/algorithms/consistency.h"
#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/algorithms/transitions.h"

namespace vggflow {

struct VggFlowOptions {
  double beta = 1.0;
  double alpha = 1.0;
  Eta eta = Eta::kQuadratic;
  TransitionOptions transitions;
  ConsistencyOptions consistency;
  bool boundary = true;

  template <class V>
  void fields(V& v) {
    v("beta", beta, "1/lambda: how far the reward may pull the velocity", range(0, 1e12));
    v("alpha", alpha, "weight of the boundary loss", range(0, 1e9));
    v("eta", eta, "schedule of the reward gradient in g: 1, t or t^2");
    transitions.fields(v);
    v.section("consistency", consistency);
    v("boundary", boundary, "the boundary loss on nu at the end points");
  }

  static MethodTrials trials();
};

class VggFlow : public Method {
 public:
  VggFlow(const VggFlowOptions& options, const RewardClipOptions& clip)
      : options_(options), clip_(clip) {}
  MethodReport update(AlignmentProblem& problem, const UpdateInput& input) const override;
  void check(int64_t steps) const override;
  Passes cost(const CostShape& shape, const MethodReport& report) const override;
  Demand demand(const CostShape& shape) const override;
  std::string cost_formula(const CostShape& shape) const override;
  bool trains_value() const override { return true; }
  bool minimises_objective() const override { return true; }
  double beta() const override { return options_.beta; }

 private:
  VggFlowOptions options_;
  RewardClipOptions clip_;
};

/// g(x, t) (M, ...), detached, from c grad r(x1_hat).
Tensor value_gradient(AlignmentProblem& problem, Eta eta_schedule, const States& states,
                      const Tensor& reward_gradient);

/// The residual of Eq. 13 at end points x_1 with eta(1) = 1: nu_phi(x_1, 1).
Tensor boundary_residual(AlignmentProblem& problem, const Tensor& x1, const Tensor& rows);

}  // namespace vggflow
