#pragma once
// What a method sees of the world: velocities, reward and value correction for samples given by row
// index. Image models and closed-form problems implement it alike; a method sees no files, ranks,
// prompts or global randomness.

#include <vector>

#include "vggflow/ops/functional.h"

namespace vggflow {

/// Transitions of trajectories: M states with their times and the rows (samples) they belong to.
struct States {
  Tensor x;     ///< (M, ...), fp32
  Tensor t;     ///< (M)
  Tensor rows;  ///< (M) int64
  /// What nu is shown besides where problem.correction_sees_guess(): the estimate of the end point
  /// x_1 that the guess of g is taken at, and the reward's gradient of that guess, both (M, ...).
  Tensor end = {}, gradient = {};
};

/// What a rollout takes of a state, and v_theta - v_base there as a regression takes it.
struct VelocityDifference {
  Tensor velocity, difference;  ///< (M, ...)
};

class AlignmentProblem {
 public:
  virtual ~AlignmentProblem() = default;
  /// v_theta(x, t) of all B samples, without gradient: what rollouts integrate. t (B).
  virtual Tensor rollout_velocity(const Tensor& x, const Tensor& t) = 0;
  /// v_theta(x, t); differentiable to theta where gradients are enabled, and to x where x asks for
  /// it.
  virtual Tensor policy(const States& s) = 0;
  /// The same to theta alone, where its value is known already: what a rollout found at these
  /// states since the last optimizer step. A guided policy whose unconditional branch is detached
  /// then needs its conditional branch only.
  virtual Tensor policy_known(const States& s, const Tensor& velocity) { return policy(s); }
  /// policy() at a state that is trained on and handed on: a loss reaches theta and x through it.
  virtual Tensor policy_trained(const States& s) { return policy(s); }
  /// Whether the networks are rounded so far above the states that v_theta - v_base, a small
  /// difference, must not be taken of two calls. Regressions then ask for the three below, and for
  /// v_base only where it stands alone.
  virtual bool has_difference() const { return false; }
  /// rollout_velocity of some of the samples.
  virtual Tensor rollout_rows(const States& s) { return rollout_velocity(s.x, s.t); }
  /// The same with v_theta - v_base, guided as policy() and base() are, carried beside it; without
  /// gradient.
  virtual VelocityDifference rollout_difference(const States& s);
  /// v_theta - v_base whose value is known, differentiable to theta alone.
  virtual Tensor difference_known(const States& s, const Tensor& difference);
  /// The velocity of the policy that rollouts follow, guided as policy() is, without gradient: an
  /// average that lags behind the trained policy where the method asks for one (Method::lag).
  virtual Tensor lagged(const States& s);
  /// v_theta with its derivative along (x.tangent, t.tangent), without gradient.
  virtual Dual policy_tangent(const Dual& x, const Dual& t, const Tensor& rows) = 0;
  /// v_base(x, t) as the regression's reference; differentiable to x where x asks for it.
  virtual Tensor base(const States& s) = 0;
  /// v_base as adjoints are pulled back through it: the same field unless guidance says otherwise.
  virtual Tensor adjoint_base(const States& s) { return base(s); }
  virtual bool adjoint_is_base() const { return true; }
  /// r(x_1) (M) of end points.
  virtual Tensor reward(const Tensor& x1, const Tensor& rows) = 0;
  virtual Dual reward_tangent(const Dual& x1, const Tensor& rows) = 0;
  /// Parts (P, M) and their weights: r = sum_p w_p r_p.
  virtual Tensor reward_parts(const Tensor& x1, const Tensor& rows) {
    return reward(x1, rows).unsqueeze(0);
  }
  virtual Dual reward_parts_tangent(const Dual& x1, const Tensor& rows) {
    const Dual r = reward_tangent(x1, rows);
    return {r.value.unsqueeze(0), r.tangent.unsqueeze(0)};
  }
  virtual std::vector<double> reward_weights() const { return {1.0}; }
  /// Whether g has the learned part nu_phi.
  virtual bool has_correction() const = 0;
  /// Whether nu is a function of the guess too: its states then have `end` and `gradient`.
  virtual bool correction_sees_guess() const { return false; }
  /// nu_phi(x, t), differentiable to phi.
  virtual Tensor correction(const States& s) = 0;
  virtual Dual correction_tangent(const Dual& x, const Dual& t, const Tensor& rows) = 0;
};

}  // namespace vggflow
