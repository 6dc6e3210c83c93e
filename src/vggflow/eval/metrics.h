#pragma once
// Metrics over feature vectors, in double precision.

#include <vector>

#include "vggflow/core/random.h"
#include "vggflow/ops/dual.h"

namespace vggflow {

/// A mean and its standard error.
struct Estimate {
  double mean = 0, se = 0;
};

/// Mean of independent values (one a prompt) with its standard error; the error of one value is 0.
Estimate estimate(const std::vector<double>& values);

/// Feature variance of the images of one prompt (n, d): sum_ij |e_i - e_j|^2 / (2 n (n - 1)) over unit vectors e, which is one
/// minus the mean cosine of pairs (the DreamSim diversity of Domingo-Enrich et al. 2024, with other features). n >= 2.
double diversity(const Tensor& features);

/// |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) between the Gaussians of two sets (n1, d), (n2, d). tr (S1 S2)^(1/2) is the nuclear
/// norm of X1 X2^T / sqrt((n1-1)(n2-1)) with centred X, so no matrix root is taken and n < d is exact. Biased upwards for few
/// images: compare with the distance of two base sets of the same size.
double frechet_distance(const Tensor& a, const Tensor& b);

/// Unbiased squared MMD with the kernel (x.y/d + 1)^3 between sets of independent images (n1, d), (n2, d); n > 1.
double squared_mmd(const Tensor& a, const Tensor& b);

/// Kernel inception distance: mean of squared_mmd over `subsets` random subsets of at most `size` images and half a set. Its
/// standard error is over subsets, which overlap: it leaves out how the sets themselves would vary. Sets drawn from the same
/// prompts are not independent images: pairs of one prompt are rarer within a set than across, so that the distance of two base
/// sets lies below zero. Compare with that floor, not with zero.
Estimate kernel_distance(const Tensor& a, const Tensor& b, uint64_t seed, int64_t subsets = 20, int64_t size = 100);

/// Share of values at the ends of the pixel range.
double saturated_share(const Tensor& pixels);

/// Root of the mean variance of values within groups of `size` consecutive ones.
double within_group_sd(const Tensor& values, int64_t size);

}  // namespace vggflow
