// VGG-Flow on problems whose optimum is known in closed form, in float64 (../shared/reference/vggflow-paper.md 1.6):
// v_base = A x, r = -1/2 x^T R x. The value is quadratic, g = K(t) x, with K' = beta K^2 - K A - A^T K, K(1) = R.
#include "vggflow/algorithms/vgg_flow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "vggflow/core/error.h"
#include "vggflow/testing/gradient_check.h"

namespace vggflow {
namespace {

using testing::random_double;

constexpr double kBeta = 0.7;

struct Riccati {
  Tensor a, r;
  /// K(t), by Runge-Kutta backward from K(1) = R.
  Tensor value_matrix(double t) const {
    Tensor k = r.clone();
    const int steps = 400;
    const double h = (1 - t) / steps;
    const auto f = [&](const Tensor& m) { return kBeta * m.matmul(m) - m.matmul(a) - a.t().matmul(m); };
    for (int i = 0; i < steps; ++i) {
      const Tensor k1 = f(k), k2 = f(k - h / 2 * k1), k3 = f(k - h / 2 * k2), k4 = f(k - h * k3);
      k = k - h / 6 * (k1 + 2 * k2 + 2 * k3 + k4);
    }
    return k;
  }
  Tensor derivative(double t) const {
    const Tensor k = value_matrix(t);
    return kBeta * k.matmul(k) - k.matmul(a) - a.t().matmul(k);
  }
};

// The policy is v_base - beta M x with a learned matrix M; the correction is whatever makes g the exact value gradient, or a
// learned matrix N(t) = n0 + n1 t.
class LinearProblem : public AlignmentProblem {
 public:
  LinearProblem(Tensor a, Tensor r, Tensor m) : riccati{a, r}, a_(a), r_(r), m_(m) {}
  Tensor policy(const States& s) override { return s.x.matmul(a_.t()) - kBeta * s.x.matmul(m_.t()); }
  Dual policy_tangent(const Dual& x, const Dual&, const Tensor&) override {
    const Tensor j = (a_ - kBeta * m_).t();
    return {x.value.matmul(j), x.tangent.matmul(j)};
  }
  Tensor base(const States& s) override { return s.x.matmul(a_.t()); }
  Tensor reward(const Tensor& x1, const Tensor&) override { return -0.5 * (x1 * x1.matmul(r_.t())).sum(1); }
  Dual reward_tangent(const Dual& x1, const Tensor&) override {
    return {reward(x1.value, {}), -(x1.tangent * x1.value.matmul(r_.t())).sum(1)};
  }
  bool has_correction() const override { return static_cast<bool>(nu); }
  Tensor correction(const States& s) override { return nu(s.x, s.t); }
  Dual correction_tangent(const Dual& x, const Dual& t, const Tensor&) override { return nu_tangent(x, t); }

  Riccati riccati;
  std::function<Tensor(const Tensor&, const Tensor&)> nu;
  std::function<Dual(const Dual&, const Dual&)> nu_tangent;

