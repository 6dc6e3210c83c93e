#pragma once
// What the closed-form problems' optima are, found without any method: Riccati equations,
// characteristics of the Hamilton-Jacobi equation, successive approximations of open-loop controls,
// and the fixed point of Adjoint Matching on a Gaussian.
//
//   objective   J = E[ sum_k h_k |v_theta - v_base|^2 / (2 beta) - r(x_N) ],   x_{k+1} = x_k + h_k
//   v_theta(x_k, t_k)

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/flow/sampling.h"
#include "vggflow/proofs/analytic_problems.h"

namespace vggflow::analytic {

/// J of the problem's policy from x0 on a grid.
double objective(AlignmentProblem& problem, double beta, const Tensor& x0,
                 const std::vector<double>& times);

/// Mean reward at the ends of the policy's trajectories.
double mean_reward(AlignmentProblem& problem, const Tensor& x0, const std::vector<double>& times);

/// v_base = A x, r = -x^T R x / 2:  V = x^T K(t) x / 2,  K' = beta K^2 - K A - A^T K,  K(1) = R.
class Riccati {
 public:
  Riccati(Tensor a, Tensor r, double beta, int64_t steps = 400)
      : a_(a), r_(r), beta_(beta), steps_(steps) {}
  /// K(t), by Runge-Kutta backward from R.
  Tensor value_matrix(double t) const;
  /// K(t) x (M, d), each row at its own time.
  Tensor gradient(const Tensor& x, const Tensor& t) const;

 private:
  Tensor a_, r_;
  double beta_;
  int64_t steps_;
  mutable std::map<double, Tensor> known_;
};

/// The same problem on a grid: V_k = x^T P_k x / 2,  S_k = (I + h beta P_{k+1})^{-1} F_k,  F_k = I
/// + h A, u_k = -beta P_{k+1} S_k x_k,  P_k = F_k^T P_{k+1} S_k,  P_N = R.
struct DiscreteRiccati {
  DiscreteRiccati(const Tensor& a, const Tensor& r, double beta, const std::vector<double>& times);
  double objective(const Tensor& x0) const;
  /// The optimal control as a policy.
  std::shared_ptr<BinnedLinear> control() const;
  std::vector<double> times;
  std::vector<Tensor> values, gains;  ///< P_0 ... P_N; u_k = gains[k] x
};

/// Optimal paths of a gradient field, any reward: (x, a) with x' = v - beta a, a' = -[grad v]^T a
/// from (x_1, -grad r(x_1)) back. Where the map x_1 -> x(t) is one to one the path through (x, t)
/// is the optimum and a = grad V there.
class Characteristics {
 public:
  Characteristics(FieldPtr base, RewardPtr reward, double beta, int64_t steps = 64)
      : base_(base), reward_(reward), beta_(beta), steps_(steps) {}
  /// x(t), grad V and V on the paths that end at x1, all at the time t.
  struct Values {
    Tensor x, gradient, value;
  };
  Values back(const Tensor& x1, double t) const;
  /// At given (x, t), by Newton's method on the end points.
  Values at(const Tensor& x, double t) const;
  /// det d x(t) / d x_1 (M): positive everywhere means that no two paths meet.
  Tensor determinant(const Tensor& x1, double t) const;

 private:
  Tensor jacobian(const Tensor& x1, double t, Values& values) const;
  FieldPtr base_;
  RewardPtr reward_;
  double beta_;
  int64_t steps_;
};

/// The optimum of the discretised problem from each x_0, with no class of policies in between: u_k
/// <- -beta a_{k+1}, damped, with a the exact discrete adjoint (the field is a gradient, so [grad
/// v]^T a = [grad v] a, by the field's tangent). Throws where that does not settle.
struct OpenLoop {
  Trajectory trajectory;
  std::vector<Tensor> controls, adjoints;
  double objective = 0;
  double change = 0;  ///< largest |u + beta a| of the last sweep: 0 at the optimum
};
OpenLoop open_loop_optimum(const Field& base, const Reward& reward, double beta, const Tensor& x0,
                           const std::vector<double>& times, int64_t sweeps = 200);

/// nu that makes g a given function: nu = g + eta grad r(x + (1 - t) v_theta). Its tangent is a
/// fourth-order difference along the direction, so it shares no formula with the estimators that it
/// judges. All rows of a call have the same t for the tangent.
class ExactCorrection : public Field {
 public:
  using Gradient = std::function<Tensor(const Tensor& x, const Tensor& t)>;
  ExactCorrection(Gradient g, FieldPtr base, FieldPtr control, RewardPtr reward, std::string eta)
      : g_(std::move(g)), base_(base), control_(control), reward_(reward), eta_(std::move(eta)) {}
  Tensor operator()(const Tensor& x, const Tensor& t) const override;
  Dual operator()(const Dual& x, const Dual& t) const override;

 private:
  Gradient g_;
  FieldPtr base_, control_;
  RewardPtr reward_;
  std::string eta_;
};

/// Adjoint Matching in one dimension: base N(mean, deviation^2), r = -k (x - centre)^2 / 2,
/// multiplier lambda.
struct Tilt {
  double mean = 2, deviation = 0.5, k = 4, centre = 3, lambda = 1;
  /// p_base exp(lambda r).
  double target_mean() const;
  double target_variance() const;
  FieldPtr base() const;
  RewardPtr reward() const;
};

/// The policy at which Adjoint Matching's expected gradient vanishes on a grid, v_theta = v_base +
/// slope_k x + offset_k with
///   c_k(x) = -(sigma_k^2 / 2) E[a_k | x_k = x],  a_k = lambda k (x_N - centre) prod_{j >= k} (1 +
///   h_j b'_j),  E[x_N | x_k] affine,
/// and the Gaussian that the SDE then ends in.
struct TiltFixedPoint {
  TiltFixedPoint(const Tilt& tilt, const std::vector<double>& times);
  std::shared_ptr<BinnedLinear> control() const;
  std::vector<double> times, slopes, offsets;
  double mean = 0, variance = 0;
};

/// Mean and variance of the ends of the memoryless SDE under any affine control, in closed form.
struct Gaussian {
  double mean = 0, variance = 1;
};
Gaussian memoryless_end(const Tilt& tilt, const std::vector<double>& times,
                        const std::vector<double>& slopes, const std::vector<double>& offsets);

}  // namespace vggflow::analytic
