// VGG-Flow on linear-quadratic problems whose value gradient is g = K(t) x (analytic_optima.h),
// piece by piece. That exact value gradients leave no consistency residual, and what training
// reaches, is in the analytic suite (analytic_test.cpp).
#include "vggflow/algorithms/vgg_flow.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "vggflow/algorithms/adjoint.h"
#include "vggflow/algorithms/matching.h"
#include "vggflow/proofs/analytic_claims.h"
#include "vggflow/testing/gradient_check.h"

namespace vggflow {
namespace {

using namespace analytic;
using ::testing::ElementsAre;

// Closed form of what the suite finds by differences: nu = (K(t) - eta R (I + (1-t) J_v)) x makes g
// exact, for any linear policy J_v.
class ClosedFormNu : public Field {
 public:
  ClosedFormNu(Riccati riccati, Tensor a, Tensor r, Tensor j, Eta eta)
      : riccati_(std::move(riccati)), a_(a), r_(r), j_(j), eta_(std::move(eta)) {}
  Tensor operator()(const Tensor& x, const Tensor& t) const override {
    return x.matmul(matrix_at(t[0].item<double>()).t());
  }
  Dual operator()(const Dual& x, const Dual& t) const override {
    const double time = t.value[0].item<double>();
    return {x.value.matmul(matrix_at(time).t()),
            x.tangent.matmul(matrix_at(time).t()) +
                t.tangent.unsqueeze(1) * x.value.matmul(derivative_at(time).t())};
  }