 private:
  Tensor a_, r_, m_;
};

Tensor symmetric(uint64_t id, double scale, double shift) {
  const Tensor x = random_double({3, 3}, id, scale);
  return (x + x.t()) / 2 + shift * at::eye(3, at::kDouble);
}

States states_at(double t, int64_t count = 6) {
  return {random_double({count, 3}, 40), at::full({count}, t, at::kDouble), at::arange(count)};
}

// g's one-step part is -eta grad r(x1_hat) = eta R (I + (1-t) J_v) x for the linear policy; nu = K(t) x - that part makes g exact.
void make_exact(LinearProblem& problem, const VggFlowOptions& options, const Tensor& a, const Tensor& r, const Tensor& m) {
  const Tensor j = a - kBeta * m;
  const auto one_step = [=](double t) {
    const double e = eta(options, at::tensor(t, at::kDouble)).item<double>();
    return e * r.matmul(at::eye(3, at::kDouble) + (1 - t) * j);
  };
  const auto one_step_derivative = [=](double t) {
    const Tensor tt = at::tensor(t, at::kDouble);
    const double e = eta(options, tt).item<double>(), de = eta_derivative(options, tt).item<double>();
    return de * r.matmul(at::eye(3, at::kDouble) + (1 - t) * j) - e * r.matmul(j);
  };
  problem.nu = [&problem, one_step](const Tensor& x, const Tensor& t) {
    const double time = t[0].item<double>();
    return x.matmul((problem.riccati.value_matrix(time) - one_step(time)).t());
  };
  problem.nu_tangent = [&problem, one_step, one_step_derivative](const Dual& x, const Dual& t) -> Dual {
    const double time = t.value[0].item<double>();
    const Tensor n = problem.riccati.value_matrix(time) - one_step(time);
    const Tensor dn = problem.riccati.derivative(time) - one_step_derivative(time);
    return {x.value.matmul(n.t()), x.tangent.matmul(n.t()) + t.tangent.unsqueeze(1) * x.value.matmul(dn.t())};
  };
}

class VggFlowOnRiccati : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(EtaSchedules, VggFlowOnRiccati, ::testing::Values("constant", "linear", "quadratic"));

TEST_P(VggFlowOnRiccati, TheExactValueGradientHasNoConsistencyResidual) {
  for (const bool symmetric_base : {true, false}) {
    const Tensor a = symmetric_base ? symmetric(1, 0.5, 0) : random_double({3, 3}, 2, 0.5);
    const Tensor r = symmetric(3, 0.3, 1), m = random_double({3, 3}, 4, 0.3);
    VggFlowOptions options{.beta = kBeta, .eta = GetParam(), .clip = "none"};
    LinearProblem problem(a, r, m);
    make_exact(problem, options, a, r, m);
    for (const double t : {0.1, 0.5, 0.9}) {
      const States s = states_at(t);
      const ValueGuess guess = guess_value_gradients(problem, options, s, problem.policy(s), 4);
      const Tensor g = value_gradient(problem, options, s, guess.reward_gradient);
      EXPECT_LT((g - s.x.matmul(problem.riccati.value_matrix(t).t())).abs().max().item<double>(), 1e-10);
      const Tensor residual = consistency_residual(problem, options, s, guess.reward_gradient, guess.clip_factor);
      EXPECT_LT(residual.abs().max().item<double>(), 1e-8) << "t " << t << (symmetric_base ? " symmetric" : " general");
    }
    // And the test can fail: another g leaves a residual.
    auto exact = problem.nu_tangent;
    problem.nu_tangent = [exact](const Dual& x, const Dual& t) {
      const Dual d = exact(x, t);
      return Dual{d.value, d.tangent * 1.01};
    };
    const States s = states_at(0.5);
    const ValueGuess guess = guess_value_gradients(problem, options, s, problem.policy(s), 4);
    EXPECT_GT(consistency_residual(problem, options, s, guess.reward_gradient, guess.clip_factor).abs().max().item<double>(), 1e-4);
  }
}

TEST(VggFlow, MatchingVanishesAtTheOptimalControlAndPushesThetaThere) {
  const Tensor a = symmetric(1, 0.5, 0), r = symmetric(3, 0.3, 1);
  const Riccati riccati{a, r};
  const double t = 0.4;
  Tensor m = riccati.value_matrix(t).clone().requires_grad_(true);
  VggFlowOptions options{.beta = kBeta, .clip = "none"};
  LinearProblem problem(a, r, m);
  make_exact(problem, options, a, r, m.detach());
  const States s = states_at(t);
  const auto loss_of = [&] {
    const Tensor v = problem.policy(s).detach();
    const ValueGuess guess = guess_value_gradients(problem, options, s, v, 8);
    return matching_loss(problem, options, s, value_gradient(problem, options, s, guess.reward_gradient), 18.0);
  };
  EXPECT_LT(loss_of().item<double>(), 1e-18);
  {
    torch::autograd::AutoGradMode off(false);
    m += 0.1 * at::eye(3, at::kDouble);
  }
  make_exact(problem, options, a, r, m.detach());
  // residual = -beta (M - K) x, so the gradient to M is 2/18 beta^2 (M - K) x x^T.
  const Tensor gradient = torch::autograd::grad({loss_of()}, {m})[0];
  const Tensor want = 2.0 / 18 * kBeta * kBeta * 0.1 * s.x.t().matmul(s.x);
  EXPECT_LT((gradient - want).abs().max().item<double>(), 1e-12);
}

// v_base = 0 and r = -k/2 |x - m|^2: the one-step guess is exact under the optimal control: g = K(t)(x - m), K = k/(1 + beta k (1-t)).
TEST(VggFlow, WithoutBaseFieldTheOneStepGuessIsTheValueGradient) {
  const double k = 2.0, t = 0.3, big_k = k / (1 + kBeta * k * (1 - t));
  const Tensor zero = at::zeros({3, 3}, at::kDouble);
  LinearProblem problem(zero, k * at::eye(3, at::kDouble), big_k * at::eye(3, at::kDouble));
  const VggFlowOptions options{.beta = kBeta, .eta = "constant", .clip = "none"};
  const States s = states_at(t);
  const ValueGuess guess = guess_value_gradients(problem, options, s, problem.policy(s), 3);
  const Tensor g = value_gradient(problem, options, s, guess.reward_gradient);
  EXPECT_LT((g - big_k * s.x).abs().max().item<double>(), 1e-12);
}

TEST(VggFlow, ClipsAtTheQuantileOfTheCurrentBatch) {
  LinearProblem problem(at::zeros({3, 3}, at::kDouble), at::eye(3, at::kDouble), at::zeros({3, 3}, at::kDouble));
  States s = states_at(1.0, 5);
  s.x = at::eye(5, 3, at::kDouble).index_put({at::tensor({3, 4}), at::tensor({0, 1})}, at::tensor({10.0, 20.0}, at::kDouble));
  s.x[1] *= 2;
  const Tensor velocity = at::zeros_like(s.x);
  const ValueGuess guess = guess_value_gradients(problem, {.clip = "quantile", .clip_quantile = 0.5}, s, velocity, 2);
  EXPECT_DOUBLE_EQ(guess.threshold, 2.0);  // norms 1, 2, 1, 10, 20
  EXPECT_THAT((std::vector<double>{guess.clip_factor.const_data_ptr<double>(), guess.clip_factor.const_data_ptr<double>() + 5}),
              ::testing::ElementsAre(1.0, 1.0, 1.0, 0.2, 0.1));
  EXPECT_NEAR(guess.reward_gradient[4].norm().item<double>(), 2.0, 1e-12);
}

TEST(VggFlow, ANonFiniteRewardIsLeftOutAndDoesNotSpread) {
  LinearProblem problem(at::zeros({3, 3}, at::kDouble), at::eye(3, at::kDouble), at::zeros({3, 3}, at::kDouble));
  States s = states_at(1.0, 4);
  s.x[2][0] = std::numeric_limits<double>::quiet_NaN();
  const ValueGuess guess = guess_value_gradients(problem, {}, s, at::zeros_like(s.x), 8);
  EXPECT_FALSE(guess.finite[2].item<bool>());
  EXPECT_EQ(guess.finite.sum().item<int64_t>(), 3);
  EXPECT_TRUE(at::isfinite(guess.reward_gradient).all().item<bool>());
  EXPECT_TRUE(std::isfinite(guess.threshold));
}

TEST(VggFlow, DrawsOneTransitionFromEachBin) {
  std::vector<int> seen(20);
  for (uint64_t i = 0; i < 400; ++i) {
    const auto steps = draw_transitions({.bins = 5}, 20, RandomStream({1, Purpose::kTime, 0, i}));
    ASSERT_EQ(steps.size(), 5u);
    for (size_t b = 0; b < 5; ++b) {
      EXPECT_EQ(steps[b] / 4, static_cast<int64_t>(b));
      ++seen[static_cast<size_t>(steps[b])];
    }
  }
  for (const int count : seen) EXPECT_NEAR(count, 100, 45);
  const auto release = draw_transitions({.bins = 5, .force_last_step = true, .skip_first_step = true}, 20, RandomStream({1, Purpose::kTime, 0, 1}));
  EXPECT_EQ(release.size(), 6u);
  EXPECT_EQ(release.back(), 19);
  EXPECT_GE(release.front(), 1);
  EXPECT_THROW(draw_transitions({.bins = 21}, 20, RandomStream({1, Purpose::kTime, 0, 1})), Error);
}

}  // namespace
}  // namespace vggflow
