#pragma once
// Alignment problems small enough to be solved otherwise, in float64: fields (x, t) -> (M, d)
// written for tensors and for pairs, rewards, policies with a flat parameter vector, and the
// problem that methods see. Whoever claims that a method is right claims it here
// (analytic_suite.h).

#include <ATen/ATen.h>

#include <memory>
#include <utility>
#include <vector>

#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/wrapped_problem.h"

namespace vggflow::analytic {

/// A function of x (M, d) and t (M).
class Field {
 public:
  virtual ~Field() = default;
  virtual Tensor operator()(const Tensor& x, const Tensor& t) const = 0;
  virtual Dual operator()(const Dual& x, const Dual& t) const = 0;
};

/// A x.
class LinearField : public Field {
 public:
  explicit LinearField(Tensor a) : transposed_(a.t()) {}
  Tensor operator()(const Tensor& x, const Tensor&) const override { return x.matmul(transposed_); }
  Dual operator()(const Dual& x, const Dual&) const override {
    return {x.value.matmul(transposed_), x.tangent.matmul(transposed_)};
  }

 private:
  Tensor transposed_;
};

/// The flow from N(0, I) to the mixture sum_j w_j N(mu_j, s_j^2 I) along x_t = t x_1 + (1 - t) x_0:
///
///   v(x, t) = E[x_1 - x_0 | x_t = x] = sum_j p_j(x) (mu_j + a_j (x - t mu_j)),   c_j = t^2 s_j^2 +
///   (1-t)^2,  a_j = (t s_j^2 - (1-t)) / c_j, p_j(x) prop. to w_j N(x; t mu_j, c_j I).
///
/// It is a gradient field: its Jacobian is symmetric.
class MixtureField : public Field {
 public:
  /// weights (J), means (J, d), deviations (J).
  MixtureField(Tensor weights, Tensor means, Tensor deviations)
      : weights_(weights), means_(means), variances_(deviations.square()) {}
  Tensor operator()(const Tensor& x, const Tensor& t) const override;
  Dual operator()(const Dual& x, const Dual& t) const override;

 private:
  struct Parts;
  Parts parts(const Tensor& x, const Tensor& t) const;
  Tensor weights_, means_, variances_;
};

/// A field with a flat parameter vector.
class Trainable : public Field {
 public:
  explicit Trainable(const Tensor& start)
      : parameters(start.detach().clone().requires_grad_(true)) {}
  Tensor parameters;
};

/// W_k x + b_k on the step k of a grid that t lies in: the class that holds the optimum of a
/// discretised linear-quadratic problem. Starts at 0.
class BinnedLinear : public Trainable {
 public:
  BinnedLinear(const std::vector<double>& times, int64_t width);
  Tensor operator()(const Tensor& x, const Tensor& t) const override;
  Dual operator()(const Dual& x, const Dual& t) const override;
  /// Sets W_k (d, d) and b_k (d).
  void set(int64_t k, const Tensor& w, const Tensor& b);

 private:
  Tensor at_times(const Tensor& t) const;  // (M, d, d + 1)
  Tensor starts_;
  int64_t width_;
};

/// (x, t) -> hidden -> hidden -> d with SiLU. The last layer starts at 0, or small where a test
/// wants all gradients alive.
class Mlp : public Trainable {
 public:
  /// `clock` > 0: t enters by the sinusoids of an MMDiT, of clock (1 - t), in place of its number.
  Mlp(int64_t width, int64_t hidden, uint64_t seed, double last = 0, double clock = 0);
  Tensor operator()(const Tensor& x, const Tensor& t) const override { return apply(x, t); }
  Dual operator()(const Dual& x, const Dual& t) const override { return apply(x, t); }

 private:
  template <TensorLike T>
  T apply(const T& x, const T& t) const;
  int64_t width_, hidden_;
  double clock_;
};

/// r(x_1) (M).
class Reward {
 public:
  virtual ~Reward() = default;
  virtual Tensor operator()(const Tensor& x1) const = 0;
  virtual Dual operator()(const Dual& x1) const = 0;
  /// grad r (M, d).
  Tensor gradient(const Tensor& x1) const;
};

/// offset - (x - m)^T R (x - m) / 2.
class Quadratic : public Reward {
 public:
  Quadratic(Tensor matrix, Tensor centre, double offset = 0)
      : matrix_(matrix), centre_(centre), offset_(offset) {}
  Tensor operator()(const Tensor& x1) const override;
  Dual operator()(const Dual& x1) const override;

