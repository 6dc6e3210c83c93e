#pragma once
// VGG-Flow: value gradient guidance (Liu et al., NeurIPS 2025, arXiv 2512.05116).
//
//   objective        min_theta E[ (lambda/2) int |v_theta - v_base|^2 dt - r(x_1) ],
//                    beta = 1/lambda, V the cost-to-go                                (Eq. 6)
//   value gradient   g = grad V,   optimum v = v_base - beta g,   g(x, 1) = -grad r(x) (Eq. 8)
//   forward-looking  g(x, t) = -eta(t) sg(grad r(x1_hat)) + nu_phi(x, t),
//                    x1_hat = x + (1 - t) sg(v_theta(x, t))                           (Eq. 16)
//   matching         L(theta) = E |v_theta - v_base + beta sg(g)|^2                   (Eq. 14)
//   consistency      L(phi) = E |dg/dt + [grad g]^T (v_base - beta g) + [grad v_base]^T g|^2
//                                                                                     (Eq. 12)
//   boundary         L(phi) = E |g(x_1, 1) + grad r(x_1)|^2                           (Eq. 13)
//
//   symbol     variable
//   beta       options.beta
//   eta(t)     eta()
//   grad r     reward_gradient
//   c grad r   RewardGradients::gradient, c = min(1, threshold / |grad r|) per transition
//   nu_phi     correction
//   w          direction, v_base - beta sg(g)
//
// The reward part of g is a choice (options.guess), nu_phi goes on top of each:
//   one_step   -eta(t) grad r(x1_hat), the paper's
//   endpoint   -eta(t) grad r(x_N), one reward gradient for all transitions of a trajectory (Reward
//              Score Matching, arXiv 2604.17415)
//   coarse     the coarse adjoint at x_{k+1} (coarse_adjoint.h): no eta, no one-step guess
//
// What is detached, and where we differ from the paper or its code:
// - Matching: g whole (theta moves, phi does not), as the paper says below Eq. 14. There is one
//   optimizer step an update, so the value of v_theta is the rollout's; only the branch with
//   gradient is computed again.
// - Consistency: consistency.h has the estimators and what each detaches. J_g w equals [grad g]^T w
//   because g is a gradient field.
// - Losses are means over elements, not sums: Adam's eps and the clip of gradients see the scale.
// - nu's losses are in units of beta g, or relative: the same problem in other units of reward
//   (s r, beta / s) trains the same network.

#include <string>

#include "vggflow/algorithms/coarse_adjoint.h"
#include "vggflow/algorithms/consistency.h"
#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/algorithms/transitions.h"

namespace vggflow {

/// What g is without nu, as above.
enum class Guess { kOneStep, kEndpoint, kCoarse };
inline OptionWords<Guess> option_words(Guess) {
  return {
      {"one_step", Guess::kOneStep}, {"endpoint", Guess::kEndpoint}, {"coarse", Guess::kCoarse}};
}

struct VggFlowOptions {
  double beta = 1.0;
  double alpha = 1.0;
  Guess guess = Guess::kOneStep;
  CoarseOptions coarse;
  EtaSchedule eta;
  TransitionOptions transitions;
  ConsistencyOptions consistency;
  bool boundary = true;
  int64_t probe_every = 0;

  template <class V>
  void fields(V& v) {
    v("beta", beta, "beta = 1/lambda: strength of the reward", range(0, 1e12));
    v("alpha", alpha, "weight of the boundary loss", range(0, 1e9));
    v("guess", guess,
      "initial guess of the value gradient g, without nu: the reward gradient at the one-step "
      "prediction, at the end point, or pulled back through a few states of the trajectory");
    coarse.fields(v);
    eta.fields(v);
    transitions.fields(v);
    v.section("consistency", consistency);
    v("boundary", boundary,
      "boundary loss on nu at the end points; built into consistency.kind=step and return");
    v("probe_every", probe_every,
      "updates between comparisons of g with the full adjoint on 8 trajectories, which cost its "
      "passes; 0: never",
      range(0, 1e7));
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
  Passes mean_cost(const CostShape& shape) const override;
  Demand demand(const CostShape& shape) const override;
  std::string cost_formula(const CostShape& shape) const override;
  bool trains_value() const override { return true; }
  bool shows_guess() const override { return !options_.consistency.has_boundary(); }
  bool minimises_objective() const override { return true; }
  double beta() const override { return options_.beta; }

 private:
  bool has_boundary(bool value) const {
    return value && options_.boundary && options_.consistency.has_boundary();
  }
  void add_value_passes(const CostShape& shape, double transitions, Passes& passes) const;
  double sweeps_per_update() const;
  void add_value_demand(const CostShape& shape, double transitions, Demand& demand) const;
  VggFlowOptions options_;
  RewardClipOptions clip_;
};

/// g(x, t) (M, ...), detached, from c grad r(x1_hat).
Tensor value_gradient(AlignmentProblem& problem, const EtaSchedule& eta_schedule,
                      const States& states, const Tensor& reward_gradient);

/// g from its part without nu: guess + nu_phi(x, t), detached.
Tensor corrected(AlignmentProblem& problem, const States& states, const Tensor& guess);

/// The residual of Eq. 13 at end points x_1 with eta(1) = 1: nu_phi(x_1, 1).
Tensor boundary_residual(AlignmentProblem& problem, const Tensor& x1, const Tensor& rows);

}  // namespace vggflow
