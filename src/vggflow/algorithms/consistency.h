#pragma once
// Estimators of the value consistency residual (VGG-Flow, Eq. 12),
//
//   R = dg/dt + J_g w + [grad v_base]^T g,
//   w = v_base - beta g,   g = -eta c grad r(x1_hat) + nu_phi
//
//   exact    dg/dt + J_g w as one directional derivative along (w, 1) in forward mode,
//            [grad v_base]^T g as a vector-Jacobian product.
//            w and the g of the last term are stop-gradient, as in the paper's App. C.1; the reward
//            part follows x1_hat with v_theta moving too: d x1_hat = w - v + (1 - t) dv, then one
//            Hessian-vector product of the reward, c held constant.
//            A guess that is known along the path alone (vgg_flow.h: endpoint, coarse) brings its
//            own derivative, `drift`, in place of the reward part's.
//   paper    central differences of one g at shifted points (App. C.1, Eqs. 43-45): t +- fd_t with
//            x fixed, x +- d w, and for the last term v_base(x +- d g), a Jacobian-vector product:
//            the transposed one where the Jacobian is symmetric. d moves a sample by fd_x (root
//            mean square). Eq. 43 as printed also moves x along the flow, which would count J_g w
//            twice; it is not done.
//   release  what the published code computes, for comparison. It is wrong: one-sided differences
//            with 1e-4 in network time (1e-7 in t, divided by 1e-4), and the three points of the
//            reward part are three different functions: at (x, t) the gradient of the reward
//            alone, at (x, t + 1e-7) only its path through the network's Jacobian, at
//            (x + 1e-4 w, t) both. algorithms_test and `vggflow check --analytic` show that exact
//            value gradients leave it a large residual.
//   step     the residual over the rollout's own Euler step, with gradient to both of its ends,
//
//              R = g(x_{k+1}, t_{k+1}) - g(x_k, t_k)
//                  + h [grad v_base(x_k, t_k)]^T sg(g(x_{k+1}, t_{k+1})),
//              g(x_N, 1) = -c grad r(x_N),
//
//            which is a change of g, not a rate. On trained networks a derivative in t between two
//            points of the grid says nothing of the change from one to the other; this asks for no
//            derivative of nu.
//   return   no residual: nu is regressed on the lean adjoint itself (value_return.h).
//
// The losses of the residuals are in units of beta g, the change of velocity that g asks
// for: with rewards s r and beta / s phi then gets the same gradient whatever s is.

#include <string>

#include "vggflow/algorithms/method.h"
#include "vggflow/flow/eta.h"

namespace vggflow {

/// The estimators above; off: no consistency loss.
enum class ConsistencyKind { kExact, kPaper, kRelease, kStep, kReturn, kOff };
inline OptionWords<ConsistencyKind> option_words(ConsistencyKind) {
  return {{"exact", ConsistencyKind::kExact},     {"paper", ConsistencyKind::kPaper},
          {"release", ConsistencyKind::kRelease}, {"step", ConsistencyKind::kStep},
          {"return", ConsistencyKind::kReturn},   {"off", ConsistencyKind::kOff}};
}

struct ConsistencyOptions {
  ConsistencyKind kind = ConsistencyKind::kExact;
  double fd_t = 1e-2;
  double fd_x = 1e-2;
  int64_t every = 4;
  int64_t value_steps = 4;
  int64_t warmup = 50;
  /// Whether an update regresses nu on the adjoint, and whether theta stays as it is then.
  bool sweeps(uint64_t update) const {
    return kind == ConsistencyKind::kReturn &&
           (warms_up(update) || update % static_cast<uint64_t>(every) == 0);
  }
  bool warms_up(uint64_t update) const {
    return kind == ConsistencyKind::kReturn && update < static_cast<uint64_t>(warmup);
  }
  /// Whether the estimator evaluates nu at states of its own, where no guess is known.
  bool shifts_states() const {
    return kind == ConsistencyKind::kExact || kind == ConsistencyKind::kPaper ||
           kind == ConsistencyKind::kRelease;
  }
  /// Whether the boundary loss belongs to it; step and return have g(x_N, 1) = -grad r built in.
  bool has_boundary() const { return shifts_states() || kind == ConsistencyKind::kOff; }

  template <class V>
  void fields(V& v) {
    v("kind", kind,
      "training target of nu: the consistency residual with exact derivatives (exact), the paper's "
      "central differences (paper), the released code's (release; wrong, for comparison) or over "
      "the rollout's own steps (step); the adjoint from occasional sweeps (return); or off");
    v("fd_t", fd_t, "finite-difference step in t, for paper", range(1e-12, 0.5));
    v("fd_x", fd_x, "root-mean-square finite-difference step in x, for paper", range(1e-12, 10));
    v("every", every, "updates between adjoint sweeps, for return", range(1, 1e6));
    v("value_steps", value_steps,
      "optimizer steps of nu per sweep, for return; each uses its part of the states once",
      range(1, 1000));
    v("warmup", warmup,
      "initial updates for return in which every update sweeps and the policy is not trained",
      range(0, 1e6));
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
  Tensor guess = {};       ///< g without nu; for kind step, with what follows
  States next = {};        ///< where the rollout's step ends
  Tensor next_guess = {};  ///< g without nu there
};

/// The residual, differentiable to phi, and v_base at the states, which the estimators need and
/// matching can use again.
struct Consistency {
  Tensor residual, base;
};
Consistency consistency(AlignmentProblem& problem, const ConsistencyOptions& options,
                        const EtaSchedule& eta_schedule, double beta, const ValuePoints& points);

}  // namespace vggflow
