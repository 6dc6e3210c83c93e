#include "vggflow/eval/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <cmath>

#include "vggflow/core/error.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::random_double;

// The arrays of tools/reference/metrics_reference.py, which also made the values they are held against.
Tensor reference_features(int64_t n, int64_t d, double shift) {
  const Tensor i = at::arange(n, at::kDouble).unsqueeze(1), j = at::arange(d, at::kDouble).unsqueeze(0);
  return (1.7 * i + 0.6 * j * j + 0.31 * i * j + shift).sin() + 0.2 * shift;
}

TEST(Metrics, EqualScipysValues) {
  const Tensor a = reference_features(12, 5, 0), b = reference_features(9, 5, 1.5);
  const Tensor column = a.select(1, 0).contiguous();
  const double* first = column.const_data_ptr<double>();
  EXPECT_NEAR(estimate({first, first + 12}).se, 0.204145024814258, 1e-12);
  EXPECT_NEAR(diversity(a), 1.08462713832471, 1e-12);
  EXPECT_NEAR(frechet_distance(a, b), 0.656790449324773, 1e-10);
  EXPECT_NEAR(squared_mmd(a, b), -0.135100638070872, 1e-12);
}

TEST(Metrics, EstimateGivesMeanAndStandardError) {
  const Estimate e = estimate({1, 2, 3, 4});
  EXPECT_DOUBLE_EQ(e.mean, 2.5);
  EXPECT_NEAR(e.se, std::sqrt(5.0 / 3 / 4), 1e-12);
}

TEST(Metrics, DiversityIsOneMinusTheMeanCosineOfPairs) {
  const Tensor x = random_double({5, 7}, 1);
  const Tensor e = x / x.norm(2, 1, true);
  double sum = 0;
  for (int64_t i = 0; i < 5; ++i) {
    for (int64_t j = 0; j < 5; ++j) sum += (e[i] - e[j]).square().sum().item<double>();
  }
  EXPECT_NEAR(diversity(x), sum / (2 * 5 * 4), 1e-10);
  EXPECT_NEAR(diversity(at::ones({4, 3})), 0, 1e-9);
  EXPECT_NEAR(diversity(at::eye(4)), 1, 1e-9);
  EXPECT_THROW(diversity(at::ones({1, 3})), Error);
}

// For one-dimensional sets FD = (m1 - m2)^2 + (s1 - s2)^2; along axes that do not mix it adds up.
TEST(Metrics, FrechetDistanceEqualsItsClosedFormInOneDimension) {
  const Tensor a = random_double({50, 1}, 1), b = 3 * random_double({40, 1}, 2) + 2;
  const double m = (a.mean() - b.mean()).item<double>(), s = (a.std() - b.std()).item<double>();
  EXPECT_NEAR(frechet_distance(a, b), m * m + s * s, 1e-10);
}

// The definition with an explicit symmetric root, where n > d lets one be taken.
TEST(Metrics, FrechetDistanceEqualsTheMatrixRootFormula) {
  const Tensor a = random_double({60, 5}, 1).matmul(random_double({5, 5}, 3)), b = random_double({40, 5}, 2) + 0.3;
  const auto root = [](const Tensor& s) {
    const auto [values, vectors] = at::linalg_eigh(s, "L");
    return vectors.matmul(at::diag(values.clamp_min(0).sqrt())).matmul(vectors.t());
  };
  const Tensor sa = at::cov(a.t()), sb = at::cov(b.t()), ra = root(sa);
  const Tensor middle = root(ra.matmul(sb).matmul(ra));
  const double want = ((a.mean(0) - b.mean(0)).square().sum() + sa.trace() + sb.trace() - 2 * middle.trace()).item<double>();
  EXPECT_NEAR(frechet_distance(a, b), want, 1e-8);
}

TEST(Metrics, FrechetDistanceIsZeroForOneSetAndInvariantUnderRotationEvenWithFewImages) {
  const Tensor a = random_double({6, 20}, 1), b = random_double({9, 20}, 2);
  EXPECT_NEAR(frechet_distance(a, a), 0, 1e-9);
  const Tensor q = std::get<0>(at::linalg_qr(random_double({20, 20}, 3), "reduced"));
  EXPECT_NEAR(frechet_distance(a.matmul(q), b.matmul(q)), frechet_distance(a, b), 1e-8);
}

TEST(Metrics, KernelDistanceIsUnbiasedForOneDistributionAndSeesAShift) {
  const Tensor a = random_double({400, 8}, 1), b = random_double({400, 8}, 2);
  const Estimate same = kernel_distance(a, b, 0);
  EXPECT_LT(std::abs(same.mean), 0.05);
  const Estimate moved = kernel_distance(a, b + 0.5, 0);
  EXPECT_GT(moved.mean, 0.3);
  EXPECT_EQ(kernel_distance(a, b, 0).mean, same.mean);
}

// Sets that share their prompts are not independent images, so the distance lies below zero: what the floor is for.
TEST(Metrics, KernelDistanceOfSetsWithTheSamePromptsLiesBelowZero) {
  const Tensor prompts = random_double({20, 8}, 1).repeat_interleave(16, 0);
  const Tensor a = prompts + 0.3 * random_double({320, 8}, 2), b = prompts + 0.3 * random_double({320, 8}, 3);
  EXPECT_LT(kernel_distance(a, b, 0).mean, 0);
  EXPECT_GT(kernel_distance(a, b + 0.5, 0).mean, kernel_distance(a, b, 0).mean);
}

TEST(Metrics, RefuseSetsTheyCannotCompare) {
  const Tensor a = random_double({6, 4}, 1);
  EXPECT_THAT(message_of([&] { frechet_distance(a, random_double({6, 5}, 2)); }), HasSubstr("[metrics] expected features (n, d) of one d and n > 1"));
  EXPECT_THAT(message_of([&] { squared_mmd(a, a.narrow(0, 0, 1)); }), HasSubstr("[metrics] expected features (n, d) of one d and n > 1"));
  EXPECT_THAT(message_of([&] { kernel_distance(a, a.narrow(0, 0, 3), 0); }), HasSubstr("at least four images a set"));
  EXPECT_THAT(message_of([&] { within_group_sd(at::ones({5}), 2); }), HasSubstr("expected groups of 2 values, got 5"));
  EXPECT_THAT(message_of([] { estimate({}); }), HasSubstr("expected at least one value"));
}

TEST(Metrics, SmallHelpersCountWhatTheySay) {
  EXPECT_DOUBLE_EQ(saturated_share(at::tensor({0.0, 1.0, 0.5, 1.2})), 0.75);
  EXPECT_NEAR(within_group_sd(at::tensor({1.0, 3.0, 10.0, 12.0}), 2), std::sqrt(2.0), 1e-12);
}

}  // namespace
}  // namespace vggflow
