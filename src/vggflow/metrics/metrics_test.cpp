#include "vggflow/metrics/metrics.h"

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

// The arrays of tools/reference/metrics_reference.py, which also made the values they are held
// against.
Tensor reference_features(int64_t n, int64_t d, double shift) {
  const Tensor i = at::arange(n, at::kDouble).unsqueeze(1),
               j = at::arange(d, at::kDouble).unsqueeze(0);
  return (1.7 * i + 0.6 * j * j + 0.31 * i * j + shift).sin() + 0.2 * shift;
}

TEST(Metrics, EqualScipysValues) {
  const Tensor a = reference_features(12, 5, 0), b = reference_features(9, 5, 1.5);
  const Tensor column = a.select(1, 0).contiguous();
  const double* first = column.const_data_ptr<double>();
  EXPECT_NEAR(estimate({first, first + 12}).se.value(), 0.204145024814258, 1e-12);
  EXPECT_NEAR(diversity(a), 1.08462713832471, 1e-12);
  EXPECT_NEAR(frechet_distance(a, b), 0.656790449324773, 1e-10);
  EXPECT_NEAR(squared_mmd(a, b), -0.135100638070872, 1e-12);
}

// Values of tools/reference/set_metrics_reference.py: the relative bound is the 1e-3, what
// is met is far closer.
TEST(Metrics, FrechetDistanceEqualsTorchFidelityAndScipyWithMoreImagesThanFeaturesAndWithFewer) {
  EXPECT_NEAR(frechet_distance(reference_features(120, 50, 0), reference_features(90, 50, 0.4)),
              2.29125839999, 1e-9);
  // Fewer images: torch-fidelity says 7.36722332459 and scipy 7.36722327549, whose roots of a
  // singular product lose digits; 40 digits say this.
  EXPECT_NEAR(frechet_distance(reference_features(20, 50, 0), reference_features(24, 50, 0.4)),
              7.36722394239, 1e-9);
}

TEST(Metrics, KernelDistanceOfWholeSetsEqualsTorchFidelitys) {
  EXPECT_NEAR(squared_mmd(reference_features(60, 8, 0), reference_features(60, 8, 0.4)),
              -0.0588553208395, 1e-10);
}

Tensor reference_other() { return 0.8 * reference_features(40, 8, 2.0) + 0.1; }

TEST(Metrics, PrecisionAndRecallEqualTorchFidelityAndPrdc) {
  const Tensor a = reference_features(60, 8, 0), b = reference_other();
  EXPECT_NEAR(precision_recall(a, b).precision, 44.0 / 60, 1e-12);
  EXPECT_NEAR(precision_recall(a, b).recall, 1, 1e-12);
  EXPECT_NEAR(precision_recall(b, a).recall, 44.0 / 60, 1e-12);
  EXPECT_NEAR(precision_recall(a, b, /*k=*/5).precision, 56.0 / 60, 1e-12);
}

TEST(Metrics, PrecisionAndRecallTellAMissingModeFromAWrongOne) {
  const Tensor left = random_double({40, 3}, 1), right = random_double({40, 3}, 2) + 100;
  const Tensor both = at::cat({left, right});
  EXPECT_EQ(precision_recall(left, both).precision, 1);
  EXPECT_EQ(precision_recall(left, both).recall, 0.5);
  EXPECT_EQ(precision_recall(both, left).precision, 0.5);
  EXPECT_EQ(precision_recall(left, right).precision, 0);
}

TEST(Metrics, CmmdEqualsItsDefinition) {
  EXPECT_NEAR(cmmd(reference_features(60, 8, 0), reference_other()), 3.1632355084, 1e-8);
  EXPECT_NEAR(cmmd(reference_other(), reference_other()), 0, 1e-9);
}

