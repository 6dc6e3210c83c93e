#pragma once
// What a method sees of the world: velocities, reward and value correction for samples given by row index. Image models and
// closed-form problems implement it alike; a method sees no files, ranks, prompts or global randomness.

#include "vggflow/ops/functional.h"

namespace vggflow {

/// Transitions of trajectories: M states with their times and the rows (samples) they belong to.
struct States {
  Tensor x;     ///< (M, ...), fp32
  Tensor t;     ///< (M)
  Tensor rows;  ///< (M) int64
};

class AlignmentProblem {
 public:
  virtual ~AlignmentProblem() = default;
  /// v_theta(x, t); differentiable to theta where gradients are enabled.
  virtual Tensor policy(const States& s) = 0;
  /// v_theta with its derivative along (x.tangent, t.tangent).
  virtual Dual policy_tangent(const Dual& x, const Dual& t, const Tensor& rows) = 0;
  /// v_base(x, t); differentiable to x where x asks for it.
  virtual Tensor base(const States& s) = 0;
  /// r(x_1) (M) of end points.
  virtual Tensor reward(const Tensor& x1, const Tensor& rows) = 0;
  virtual Dual reward_tangent(const Dual& x1, const Tensor& rows) = 0;
  /// Whether g has the learned part nu_phi.
  virtual bool has_correction() const = 0;
  /// nu_phi(x, t), differentiable to phi.
  virtual Tensor correction(const States& s) = 0;
  virtual Dual correction_tangent(const Dual& x, const Dual& t, const Tensor& rows) = 0;
};

}  // namespace vggflow
