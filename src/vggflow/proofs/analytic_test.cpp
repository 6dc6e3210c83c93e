// Every claim of the analytic suite (docs/analytic.md), one test a claim, named by its sentence;
// and the suite's own ground.
#include <ATen/ops/arange.h>
#include <ATen/ops/special_ndtri.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "vggflow/proofs/analytic_claims.h"
#include "vggflow/testing/gradient_check.h"

namespace vggflow::analytic {
namespace {

class Analytic : public ::testing::TestWithParam<AnalyticClaim> {};
INSTANTIATE_TEST_SUITE_P(Suite, Analytic, ::testing::ValuesIn(analytic_claims()),
                         [](const ::testing::TestParamInfo<AnalyticClaim>& claim) {
                           return claim.param.sentence;
                         });

TEST_P(Analytic, Holds) {
  AnalyticReport report;
  GetParam().run(report);
  ASSERT_FALSE(report.results.empty());
  for (const AnalyticResult& r : report.results) {
    EXPECT_TRUE(r.ok) << r.name << ": " << r.value << ", expected " << r.relation << " " << r.bound
                      << ". " << r.note;
  }
}

TEST(AnalyticReport, FailsWhereOneResultDoesAndWhereAValueIsNotANumber) {
  AnalyticReport report;
  report.below("a", 1, 2);
  report.above("b", 3, 2);
  EXPECT_TRUE(report.ok());
  report.below("c", std::nan(""), 2);
  EXPECT_FALSE(report.ok());
}

// Error of a field's tangent along (dx, dt) against central differences.
double field_tangent_error(const Field& field, int64_t width) {
  const Tensor x = noise(1, 0, 5, width), dx = noise(1, 1, 5, width),
               t = vector({0.0, 0.2, 0.45, 0.75, 0.95}), dt = vector({1, -0.5, 2, 1, 0.3});
  const Tensor got = field(Dual{x, dx}, Dual{t, dt}).tangent;
  const Tensor want =
      (field(x + 1e-6 * dx, t + 1e-6 * dt) - field(x - 1e-6 * dx, t - 1e-6 * dt)) / 2e-6;
  return testing::relative_error(got, want);
}

TEST(AnalyticProblems, TangentsOfFieldsEqualCentralDifferences) {
  EXPECT_LT(field_tangent_error(*mixture(1), 1), 1e-8);
  EXPECT_LT(field_tangent_error(*mixture(2), 2), 1e-8);
  EXPECT_LT(field_tangent_error(Mlp(2, 6, 3, 1), 2), 1e-8);
  EXPECT_LT(field_tangent_error(LinearField(general_base()), 2), 1e-8);
}

TEST(AnalyticProblems, GradientsAndTangentsOfRewardsEqualCentralDifferences) {
  const Quadratic quadratic(reward_matrix(), vector({0.3, -1}), 2);
  const LogCosh cosh(0.7, vector({0.3, -1}), -1);
  for (const Reward* r :
       {static_cast<const Reward*>(&quadratic), static_cast<const Reward*>(&cosh)}) {
    const Tensor x = noise(2, 0, 5, 2), d = noise(2, 1, 5, 2);
    const Tensor want = ((*r)(x + 1e-6 * d) - (*r)(x - 1e-6 * d)) / 2e-6;
    EXPECT_LT(testing::relative_error((*r)(Dual{x, d}).tangent, want), 1e-8);
    EXPECT_LT(testing::relative_error((r->gradient(x) * d).sum(1), want), 1e-8);
  }
}

// E[x_1 - x_0 | x_t = x] by quadrature over x_1: x_0 = (x - t x_1) / (1 - t).
TEST(AnalyticProblems, TheMixturesFieldIsTheConditionalMeanVelocity) {
  const double t = 0.6, x = 0.4;
  const auto normal = [](double y, double m, double s) {
    return std::exp(-0.5 * (y - m) * (y - m) / (s * s)) / s;
  };
  double weight = 0, velocity = 0;
  for (double x1 = -6; x1 < 6; x1 += 1e-3) {
    const double x0 = (x - t * x1) / (1 - t);
    const double p =
        (0.4 * normal(x1, -0.8, 0.55) + 0.6 * normal(x1, 0.8, 0.65)) * std::exp(-0.5 * x0 * x0);
    weight += p;
    velocity += p * (x1 - x0);
  }
  EXPECT_NEAR((*mixture(1))(matrix({{x}}), vector({t})).item<double>(), velocity / weight, 1e-9);
}

// The flow of the field ends in the mixture: mean 0.16, variance sum w (s^2 + mu^2) - mean^2.
TEST(AnalyticProblems, TheMixturesFlowEndsInTheMixture) {
  const Tensor quantiles = (at::arange(2000, at::kDouble) + 0.5) / 2000;
  const Tensor x0 = at::special_ndtri(quantiles).unsqueeze(1);
  const Tensor x1 = sample([](const Tensor& x, const Tensor& t) { return (*mixture(1))(x, t); }, x0,
                           uniform_grid(400));
  EXPECT_NEAR(x1.mean().item<double>(), 0.16, 5e-3);
  EXPECT_NEAR(x1.var().item<double>(),
              0.4 * (0.55 * 0.55 + 0.64) + 0.6 * (0.65 * 0.65 + 0.64) - 0.16 * 0.16, 2e-2);
}

TEST(AnalyticProblems, BinnedPoliciesUseTheBinThatTheTimeLiesIn) {
  const auto times = uniform_grid(10);
  BinnedLinear policy(times, 1);
  for (int64_t k = 0; k < 10; ++k) policy.set(k, matrix({{static_cast<double>(k)}}), vector({0.5}));
  for (size_t k = 0; k < 10; ++k) {
    for (const double t : {times[k], times[k] + 0.05}) {
      EXPECT_DOUBLE_EQ(policy(matrix({{2}}), vector({t})).item<double>(),
                       2.0 * static_cast<double>(k) + 0.5)
          << t;
    }
  }
}

TEST(AnalyticOptima, TheRiccatiEquationIsIntegratedTo1e10) {
  for (const Tensor& a : {symmetric_base(), general_base()}) {
    const Riccati coarse(a, reward_matrix(), kBeta), fine(a, reward_matrix(), kBeta, 1600);
    for (const double t : {0.0, 0.3, 0.8})
      EXPECT_LT(largest(coarse.value_matrix(t) - fine.value_matrix(t)), 1e-10) << t;
  }
  // v_base = 0: K = k / (1 + beta k (1 - t)).
  const Riccati riccati(at::zeros({1, 1}, at::kDouble), matrix({{2}}), kBeta);
  EXPECT_NEAR(riccati.value_matrix(0.25).item<double>(), 2 / (1 + kBeta * 2 * 0.75), 1e-10);
}

// No other linear policy is better than the discrete Riccati equation's, and its value is what the
// rollout costs.
TEST(AnalyticOptima, TheDiscreteRiccatiControlIsTheMinimum) {
  const DiscreteRiccati optimum(general_base(), reward_matrix(), kBeta, uniform_grid(12));
  const auto control = optimum.control();
  Problem problem(std::make_shared<LinearField>(general_base()),
                  std::make_shared<Quadratic>(reward_matrix(), at::zeros({2}, at::kDouble)),
                  control);
  const Tensor x0 = noise(4, 0, 100, 2);
  const double best = objective(problem, kBeta, x0, optimum.times);
  EXPECT_NEAR(best, optimum.objective(x0), 1e-12);
  for (int64_t k = 0; k < 12; ++k) {
    for (const double change : {-0.05, 0.05}) {
      control->set(k, optimum.gains[static_cast<size_t>(k)] + change, at::zeros({2}, at::kDouble));
      EXPECT_GT(objective(problem, kBeta, x0, optimum.times), best) << k;
    }
    control->set(k, optimum.gains[static_cast<size_t>(k)], at::zeros({2}, at::kDouble));
  }
}

TEST(AnalyticOptima, OpenLoopControlsOfALinearProblemAreItsRiccatiControls) {
  const Tensor a = 0.3 * symmetric_base(),
               x0 = noise(4, 0, 20, 2);  // mild: the damped sweeps contract
  const DiscreteRiccati optimum(a, reward_matrix(), kBeta, uniform_grid(12));
  const OpenLoop found =
      open_loop_optimum(LinearField(a), Quadratic(reward_matrix(), at::zeros({2}, at::kDouble)),
                        kBeta, x0, optimum.times);
  EXPECT_LT(found.change, 1e-9);
  EXPECT_NEAR(found.objective, optimum.objective(x0), 1e-9);
}

// Without reward the SDE samples the base: the closed-form end is its mean and deviation, up to the
// step.
TEST(AnalyticOptima, TheTiltsFixedPointIsTheBaseWhereLambdaIsZero) {
  Tilt tilt;
  tilt.lambda = 0;
  const TiltFixedPoint fixed(tilt, uniform_grid(2000));
  EXPECT_EQ(fixed.slopes[1000], 0);
  EXPECT_NEAR(fixed.mean, 2, 2e-3);
  EXPECT_NEAR(std::sqrt(fixed.variance), 0.5, 2e-3);
}

}  // namespace
}  // namespace vggflow::analytic