// Two points at a right angle: |x - y|^2 = 2, so 1000 (1 + 1 - 2 exp(-1 / sigma^2)).
TEST(Metrics, CmmdEqualsItsClosedFormForTwoPoints) {
  const Tensor x = at::tensor({1.0, 0.0}).repeat({4, 1}), y = at::tensor({0.0, 3.0}).repeat({5, 1});
  EXPECT_NEAR(cmmd(x, y), 2000 * (1 - std::exp(-0.01)), 1e-9);
  EXPECT_NEAR(cmmd(x, y, /*sigma=*/1), 2000 * (1 - std::exp(-1.0)), 1e-8);
}

TEST(Metrics, VendiScoreEqualsVendiScores) {
  EXPECT_NEAR(vendi_score(reference_features(60, 8, 0)), 7.95801579717, 1e-9);
  EXPECT_NEAR(vendi_score(reference_features(5, 8, 0)), 3.00375589311, 1e-9);
}

TEST(Metrics, VendiScoreCountsDifferentImages) {
  EXPECT_NEAR(vendi_score(at::ones({6, 4})), 1, 1e-9);
  EXPECT_NEAR(vendi_score(at::eye(5)), 5, 1e-9);
  EXPECT_NEAR(vendi_score(at::eye(5).repeat({3, 1})), 5, 1e-9);
  // Shares 1/4 and 3/4 of two kinds.
  const Tensor two =
      at::cat({at::eye(2).narrow(0, 0, 1), at::eye(2).narrow(0, 1, 1).repeat({3, 1})});
  EXPECT_NEAR(vendi_score(two), std::exp(-0.25 * std::log(0.25) - 0.75 * std::log(0.75)), 1e-9);
}

std::vector<double> numbers(const Tensor& x) {
  const Tensor y = x.contiguous();
  return {y.const_data_ptr<double>(), y.const_data_ptr<double>() + y.numel()};
}

// scipy's ends come from 200,000 draws; of 20,000 draws the ends' own spread is about 0.002.
TEST(Metrics, BootstrapIntervalEqualsScipys) {
  const std::vector<double> x = numbers(reference_features(60, 8, 0).select(1, 0));
  const Interval i = bootstrap_interval(x, 0, 20000);
  EXPECT_NEAR(i.low, -0.1781, 0.006);
  EXPECT_NEAR(i.high, 0.1743, 0.006);
  EXPECT_EQ(bootstrap_interval(x, 0, 20000).low, i.low);
  const Interval narrow = bootstrap_interval(x, 0, 20000, 0.5);
  EXPECT_LT(narrow.high - narrow.low, 0.5 * (i.high - i.low));
}

TEST(Metrics, TheIntervalOfADifferenceIsThatOfIndependentSets) {
  const std::vector<double> x = numbers(reference_features(60, 8, 0).select(1, 0)),
                            y = numbers(reference_features(40, 8, 1.5).select(1, 0));
  const Estimate change = difference(estimate(x), estimate(y));
  EXPECT_NEAR(change.se.value(), std::hypot(*estimate(x).se, *estimate(y).se), 1e-12);
  const Interval i = bootstrap_interval_of_difference(x, y, 0, 20000);
  EXPECT_NEAR((i.low + i.high) / 2, change.mean, 0.1 * *change.se);
  EXPECT_NEAR((i.high - i.low) / (2 * 1.96 * *change.se), 1, 0.05);
}

TEST(Metrics, JackknifeOfAMeanIsItsStandardError) {
  const std::vector<double> x = numbers(reference_features(60, 8, 0).select(1, 0));
  const auto mean_of_kept = [&](const std::vector<bool>& kept) {
    double sum = 0, count = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      sum += kept[i] ? x[i] : 0;
      count += kept[i] ? 1 : 0;
    }
    return std::vector<double>{sum / count, 7 * sum / count};
  };
  const auto each = jackknife_errors(60, 60, mean_of_kept);
  EXPECT_NEAR(each[0], 0.0913049601701, 1e-10);
  EXPECT_NEAR(each[0], estimate(x).se.value(), 1e-10);
  EXPECT_NEAR(each[1], 7 * each[0], 1e-10);
  EXPECT_NEAR(jackknife_errors(60, 7, mean_of_kept)[0], 0.0364161195906, 1e-10);
}

