#pragma once
// Estimators of the value consistency residual (VGG-Flow, Eq. 12),
//
//   R = dg/dt + J_g w + [grad v_base]^T g,   w = v_base - beta g,   g = -eta c grad r(x1_hat) +
//   nu_phi
//
//   exact    dg/dt + J_g w as one directional derivative along (w, 1) in forward mode, [grad
//   v_base]^T g as a vector-Jacobian product.
//            w and the g of the last term are stop-gradient, as in the paper's App. C.1; the reward
//            part follows x1_hat with v_theta moving too: d x1_hat = w - v + (1 - t) dv, then one
//            Hessian-vector product of the reward, c held constant.
//            A guess that is known along the path alone (vgg_flow.h: endpoint, coarse) brings its
//            own derivative, `drift`, in place of the reward part's.
//   paper    central differences of one g at shifted points (App. C.1, Eqs. 43-45): t +- fd_t with
//   x fixed, x +- d w, and for the last
//            term v_base(x +- d g), a Jacobian-vector product: the transposed one where the
//            Jacobian is symmetric. d moves a sample by fd_x (root mean square). Eq. 43 as printed
//            also moves x along the flow, which would count J_g w twice; it is not done.
//   release  what the published code computes, for comparison. It is wrong: one-sided differences
//   with 1e-4 in network time (1e-7 in t,
//            divided by 1e-4), and the three points of the reward part are three different
//            functions: at (x, t) the gradient of the reward alone, at (x, t + 1e-7) only its path
//            through the network's Jacobian, at (x + 1e-4 w, t) both. algorithms_test and `vggflow
//            check --analytic` show that exact value gradients leave it a large residual.

#include <string>

#include "vggflow/algorithms/method.h"
#include "vggflow/flow/eta.h"

namespace vggflow {

/// The estimators above; off: no consistency loss.
enum class ConsistencyKind { kExact, kPaper, kRelease, kOff };
inline OptionWords<ConsistencyKind> option_words(ConsistencyKind) {
  return {{"exact", ConsistencyKind::kExact},
          {"paper", ConsistencyKind::kPaper},
          {"release", ConsistencyKind::kRelease},
          {"off", ConsistencyKind::kOff}};
}

struct ConsistencyOptions {
  ConsistencyKind kind = ConsistencyKind::kExact;
  double fd_t = 1e-2;
  double fd_x = 1e-2;

  template <class V>
  void fields(V& v) {
    v("kind", kind,
      "estimator of the value consistency residual: exact derivatives, the paper's central "
      "differences, the released code's "
      "(wrong, for comparison), or off");
    v("fd_t", fd_t, "step in t of the paper's differences", range(1e-12, 0.5));
    v("fd_x", fd_x, "root mean square step in x of the paper's differences", range(1e-12, 10));
  }
};

/// Transitions with what pass one found there.
struct ValuePoints {
  States states;
  Tensor reward_gradient;  ///< c grad r(x1_hat), (M, ...)
  Tensor clip_factor;      ///< c, (M)
  Tensor reward_weights;   ///< (P) of the parts in grad r
  Tensor g;                ///< g(x, t), detached
  Tensor drift = {};       ///< of a guess known along the path alone: d(g - nu)/ds there
};

/// The residual, differentiable to phi, and v_base at the states, which the estimators need and
/// matching can use again.
struct Consistency {
  Tensor residual, base;
};
Consistency consistency(AlignmentProblem& problem, const ConsistencyOptions& options,
                        Eta eta_schedule, double beta, const ValuePoints& points);

}  // namespace vggflow