 private:
  Tensor guess(double t) const { return r_.matmul(at::eye(2, at::kDouble) + (1 - t) * j_); }
  Tensor matrix_at(double t) const {
    return riccati_.value_matrix(t) - eta(eta_, vector({t})).item<double>() * guess(t);
  }
  Tensor derivative_at(double t) const {
    const Tensor k = riccati_.value_matrix(t);
    const double e = eta(eta_, vector({t})).item<double>(),
                 de = eta_derivative(eta_, vector({t})).item<double>();
    return kBeta * k.matmul(k) - k.matmul(a_) - a_.t().matmul(k) - de * guess(t) +
           e * r_.matmul(j_);
  }
  Riccati riccati_;
  Tensor a_, r_, j_;
  Eta eta_;
};

RewardClipOptions none() {
  RewardClipOptions clip;
  clip.kind = ClipBound::kNone;
  return clip;
}

RewardPtr quadratic(const Tensor& r) {
  return std::make_shared<Quadratic>(r, at::zeros({r.size(0)}, at::kDouble));
}

// c grad r(x1_hat) under the policy.
RewardGradients guess_of(AlignmentProblem& problem, const States& s) {
  at::NoGradGuard no_grad;
  return reward_gradients(problem, none(), one_step_guess(s.x, s.t, problem.policy(s)), s.rows, 4);
}

class VggFlowOnRiccati : public ::testing::TestWithParam<Eta> {};
INSTANTIATE_TEST_SUITE_P(EtaSchedules, VggFlowOnRiccati,
                         ::testing::Values(Eta::kConstant, Eta::kLinear, Eta::kQuadratic));

TEST_P(VggFlowOnRiccati, TheExactValueGradientHasNoConsistencyResidual) {
  for (const Tensor& a : {symmetric_base(), general_base()}) {
    const Riccati riccati(a, reward_matrix(), kBeta);
    const Tensor j = a - 0.3 * matrix({{1.0, 0.2}, {-0.1, 0.8}});
    Problem problem(std::make_shared<LinearField>(a), quadratic(reward_matrix()),
                    std::make_shared<LinearField>(j - a),
                    std::make_shared<ClosedFormNu>(riccati, a, reward_matrix(), j, GetParam()));
    for (const double t : {0.1, 0.5, 0.9}) {
      const States s = states(noise(1, 0, 6, 2), t);
      const RewardGradients r = guess_of(problem, s);
      const Tensor g = value_gradient(problem, GetParam(), s, r.gradient);
      EXPECT_LT(largest(g - riccati.gradient(s.x, s.t)), 1e-12);
      const ValuePoints points{s, r.gradient, r.factor, r.weights, g};
      EXPECT_LT(largest(consistency(problem, {}, GetParam(), kBeta, points).residual), 1e-8)
          << "t " << t;
      // And the test can fail: a wrong beta is another equation.
      EXPECT_GT(largest(consistency(problem, {}, GetParam(), 1.01 * kBeta, points).residual), 1e-4);
    }
  }
}

TEST(VggFlow, MatchingVanishesAtTheOptimalControlAndPushesThetaThere) {
  const double t = 0.4;
  const Riccati riccati(symmetric_base(), reward_matrix(), kBeta);
  auto control = std::make_shared<BinnedLinear>(std::vector<double>{0, 1}, 2);
  control->set(0, -kBeta * riccati.value_matrix(t), at::zeros({2}, at::kDouble));
  Problem problem(std::make_shared<LinearField>(symmetric_base()), quadratic(reward_matrix()),
                  control);
  const States s = states(noise(1, 0, 6, 2), t);
  const auto loss = [&] {
    const Tensor target = base_value(problem, s) - kBeta * riccati.gradient(s.x, s.t);
    return matching_loss(problem, s, problem.policy(s).detach(), target, 12.0);
  };
  EXPECT_LT(loss().item<double>(), 1e-18);
  // residual = -beta (M - K) x with M = K + 0.1 I, so the gradient to W = -beta M is -2/12 beta 0.1
  // x x^T.
  control->set(0, -kBeta * (riccati.value_matrix(t) + 0.1 * at::eye(2, at::kDouble)),
               at::zeros({2}, at::kDouble));
  const Tensor gradient =
      torch::autograd::grad({loss()}, {control->parameters})[0].view({2, 3}).narrow(1, 0, 2);
  EXPECT_LT(largest(gradient + 2.0 / 12 * kBeta * 0.1 * s.x.t().matmul(s.x)), 1e-12);
}

// v_base = 0 and r = -k/2 |x - m|^2: the one-step guess is exact under the optimal control: g =
// K(t)(x - m), K = k/(1 + beta k (1-t)).
TEST(VggFlow, WithoutBaseFieldTheOneStepGuessIsTheValueGradient) {
  const double k = 2.0, t = 0.3, big_k = k / (1 + kBeta * k * (1 - t));
  const Tensor centre = vector({0.5, -1}), one = at::eye(2, at::kDouble);
  auto control = std::make_shared<BinnedLinear>(std::vector<double>{0, 1}, 2);
  control->set(0, -kBeta * big_k * one, kBeta * big_k * centre);
  Problem problem(std::make_shared<LinearField>(0 * one),
                  std::make_shared<Quadratic>(k * one, centre), control);
  const States s = states(noise(1, 0, 6, 2), t);
  EXPECT_LT(largest(value_gradient(problem, Eta::kConstant, s, guess_of(problem, s).gradient) -
                    big_k * (s.x - centre)),
            1e-12);
}

TEST(VggFlow, TheBoundaryResidualIsTheCorrectionAtTheEnd) {
  const auto nu = std::make_shared<Mlp>(2, 4, 1, 1);
  Problem problem(std::make_shared<LinearField>(symmetric_base()), quadratic(reward_matrix()),
                  std::make_shared<LinearField>(symmetric_base()), nu);
  const Tensor x = noise(1, 0, 3, 2);
  EXPECT_EQ(
      largest(boundary_residual(problem, x, at::arange(3)) - (*nu)(x, at::ones({3}, at::kDouble))),
      0);
}

// With matching and consistency off phi's gradient is the boundary's alone.
TEST(VggFlow, TheBoundaryLossInPartsIsTheWholeOne) {
  const auto boundary_of = [](int64_t micro_batch) {
    const auto nu = std::make_shared<Mlp>(2, 4, 1, 1);
    Problem problem(std::make_shared<LinearField>(symmetric_base()), quadratic(reward_matrix()),
                    std::make_shared<Mlp>(2, 4, 2, 1), nu);
    VggFlowOptions options;
    options.consistency.kind = ConsistencyKind::kOff;
    options.alpha = 3;
    UpdateInput input = update_input(1, 0, 5, 2, uniform_grid(6));
    input.micro_batch = micro_batch;
    const MethodReport report = VggFlow(options, no_clip()).update(problem, input);
    const Tensor x1 = roll_out(problem, input).final_state();
    const Tensor whole = boundary_residual(problem, x1, at::arange(5)).square().mean();
    const Tensor expected = torch::autograd::grad({3 * whole}, {nu->parameters})[0];
    return std::tuple{report.loss.at("boundary"), nu->parameters.grad(), whole.item<double>(),
                      expected};
  };
  for (const int64_t micro_batch : {5, 80}) {  // one part: bit for bit
    const auto [loss, gradient, whole, expected] = boundary_of(micro_batch);
    EXPECT_EQ(loss, whole);
    EXPECT_TRUE(at::equal(gradient, expected)) << largest(gradient - expected);
  }
  for (const int64_t micro_batch : {1, 2}) {
    const auto [loss, gradient, whole, expected] = boundary_of(micro_batch);
    EXPECT_NEAR(loss, whole, 1e-14);
    EXPECT_GT(largest(expected), 1e-3);
    EXPECT_LT(largest(gradient - expected), 1e-14);
  }
}

// How many end points one pass through nu sees.
TEST(VggFlow, TheBoundaryLossTakesNoMoreThanAMicroBatchAtOnce) {
  struct Counting : Mlp {
    using Mlp::Mlp;
    Tensor operator()(const Tensor& x, const Tensor& t) const override {
      if (t.min().item<double>() == 1) rows.push_back(x.size(0));
      return Mlp::operator()(x, t);
    }
    mutable std::vector<int64_t> rows;
  };
  const auto nu = std::make_shared<Counting>(2, 4, 1, 1);
  Problem problem(std::make_shared<LinearField>(symmetric_base()), quadratic(reward_matrix()),
                  std::make_shared<Mlp>(2, 4, 2, 1), nu);
  UpdateInput input = update_input(1, 0, 5, 2, uniform_grid(6));
  input.micro_batch = 2;
  VggFlow({}, no_clip()).update(problem, input);
  EXPECT_THAT(nu->rows, ElementsAre(2, 2, 1));
}

// The value network is only told of g through its own losses: matching leaves phi alone.
TEST(VggFlow, MatchingAloneLeavesTheValueNetworkWithoutGradient) {
  const auto nu = std::make_shared<Mlp>(2, 4, 1, 1), control = std::make_shared<Mlp>(2, 4, 2, 1);
  Problem problem(std::make_shared<LinearField>(symmetric_base()), quadratic(reward_matrix()),
                  control, nu);
  VggFlowOptions options;
  options.consistency.kind = ConsistencyKind::kOff;
  options.boundary = false;
  VggFlow(options, no_clip()).update(problem, update_input(1, 0, 4, 2, uniform_grid(6)));
  EXPECT_FALSE(nu->parameters.grad().defined());
  EXPECT_TRUE(control->parameters.grad().defined());
}

// A nu that is zero has the loss |guess - a|^2 / |a|^2, a mean over all states, and each part of a
// sweep is a mean over its own states.
TEST(VggFlow, KindReturnRegressesOnTheLeanAdjointOfEveryState) {
  const auto gradient_of_parts = [](int64_t parts, double& loss) {
    const auto nu = std::make_shared<Mlp>(2, 4, 1, 0);
    Problem problem(std::make_shared<LinearField>(general_base()), quadratic(reward_matrix()),
                    std::make_shared<Mlp>(2, 4, 2, 1), nu);
    VggFlowOptions options;
    options.consistency.kind = ConsistencyKind::kReturn;
    options.consistency.value_steps = parts;
    options.consistency.warmup = 0;
    options.transitions.bins = 3;
    int64_t steps = 0;
    UpdateInput input = update_input(1, 0, 4, 2, uniform_grid(6));
    input.step_value = [&] { ++steps; };
    const MethodReport report = VggFlow(options, none()).update(problem, input);
    EXPECT_EQ(steps, parts - 1);
    EXPECT_TRUE(report.trains_policy && report.trains_value);
    EXPECT_FALSE(report.loss.contains("boundary"));
    loss = report.loss.at("return");
    const Trajectory path = roll_out(problem, input);
    const auto a =
        sweep(path, at::arange(4),
              -reward_gradients(problem, none(), path.final_state(), at::arange(4), 4).gradient, 4,
              lean_step(problem));
    double expected = 0;
    for (size_t k = 0; k < 6; ++k) {
      const States s = states(path.states[k], path.times[k]);
      const Tensor error =
          value_gradient(problem, options.eta, s, guess_of(problem, s).gradient) - a[k + 1];
      expected += (error.square().sum(1) / a[k + 1].square().sum(1)).mean().item<double>() / 6;
    }
    EXPECT_NEAR(loss, expected, 1e-12 * expected);
    return nu->parameters.grad();
  };
  double whole_loss = 0, parts_loss = 0;
  const Tensor whole = gradient_of_parts(1, whole_loss), parts = gradient_of_parts(3, parts_loss);
  EXPECT_NEAR(parts_loss, whole_loss, 1e-14);
  EXPECT_GT(largest(whole), 1e-3);
  EXPECT_LT(largest(parts - 3 * whole), 1e-13);
}

TEST(VggFlow, KindReturnSweepsNowAndThen) {
  Problem problem(std::make_shared<LinearField>(general_base()), quadratic(reward_matrix()),
                  std::make_shared<Mlp>(2, 4, 2, 1), std::make_shared<Mlp>(2, 4, 1, 1));
  VggFlowOptions options;
  options.consistency.kind = ConsistencyKind::kReturn;
  options.consistency.every = 3;
  options.consistency.warmup = 2;
  options.transitions.bins = 3;
  for (const auto& [update, sweeps, waits] :
       {std::tuple{0, true, true}, {1, true, true}, {2, false, false}, {3, true, false}}) {
    const MethodReport report =
        VggFlow(options, none())
            .update(problem, update_input(1, static_cast<uint64_t>(update), 4, 2, uniform_grid(6)));
    EXPECT_EQ(report.trains_value, sweeps) << update;
    EXPECT_EQ(report.loss.contains("return"), sweeps) << update;
    EXPECT_EQ(report.trains_policy, !waits) << update;
    EXPECT_EQ(report.loss.contains("matching"), !waits) << update;
  }
}

// g = K x with the Euler-discretised matrix K_k = (I + h A^T) K_{k+1} (I + h J) has no residual
// over the rollout's own steps, J being the policy's; and both ends get a gradient.
TEST(VggFlow, TheLeanAdjointHasNoResidualOverAStep) {
  const Tensor a = general_base(), one = at::eye(2, at::kDouble);
  const auto times = uniform_grid(6);
  struct Table : Field {
    std::vector<Tensor> k;
    std::vector<double> times;
    Tensor at(double t) const {
      size_t i = 0;
      while (times[i] < t - 1e-9) ++i;
      return k[i];
    }
    Tensor operator()(const Tensor& x, const Tensor& t) const override {
      std::vector<Tensor> rows;
      for (int64_t i = 0; i < x.size(0); ++i) rows.push_back(at(t[i].item<double>()).matmul(x[i]));
      return at::stack(rows);
    }
    Dual operator()(const Dual&, const Dual&) const override { return {}; }
  };
  const auto nu = std::make_shared<Table>();
  nu->times = times;
  nu->k.resize(times.size());
  nu->k.back() = reward_matrix();
  for (size_t i = times.size() - 1; i-- > 0;) {
    const Tensor step = one + (times[i + 1] - times[i]) * a;
    nu->k[i] = step.t().matmul(nu->k[i + 1]).matmul(step);
  }
  Problem problem(std::make_shared<LinearField>(a), quadratic(reward_matrix()),
                  std::make_shared<LinearField>(0 * one), nu);
  VggFlowOptions options;
  options.consistency.kind = ConsistencyKind::kStep;
  const Rollout path = roll_out(problem, update_input(1, 0, 4, 2, times), StepsOfSamples{});
  const Transitions at = all_steps(path), next = following(path, at);
  const Tensor end =
      reward_part(Eta::kConstant, next.states.t,
                  reward_gradients(problem, none(), next.states.x, next.states.rows, 4).gradient);
  const Tensor last = (next.states.t == 1).to(at::kDouble).unsqueeze(1);
  ValuePoints points{at.states, {}, {}, {}, {}};
  points.guess = at::zeros_like(at.states.x);
  points.next = next.states;
  points.next_guess = last * end;  // no guess but the boundary
  EXPECT_LT(
      largest(consistency(problem, options.consistency, Eta::kConstant, kBeta, points).residual),
      1e-12);
  nu->k[2] = 1.01 * nu->k[2];
  EXPECT_GT(
      largest(consistency(problem, options.consistency, Eta::kConstant, kBeta, points).residual),
      1e-4);
}

TEST(VggFlow, WarmUpScalesBeta) {
  Problem problem(std::make_shared<LinearField>(symmetric_base()), quadratic(reward_matrix()),
                  std::make_shared<BinnedLinear>(uniform_grid(6), 2));
  const auto energy = [&](double scale) {
    UpdateInput input = update_input(1, 0, 4, 2, uniform_grid(6));
    input.beta_scale = scale;
    return VggFlow({}, no_clip()).update(problem, input).values.at("control_energy");
  };
  EXPECT_NEAR(energy(0.5) / energy(1), 0.25, 1e-12);
}

}  // namespace
}  // namespace vggflow