TEST(Metrics, EstimateGivesMeanAndStandardError) {
  const Estimate e = estimate({1, 2, 3, 4});
  EXPECT_DOUBLE_EQ(e.mean, 2.5);
  EXPECT_NEAR(e.se.value(), std::sqrt(5.0 / 3 / 4), 1e-12);
}

TEST(Metrics, OneValueHasNeitherErrorNorInterval) {
  EXPECT_EQ(estimate({3.0}).mean, 3);
  EXPECT_FALSE(estimate({3.0}).se);
  EXPECT_FALSE(difference(estimate({3.0}), estimate({1, 2})).se);
  EXPECT_EQ(error_text(estimate({3.0}).se, 2), " (no error)");
  EXPECT_EQ(error_text(0.0314, 1, 100), " +- 3.1");
  EXPECT_THAT(message_of([] { bootstrap_interval({3.0}, 0); }),
              HasSubstr("expected at least two values"));
}

// The definitions over whole matrices, in more than one block of rows, of all images and without
// each group.
TEST(Metrics, KernelDistancesInBlocksEqualTheirDefinitionsWithoutEachGroupToo) {
  const Tensor a = random_double({1100, 6}, 1), b = random_double({700, 6}, 2) + 0.3;
  const RowGroups groups{at::arange(1100).remainder(7), at::arange(700).remainder(7), 7};
  const auto mmd = [](const Tensor& x, const Tensor& y) {
    const auto k = [](const Tensor& u, const Tensor& v) {
      return (u.matmul(v.t()) / 6 + 1).pow(3);
    };
    const auto within = [&](const Tensor& u) {
      const Tensor m = k(u, u);
      return ((m.sum() - m.diagonal().sum()) / static_cast<double>(u.size(0) * (u.size(0) - 1)))
          .item<double>();
    };
    return within(x) + within(y) - 2 * k(x, y).mean().item<double>();
  };
  const auto gaussian = [](const Tensor& x, const Tensor& y) {
    const auto unit = [](const Tensor& u) { return u / u.norm(2, 1, true); };
    const auto k = [&](const Tensor& u, const Tensor& v) {
      return (at::cdist(unit(u), unit(v)).square() / -200).exp().mean().item<double>();
    };
    return 1000 * (k(x, x) + k(y, y) - 2 * k(x, y));
  };
  const GroupedDistance kid = squared_mmd(a, b, groups), c = cmmd(a, b, groups);
  EXPECT_NEAR(kid.value, mmd(a, b), 1e-12);
  EXPECT_NEAR(squared_mmd(a, b), mmd(a, b), 1e-12);
  EXPECT_NEAR(
      c.value, gaussian(a, b),
      1e-9);  // a thousand times a difference of numbers near 1, and distances by way of cdist
  EXPECT_NEAR(cmmd(a, b), c.value, 1e-12 * 1000);
  ASSERT_EQ(kid.without.size(), 7u);
  for (int64_t g = 0; g < 7; ++g) {
    const auto kept = [g](const Tensor& x, const Tensor& of) {
      return x.index_select(0, at::nonzero(of != g).squeeze(1));
    };
    const Tensor ka = kept(a, groups.a), kb = kept(b, groups.b);
    EXPECT_NEAR(kid.without[static_cast<size_t>(g)], mmd(ka, kb), 1e-12);
    EXPECT_NEAR(c.without[static_cast<size_t>(g)], cmmd(ka, kb), 1e-12 * 1000);
  }
  EXPECT_NEAR(jackknife_error(kid.without),
              jackknife_errors(7, 7,
                               [&](const std::vector<bool>& keep) {
                                 std::vector<double> v;
                                 for (size_t g = 0; g < 7; ++g) {
                                   if (!keep[g]) v.push_back(kid.without[g]);
                                 }
                                 return v;
                               })[0],
              1e-15);
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
  const Tensor a = random_double({60, 5}, 1).matmul(random_double({5, 5}, 3)),
               b = random_double({40, 5}, 2) + 0.3;
  const auto root = [](const Tensor& s) {
    const auto [values, vectors] = at::linalg_eigh(s, "L");
    return vectors.matmul(at::diag(values.clamp_min(0).sqrt())).matmul(vectors.t());
  };
  const Tensor sa = at::cov(a.t()), sb = at::cov(b.t()), ra = root(sa);
  const Tensor middle = root(ra.matmul(sb).matmul(ra));
  const double want =
      ((a.mean(0) - b.mean(0)).square().sum() + sa.trace() + sb.trace() - 2 * middle.trace())
          .item<double>();
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

// Sets that share their prompts are not independent images, so the distance lies below zero: what
// the floor is for.
TEST(Metrics, KernelDistanceOfSetsWithTheSamePromptsLiesBelowZero) {
  const Tensor prompts = random_double({20, 8}, 1).repeat_interleave(16, 0);
  const Tensor a = prompts + 0.3 * random_double({320, 8}, 2),
               b = prompts + 0.3 * random_double({320, 8}, 3);
  EXPECT_LT(kernel_distance(a, b, 0).mean, 0);
  EXPECT_GT(kernel_distance(a, b + 0.5, 0).mean, kernel_distance(a, b, 0).mean);
}

TEST(Metrics, RefuseSetsTheyCannotCompare) {
  const Tensor a = random_double({6, 4}, 1);
  EXPECT_THAT(message_of([&] { frechet_distance(a, random_double({6, 5}, 2)); }),
              HasSubstr("[metrics] expected features (n, d) of one d and n > 1"));
  EXPECT_THAT(message_of([&] { squared_mmd(a, a.narrow(0, 0, 1)); }),
              HasSubstr("[metrics] expected features (n, d) of one d and n > 1"));
  EXPECT_THAT(message_of([&] { kernel_distance(a, a.narrow(0, 0, 3), 0); }),
              HasSubstr("at least four images a set"));
  EXPECT_THAT(message_of([&] { within_group_sd(at::ones({5}), 2); }),
              HasSubstr("expected groups of 2 values, got 5"));
  EXPECT_THAT(message_of([&] { precision_recall(a, a, /*k=*/6); }),
              HasSubstr("expected more than k = 6 images a set"));
  EXPECT_THAT(message_of([&] { cmmd(a, random_double({6, 5}, 2)); }),
              HasSubstr("[metrics] expected features (n, d) of one d"));
  EXPECT_THAT(message_of([] { vendi_score(at::ones({3})); }),
              HasSubstr("expected features (n, d) of n > 0"));
  EXPECT_THAT(message_of([] { bootstrap_interval({}, 0); }),
              HasSubstr("expected at least two values and one draw for an interval, got 0"));
  EXPECT_THAT(message_of([] {
                jackknife_errors(1, 20,
                                 [](const std::vector<bool>&) { return std::vector<double>{0}; });
              }),
              HasSubstr("at least two units"));
  EXPECT_THAT(message_of([] { estimate({}); }), HasSubstr("expected at least one value"));
}

TEST(Metrics, SmallHelpersCountWhatTheySay) {
  EXPECT_DOUBLE_EQ(saturated_share(at::tensor({0.0, 1.0, 0.5, 1.2})), 0.75);
  EXPECT_NEAR(within_group_sd(at::tensor({1.0, 3.0, 10.0, 12.0}), 2), std::sqrt(2.0), 1e-12);
  EXPECT_NEAR(within_group_sd(at::tensor({1.0, NAN, 3.0, 10.0, NAN, NAN}), 3), std::sqrt(2.0),
              1e-12)
      << "images without a score are left out";
}

}  // namespace
}  // namespace vggflow
