#pragma once
// VGG-Flow: value gradient guidance (Liu et al., NeurIPS 2025, arXiv 2512.05116).
//
// Objective (Eq. 6)   min_theta E[ (lambda/2) int |v_theta - v_base|^2 dt - r(x_1) ],  beta = 1/lambda, V the cost-to-go.
// Value gradient      g = grad V,  optimum v = v_base - beta g (Eq. 8),  g(x, 1) = -grad r(x).
// Forward-looking g   g(x, t) = -eta(t) sg(grad r(x1_hat)) + nu_phi(x, t),  x1_hat = x + (1 - t) sg(v_theta(x, t))   (Eq. 16)
// Matching            L(theta) = E |v_theta - v_base + beta sg(g)|^2                                              (Eq. 14)
// Consistency         L(phi) = E |dg/dt + [grad g]^T (v_base - beta g) + [grad v_base]^T g|^2                      (Eq. 12)
// Boundary            L(phi) = E |g(x_1, 1) + grad r(x_1)|^2                                                       (Eq. 13)
//
//   symbol     variable            symbol        variable
//   beta       options.beta        grad r        reward_gradient
//   eta(t)     eta()               c grad r      clipped gradient, c = min(1, threshold / |grad r|) per transition
//   nu_phi     correction          w             direction, v_base - beta sg(g)
//
// What is detached, and where we differ from the paper or its code:
// - Matching: g whole (theta moves, phi does not), as the paper says below Eq. 14.
// - Consistency: the direction w of the first derivative and the g inside [grad v_base]^T g are stop-gradient, as in the paper's
//   App. C.1 (Eqs. 44-45). So phi is moved through dnu/dt and J_nu w alone.
// - dg/dt and J_g w are one directional derivative of g along (w, 1): exact (forward mode), not finite differences. The released
//   code differences three different estimators with eps = 1e-7 in t. J_g w equals [grad g]^T w because g is a gradient field;
//   [grad v_base]^T g is an exact vector-Jacobian product.
// - The derivative of the reward part follows x1_hat(x, t) with v_theta moving too: d x1_hat = w - v + (1 - t) dv, then one
//   Hessian-vector product of the reward. The clip factor c is held constant in it.
// - Losses are means over elements, not sums: only the learning rate's scale knows the difference.

#include <string>

#include "vggflow/algorithms/problem.h"
#include "vggflow/core/field.h"
#include "vggflow/core/random.h"

namespace vggflow {

struct VggFlowOptions {
  double beta = 1.0;
  double alpha = 1.0;
  std::string eta = "quadratic";
  int64_t bins = 5;
  bool force_last_step = false;
  bool skip_first_step = false;
  std::string clip = "quantile";
  double clip_quantile = 0.8;
  double clip_norm = 1.0;
  std::string consistency = "exact";

  template <class V>
  void fields(V& v) {
    v("beta", beta, "1/lambda: how far the reward may pull the velocity", range(0, 1e12));
    v("alpha", alpha, "weight of the boundary loss", range(0, 1e9));
    v("eta", eta, "schedule of the reward gradient in g: 1, t or t^2", choices({"constant", "linear", "quadratic"}));
    v("bins", bins, "time bins of a trajectory; one transition is drawn from each", range(1, 1000));
    v("force_last_step", force_last_step, "also train the last step of every trajectory, as the released code does");
    v("skip_first_step", skip_first_step, "never train the step at pure noise, as the released code does");
    v("clip", clip, "bound on reward gradients: quantile of the batch's norms, fixed norm, or none",
      choices({"quantile", "norm", "none"}));
    v("clip_quantile", clip_quantile, "the quantile", range(0, 1));
    v("clip_norm", clip_norm, "the fixed norm", range(0, 1e12));
    v("consistency", consistency, "value consistency loss: exact derivatives, or off", choices({"exact", "off"}));
  }
};

/// The steps of one trajectory to train on, increasing: bins of consecutive steps 0..steps-1, one uniform draw from each.
std::vector<int64_t> draw_transitions(const VggFlowOptions& options, int64_t steps, RandomStream random);

/// What pass one finds at every transition: the reward gradient of the one-step guess, and which samples are fit to use.
struct ValueGuess {
  Tensor velocity;         ///< (M, ...) v_theta at the states
  Tensor reward;           ///< (M) r(x1_hat)
  Tensor reward_gradient;  ///< (M, ...) c grad r(x1_hat), clipped
  Tensor clip_factor;      ///< (M) c
  Tensor finite;           ///< (M) bool: reward and gradient are finite; the others are left out and counted
  double threshold = 0;    ///< norm above which gradients were scaled
};

/// Reward gradients at x1_hat = x + (1 - t) velocity, in chunks of `micro_batch`, clipped by the current batch's quantile.
ValueGuess guess_value_gradients(AlignmentProblem& problem, const VggFlowOptions& options, const States& states, const Tensor& velocity,
                                 int64_t micro_batch);

/// g(x, t) (M, ...), detached.
Tensor value_gradient(AlignmentProblem& problem, const VggFlowOptions& options, const States& states, const Tensor& reward_gradient);

/// Eq. 14, summed over the given transitions and divided by `total` elements; gradient to theta.
Tensor matching_loss(AlignmentProblem& problem, const VggFlowOptions& options, const States& states, const Tensor& g, double total);

/// The residual of Eq. 12 at the states, differentiable to phi through nu's directional derivative.
Tensor consistency_residual(AlignmentProblem& problem, const VggFlowOptions& options, const States& states, const Tensor& reward_gradient,
                            const Tensor& clip_factor);

/// The residual of Eq. 13 at end points x_1 with eta(1) = 1: nu_phi(x_1, 1).
Tensor boundary_residual(AlignmentProblem& problem, const Tensor& x1, const Tensor& rows);

/// eta(t) and its derivative.
Tensor eta(const VggFlowOptions& options, const Tensor& t);
Tensor eta_derivative(const VggFlowOptions& options, const Tensor& t);

}  // namespace vggflow