 private:
  Tensor matrix_, centre_;
  double offset_;
};

/// offset - k sum_i log cosh(x_i - m_i): smooth, concave, not quadratic.
class LogCosh : public Reward {
 public:
  LogCosh(double k, Tensor centre, double offset = 0) : k_(k), centre_(centre), offset_(offset) {}
  Tensor operator()(const Tensor& x1) const override;
  Dual operator()(const Dual& x1) const override;

 private:
  double k_;
  Tensor centre_;
  double offset_;
};

using FieldPtr = std::shared_ptr<const Field>;
using RewardPtr = std::shared_ptr<const Reward>;

/// v_theta = v_base + control, r = sum_p w_p r_p, and nu_phi where there is a correction.
class Problem : public AlignmentProblem {
 public:
  Problem(FieldPtr base, RewardPtr reward, FieldPtr control, FieldPtr correction = nullptr)
      : Problem(base, std::vector<RewardPtr>{reward}, {1.0}, control, correction) {}
  Problem(FieldPtr base, std::vector<RewardPtr> rewards, std::vector<double> weights,
          FieldPtr control, FieldPtr correction = nullptr)
      : base_(base),
        rewards_(std::move(rewards)),
        weights_(std::move(weights)),
        control_(control),
        correction_(correction) {}
  Tensor rollout_velocity(const Tensor& x, const Tensor& t) override { return velocity(x, t); }
  Tensor policy(const States& s) override { return velocity(s.x, s.t); }
  Dual policy_tangent(const Dual& x, const Dual& t, const Tensor&) override {
    return (*base_)(x, t) + (*control_)(x, t);
  }
  Tensor base(const States& s) override { return (*base_)(s.x, s.t); }
  Tensor reward(const Tensor& x1, const Tensor& rows) override;
  Dual reward_tangent(const Dual& x1, const Tensor& rows) override;
  Tensor reward_parts(const Tensor& x1, const Tensor& rows) override;
  Dual reward_parts_tangent(const Dual& x1, const Tensor& rows) override;
  std::vector<double> reward_weights() const override { return weights_; }
  bool has_correction() const override { return correction_ != nullptr; }
  Tensor correction(const States& s) override { return (*correction_)(s.x, s.t); }
  Dual correction_tangent(const Dual& x, const Dual& t, const Tensor&) override {
    return (*correction_)(x, t);
  }

 private:
  Tensor velocity(const Tensor& x, const Tensor& t) const {
    return (*base_)(x, t) + (*control_)(x, t);
  }
  FieldPtr base_;
  std::vector<RewardPtr> rewards_;
  std::vector<double> weights_;
  FieldPtr control_, correction_;
};

/// Another problem with its passes counted: forwards when they are called, backwards by hooks that
/// fire when a gradient arrives.
class Counted : public WrappedProblem {
 public:
  using WrappedProblem::WrappedProblem;
  Tensor rollout_velocity(const Tensor& x, const Tensor& t) override {
    return flow(problem_.rollout_velocity(x, t));
  }
  Tensor policy(const States& s) override { return flow(problem_.policy(s)); }
  Dual policy_tangent(const Dual& x, const Dual& t, const Tensor& rows) override;
  Tensor base(const States& s) override { return flow(problem_.base(s)); }
  Tensor correction(const States& s) override;
  Dual correction_tangent(const Dual& x, const Dual& t, const Tensor& rows) override;
  Passes passes;

 private:
  Tensor flow(const Tensor& out);
};

/// Adam without weight decay.
class Adam {
 public:
  /// One step along the accumulated gradient, which is then cleared.
  void step(Trainable& field, double learning_rate);

 private:
  Tensor mean_, square_;
  int64_t steps_ = 0;
};

/// (0, 1/steps, ..., 1).
std::vector<double> uniform_grid(int64_t steps);

/// x_0 of `count` samples of an update, fp64.
Tensor noise(uint64_t seed, uint64_t update, int64_t count, int64_t width,
             uint64_t first_sample = 0);

/// Tensors of doubles.
Tensor vector(const std::vector<double>& values);
Tensor matrix(const std::vector<std::vector<double>>& rows);

/// States at (x, t) with rows 0 ... M-1, or all at one time.
States states(const Tensor& x, double t);

}  // namespace vggflow::analytic
