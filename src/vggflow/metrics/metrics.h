#pragma once
// Metrics over feature vectors, in double precision.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vggflow/core/random.h"
#include "vggflow/ops/dual.h"

namespace vggflow {

/// A mean and its standard error; none where one value tells nothing of how far others lie.
struct Estimate {
  double mean = 0;
  std::optional<double> se;
  int64_t n = 0;  ///< values that it is the mean of; 0: it is no such mean
};

/// Mean of independent values (one per prompt) with its standard error; one value has none.
Estimate estimate(const std::vector<double>& values);

/// a - b of independent estimates.
Estimate difference(const Estimate& a, const Estimate& b);

/// " +- 0.014" with so many digits after the point, " (no error)" of none: what stands behind a
/// mean. `factor`: 100 for percent.
std::string error_text(const std::optional<double>& se, int digits, double factor = 1);

/// Ends of an interval.
struct Interval {
  double low = 0, high = 0;
};

/// Percentile bootstrap of the mean of independent values (one per prompt): the middle `level` of
/// the means of `resamples` draws with replacement, keyed by seed. At least two values: one has no
/// interval.
Interval bootstrap_interval(const std::vector<double>& values, uint64_t seed,
                            int64_t resamples = 2000, double level = 0.95);

/// The same of the difference of the means of two independent sets of values, both drawn anew.
Interval bootstrap_interval_of_difference(const std::vector<double>& a,
                                          const std::vector<double>& b, uint64_t seed,
                                          int64_t resamples = 2000, double level = 0.95);

/// Delete-a-group jackknife of statistics that are no means over prompts (Frechet distance,
/// recall): unit i of `units` is in group i mod G, G = min(units, groups), and se^2 = (G-1)/G sum_g
/// (f_g - mean f)^2 with f_g = f(all units but group g's). One error a value that f returns. Unlike
/// a bootstrap it shows no image twice, which these statistics would take for agreement. units
/// >= 2.
std::vector<double> jackknife_errors(
    int64_t units, int64_t groups,
    const std::function<std::vector<double>(const std::vector<bool>& kept)>& f);

/// The same from values that are there already: f without each group in turn.
double jackknife_error(const std::vector<double>& left_out);

/// The group, 0 to count - 1, of each image of two sets: (n1) and (n2), int64. Leaving one out
/// takes its images from both.
struct RowGroups {
  Tensor a, b;
  int64_t count = 1;
};

/// A distance between two sets, and the same without each group in turn.
struct GroupedDistance {
  double value = 0;
  std::vector<double> without;
};

/// Feature variance of the images of one prompt (n, d): sum_ij |e_i - e_j|^2 / (2 n (n - 1)) over
/// unit vectors e, which is one minus the mean cosine of pairs (the DreamSim diversity of
/// Domingo-Enrich et al. 2024, with other features). n >= 2.
double diversity(const Tensor& features);

/// |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) between the Gaussians of two sets (n1, d), (n2, d).
/// tr (S1 S2)^(1/2) is the nuclear norm of X1 X2^T / sqrt((n1-1)(n2-1)) with centred X, so no
/// matrix root is taken and n < d is exact. Biased upwards for few images: compare with the
/// distance of two base sets of the same size.
double frechet_distance(const Tensor& a, const Tensor& b);

/// Unbiased squared MMD with the kernel (x.y/d + 1)^3 between sets of independent images (n1, d),
/// (n2, d); n > 1.
double squared_mmd(const Tensor& a, const Tensor& b);
/// With all that a jackknife needs: one pass over the pairs in blocks, whose sums by groups are
/// kept; no n1 x n2 matrix is.
GroupedDistance squared_mmd(const Tensor& a, const Tensor& b, const RowGroups& groups);

/// Kernel inception distance: mean of squared_mmd over `subsets` random subsets of at most `size`
/// images and half a set. Its standard error is over subsets, which overlap: it leaves out how the
/// sets themselves would vary. Sets drawn from the same prompts are not independent images: pairs
/// of one prompt are rarer within a set than across, so that the distance of two base sets lies
/// below zero. Compare with that floor, not with zero.
Estimate kernel_distance(const Tensor& a, const Tensor& b, uint64_t seed, int64_t subsets = 20,
                         int64_t size = 100);

/// CMMD (Jayasumana et al. 2024): 1000 MMD^2 with the kernel exp(-|x-y|^2 / (2 sigma^2)) between
/// sets of unit vectors (rows are normalised), as published with the pairs of an image with itself,
/// hence biased upwards for few images. Meant for CLIP features.
double cmmd(const Tensor& a, const Tensor& b, double sigma = 10);
GroupedDistance cmmd(const Tensor& a, const Tensor& b, const RowGroups& groups, double sigma = 10);

/// Vendi score (Friedman & Dieng 2023) of features (n, d): exp of the entropy of the eigenvalues of
/// K / n, K the cosines of pairs. Between 1 (all images alike) and min(n, d): an effective number
/// of different images.
double vendi_score(const Tensor& features);

/// Improved precision and recall (Kynkaanniemi et al. 2019).
struct PrecisionRecall {
  double precision = 0;  ///< share of `images` within the reach of a reference image: distance to
                         ///< its k-th nearest neighbour of its own set
  double recall = 0;     ///< the same with the roles exchanged
};
PrecisionRecall precision_recall(const Tensor& images, const Tensor& reference, int64_t k = 3);

/// Share of values at the ends of the pixel range.
double saturated_share(const Tensor& pixels);

/// Root of the mean variance of values within groups of `size` consecutive ones; values that are
/// not a number are left out, and groups of fewer than two others.
double within_group_sd(const Tensor& values, int64_t size);

}  // namespace vggflow
