#include "vggflow/eval/metrics.h"

#include <ATen/ATen.h>

#include <cmath>

#include "vggflow/core/error.h"
#include "vggflow/ops/functional.h"

namespace vggflow {

Estimate estimate(const std::vector<double>& values) {
  VGGFLOW_CHECK(!values.empty(), "[metrics] expected at least one value, got none");
  const Tensor x = at::tensor(values, at::kDouble);
  const auto n = static_cast<double>(values.size());
  return {x.mean().item<double>(), n > 1 ? x.std().item<double>() / std::sqrt(n) : 0.0};
}

double diversity(const Tensor& features) {
  const auto n = static_cast<double>(features.size(0));
  VGGFLOW_CHECK(n >= 2, "[metrics] expected at least two images of a prompt, got {}", n);
  const Tensor e = ops::l2_normalize(features.to(at::kDouble));
  // sum_ij |e_i - e_j|^2 = 2 n^2 - 2 |sum_i e_i|^2 for unit vectors.
  return (n * n - e.sum(0).square().sum().item<double>()) / (n * (n - 1));
}

namespace {

void check_sets(const Tensor& a, const Tensor& b) {
  VGGFLOW_CHECK(a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(1) && a.size(0) > 1 && b.size(0) > 1,
                "[metrics] expected features (n, d) of one d and n > 1, got {} and {}", shape_string(a), shape_string(b));
}

}  // namespace

double frechet_distance(const Tensor& a, const Tensor& b) {
  check_sets(a, b);
  const auto centred = [](const Tensor& x) {
    const Tensor y = x.to(at::kDouble);
    return (y - y.mean(0, true)) / std::sqrt(static_cast<double>(y.size(0) - 1));
  };
  // A tall matrix may be replaced by its triangular factor: the product's singular values stay.
  const auto compact = [](const Tensor& x) { return x.size(0) > x.size(1) ? std::get<1>(at::linalg_qr(x, "r")) : x; };
  const Tensor xa = centred(a), xb = centred(b);
  const double cross = at::linalg_svdvals(compact(xa).matmul(compact(xb).t())).sum().item<double>();
  const double means = (a.to(at::kDouble).mean(0) - b.to(at::kDouble).mean(0)).square().sum().item<double>();
  return means + xa.square().sum().item<double>() + xb.square().sum().item<double>() - 2 * cross;
}

double squared_mmd(const Tensor& a, const Tensor& b) {
  check_sets(a, b);
  const auto kernel = [](const Tensor& x, const Tensor& y) { return (x.matmul(y.t()) / static_cast<double>(x.size(1)) + 1).pow(3); };
  const auto off_diagonal_mean = [](const Tensor& k) {
    const auto n = static_cast<double>(k.size(0));
    return (k.sum() - k.diagonal().sum()).item<double>() / (n * (n - 1));
  };
  return off_diagonal_mean(kernel(a, a)) + off_diagonal_mean(kernel(b, b)) - 2 * kernel(a, b).mean().item<double>();
}

Estimate kernel_distance(const Tensor& a, const Tensor& b, uint64_t seed, int64_t subsets, int64_t size) {
  const int64_t n = std::min({size, a.size(0) / 2, b.size(0) / 2});
  VGGFLOW_CHECK(n > 1, "[metrics] expected at least four images a set for KID, got {} and {}", a.size(0), b.size(0));
  const Tensor xa = a.to(at::kDouble), xb = b.to(at::kDouble);
  std::vector<double> values;
  for (int64_t s = 0; s < subsets; ++s) {
    const auto pick = [&](const Tensor& x, uint64_t which) {
      auto order = RandomStream({seed, Purpose::kMetric, which, static_cast<uint64_t>(s)}).permutation(x.size(0));
      order.resize(static_cast<size_t>(n));
      return x.index_select(0, at::tensor(order));
    };
    values.push_back(squared_mmd(pick(xa, 0), pick(xb, 1)));
  }
  return estimate(values);
}

double saturated_share(const Tensor& pixels) { return ((pixels <= 0) | (pixels >= 1)).to(at::kDouble).mean().item<double>(); }

double within_group_sd(const Tensor& values, int64_t size) {
  VGGFLOW_CHECK(size > 1 && values.numel() % size == 0, "[metrics] expected groups of {} values, got {} values", size, values.numel());
  return std::sqrt(values.to(at::kDouble).view({-1, size}).var(1).mean().item<double>());
}

}  // namespace vggflow
