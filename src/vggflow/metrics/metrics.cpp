#include "vggflow/metrics/metrics.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "vggflow/core/error.h"
#include "vggflow/ops/functional.h"

namespace vggflow {

Estimate estimate(const std::vector<double>& values) {
  VGGFLOW_CHECK(!values.empty(), "[metrics] expected at least one value, got none");
  const Tensor x = at::tensor(values, at::kDouble);
  const auto n = static_cast<double>(values.size());
  return {x.mean().item<double>(),
          n > 1 ? std::optional(x.std().item<double>() / std::sqrt(n)) : std::nullopt,
          std::ssize(values)};
}

Estimate difference(const Estimate& a, const Estimate& b) {
  return {a.mean - b.mean, a.se && b.se ? std::optional(std::hypot(*a.se, *b.se)) : std::nullopt};
}

std::string error_text(const std::optional<double>& se, int digits, double factor) {
  return se ? fmt::format(" +- {:.{}f}", factor * *se, digits) : " (no error)";
}

namespace {

// Means of draws with replacement; `which` keeps the draws of two sets apart.
std::vector<double> resampled_means(const std::vector<double>& values, uint64_t seed,
                                    uint64_t which, int64_t resamples) {
  VGGFLOW_CHECK(
      values.size() > 1 && resamples > 0,
      "[metrics] expected at least two values and one draw for an interval, got {} and {}",
      values.size(), resamples);
  const auto n = static_cast<int64_t>(values.size());
  std::vector<double> means;
  for (int64_t r = 0; r < resamples; ++r) {
    RandomStream random({seed, Purpose::kMetric, which, static_cast<uint64_t>(r)});
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += values[static_cast<size_t>(random.below(n))];
    means.push_back(sum / static_cast<double>(n));
  }
  return means;
}

Interval middle(const std::vector<double>& means, double level) {
  VGGFLOW_CHECK(level > 0 && level < 1, "[metrics] expected a level within (0, 1), got {}", level);
  const Tensor ends = at::quantile(at::tensor(means, at::kDouble),
                                   at::tensor({(1 - level) / 2, (1 + level) / 2}, at::kDouble));
  return {ends[0].item<double>(), ends[1].item<double>()};
}

constexpr uint64_t kOwnDraws = 2, kOtherDraws = 3;  // 0 and 1 are KID's subsets

}  // namespace

Interval bootstrap_interval(const std::vector<double>& values, uint64_t seed, int64_t resamples,
                            double level) {
  return middle(resampled_means(values, seed, kOwnDraws, resamples), level);
}

Interval bootstrap_interval_of_difference(const std::vector<double>& a,
                                          const std::vector<double>& b, uint64_t seed,
                                          int64_t resamples, double level) {
  std::vector<double> changes = resampled_means(a, seed, kOwnDraws, resamples);
  const std::vector<double> others = resampled_means(b, seed, kOtherDraws, resamples);
  for (size_t i = 0; i < changes.size(); ++i) changes[i] -= others[i];
  return middle(changes, level);
}

std::vector<double> jackknife_errors(
    int64_t units, int64_t groups,
    const std::function<std::vector<double>(const std::vector<bool>&)>& f) {
  const int64_t count = std::min(units, groups);
  VGGFLOW_CHECK(count >= 2,
                "[metrics] expected at least two units and groups for a jackknife, got {} and {}",
                units, groups);
  std::vector<std::vector<double>> left_out;
  for (int64_t g = 0; g < count; ++g) {
    std::vector<bool> kept(static_cast<size_t>(units));
    for (int64_t i = 0; i < units; ++i) kept[static_cast<size_t>(i)] = i % count != g;
    left_out.push_back(f(kept));
  }
  std::vector<double> errors;
  for (size_t v = 0; v < left_out.front().size(); ++v) {
    std::vector<double> values;
    for (const auto& all : left_out) values.push_back(all[v]);
    errors.push_back(jackknife_error(values));
  }
  return errors;
}

double jackknife_error(const std::vector<double>& left_out) {
  VGGFLOW_CHECK(left_out.size() > 1,
                "[metrics] expected values without each of two groups at least, got {}",
                left_out.size());
  return estimate(left_out).se.value() *
         static_cast<double>(left_out.size() - 1);  // (G-1)/G sum (f_g - mean)^2 = (G-1)^2 var / G
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
  VGGFLOW_CHECK(
      a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(1) && a.size(0) > 1 && b.size(0) > 1,
      "[metrics] expected features (n, d) of one d and n > 1, got {} and {}", shape_string(a),
      shape_string(b));
}

}  // namespace

double frechet_distance(const Tensor& a, const Tensor& b) {
  check_sets(a, b);
  const auto centred = [](const Tensor& x) {
    const Tensor y = x.to(at::kDouble);
    return (y - y.mean(0, true)) / std::sqrt(static_cast<double>(y.size(0) - 1));
  };
  // A tall matrix may be replaced by its triangular factor: the product's singular values stay.
  const auto compact = [](const Tensor& x) {
    return x.size(0) > x.size(1) ? std::get<1>(at::linalg_qr(x, "r")) : x;
  };
  const Tensor xa = centred(a), xb = centred(b);
  const double cross = at::linalg_svdvals(compact(xa).matmul(compact(xb).t())).sum().item<double>();
  const double means =
      (a.to(at::kDouble).mean(0) - b.to(at::kDouble).mean(0)).square().sum().item<double>();
  return means + xa.square().sum().item<double>() + xb.square().sum().item<double>() - 2 * cross;
}

namespace {

constexpr int64_t kBlock = 1024;  // 8 MB of pairs at a time

// Sums of kernel(x . y) over the pairs of rows of x (n1, d) and y (n2, d), by their groups: (G, G).
template <class Kernel>
Tensor pair_sums(const Tensor& x, const Tensor& y, const Tensor& groups_x, const Tensor& groups_y,
                 int64_t count, const Kernel& kernel) {
  const bool same = x.is_same(y);  // then the blocks below the diagonal are those above it
  const auto members = [count](const Tensor& groups) {
    return at::one_hot(groups, count).to(at::kDouble);
  };
  const auto x_parts = x.split(kBlock), y_parts = y.split(kBlock), gx = groups_x.split(kBlock),
             gy = groups_y.split(kBlock);
  Tensor sums = at::zeros({count, count}, at::kDouble);
  for (size_t i = 0; i < x_parts.size(); ++i) {
    for (size_t j = same ? i : 0; j < y_parts.size(); ++j) {
      const Tensor block = members(gx[i])
                               .t()
                               .matmul(kernel(x_parts[i].matmul(y_parts[j].t())))
                               .matmul(members(gy[j]));
      sums += same && j > i ? block + block.t() : block;
    }
  }
  return sums;
}

Tensor sizes_of(const Tensor& groups, int64_t count) {
  return at::bincount(groups, {}, count).to(at::kDouble);
}

// The sum of a (G, G) table, and its sums without each group's row and column.
std::vector<double> sums_without(const Tensor& table) {
  const Tensor left = table.sum() - table.sum(0) - table.sum(1) + table.diagonal();
  std::vector<double> all{table.sum().item<double>()};
  for (int64_t g = 0; g < left.numel(); ++g) all.push_back(left[g].item<double>());
  return all;
}

// mean k(a, a) + mean k(b, b) - 2 mean k(a, b) of all images and without each group; `own`: whether
// pairs of an image with itself count.
template <class Kernel>
GroupedDistance grouped_mmd(const Tensor& x, const Tensor& y, const RowGroups& groups, bool own,
                            const Kernel& kernel) {
  VGGFLOW_CHECK(groups.a.numel() == x.size(0) && groups.b.numel() == y.size(0),
                "[metrics] expected a group an image, got {} and {} of {} and {} images",
                groups.a.numel(), groups.b.numel(), x.size(0), y.size(0));
  const auto within = [&](const Tensor& z, const Tensor& g) {
    Tensor sums = pair_sums(z, z, g, g, groups.count, kernel);
    if (!own)
      sums.diagonal().sub_(
          at::zeros({groups.count}, at::kDouble).index_add_(0, g, kernel(z.square().sum(1))));
    return sums_without(sums);
  };
  const Tensor na = sizes_of(groups.a, groups.count), nb = sizes_of(groups.b, groups.count);
  const std::vector<double> aa = within(x, groups.a), bb = within(y, groups.b);
  const std::vector<double> ab =
      sums_without(pair_sums(x, y, groups.a, groups.b, groups.count, kernel));
  GroupedDistance out;
  for (size_t i = 0; i < ab.size(); ++i) {
    const auto left = [&](const Tensor& sizes) {
      return sizes.sum().item<double>() -
             (i == 0 ? 0.0 : sizes[static_cast<int64_t>(i) - 1].item<double>());
    };
    const double n = left(na), m = left(nb), self = own ? 0 : 1;
    const double value = aa[i] / (n * (n - self)) + bb[i] / (m * (m - self)) - 2 * ab[i] / (n * m);
    if (i == 0)
      out.value = value;
    else
      out.without.push_back(value);
  }
  return out;
}

RowGroups one_group(const Tensor& a, const Tensor& b) {
  return {at::zeros({a.size(0)}, at::kLong), at::zeros({b.size(0)}, at::kLong), 1};
}

}  // namespace

GroupedDistance squared_mmd(const Tensor& a, const Tensor& b, const RowGroups& groups) {
  check_sets(a, b);
  const auto d = static_cast<double>(a.size(1));
  return grouped_mmd(a.to(at::kDouble), b.to(at::kDouble), groups, /*own=*/false,
                     [d](const Tensor& dot) { return (dot / d + 1).pow(3); });
}

double squared_mmd(const Tensor& a, const Tensor& b) {
  check_sets(a, b);
  return squared_mmd(a, b, one_group(a, b)).value;
}

Estimate kernel_distance(const Tensor& a, const Tensor& b, uint64_t seed, int64_t subsets,
                         int64_t size) {
  const int64_t n = std::min({size, a.size(0) / 2, b.size(0) / 2});
  VGGFLOW_CHECK(n > 1, "[metrics] expected at least four images a set for KID, got {} and {}",
                a.size(0), b.size(0));
  const Tensor xa = a.to(at::kDouble), xb = b.to(at::kDouble);
  std::vector<double> values;
  for (int64_t s = 0; s < subsets; ++s) {
    const auto pick = [&](const Tensor& x, uint64_t which) {
      auto order = RandomStream({seed, Purpose::kMetric, which, static_cast<uint64_t>(s)})
                       .permutation(x.size(0));
      order.resize(static_cast<size_t>(n));
      return x.index_select(0, at::tensor(order));
    };
    values.push_back(squared_mmd(pick(xa, 0), pick(xb, 1)));
  }
  return estimate(values);
}

GroupedDistance cmmd(const Tensor& a, const Tensor& b, const RowGroups& groups, double sigma) {
  check_sets(a, b);
  const Tensor x = ops::l2_normalize(a.to(at::kDouble)), y = ops::l2_normalize(b.to(at::kDouble));
  // |x - y|^2 = 2 - 2 x.y of unit vectors.
  GroupedDistance d = grouped_mmd(x, y, groups, /*own=*/true, [sigma](const Tensor& dot) {
    return ((dot - 1) / (sigma * sigma)).exp();
  });
  d.value *= 1000;
  for (double& v : d.without) v *= 1000;
  return d;
}

double cmmd(const Tensor& a, const Tensor& b, double sigma) {
  check_sets(a, b);
  return cmmd(a, b, one_group(a, b), sigma).value;
}

double vendi_score(const Tensor& features) {
  VGGFLOW_CHECK(features.dim() == 2 && features.size(0) > 0,
                "[metrics] expected features (n, d) of n > 0, got {}", shape_string(features));
  const Tensor e = ops::l2_normalize(features.to(at::kDouble));
  // X X^T and X^T X share their eigenvalues but for zeros: take the smaller.
  const Tensor gram = e.size(0) < e.size(1) ? e.matmul(e.t()) : e.t().matmul(e);
  const Tensor p = (at::linalg_eigvalsh(gram) / static_cast<double>(e.size(0))).clamp_min(0);
  return std::exp(-at::xlogy(p, p).sum().item<double>());
}

namespace {

// Distance of each row to its k-th nearest other row.
Tensor reach(const Tensor& x, int64_t k) {
  std::vector<Tensor> parts;
  for (const Tensor& rows : x.split(1024))
    parts.push_back(
        std::get<0>(at::kthvalue(at::cdist(rows, x), k + 1, 1)));  // the nearest is itself
  return at::cat(parts);
}

double covered_share(const Tensor& x, const Tensor& centres, const Tensor& radii) {
  int64_t covered = 0;
  for (const Tensor& rows : x.split(1024))
    covered += (at::cdist(rows, centres) <= radii).any(1).sum().item<int64_t>();
  return static_cast<double>(covered) / static_cast<double>(x.size(0));
}

}  // namespace

PrecisionRecall precision_recall(const Tensor& images, const Tensor& reference, int64_t k) {
  check_sets(images, reference);
  VGGFLOW_CHECK(
      k > 0 && images.size(0) > k && reference.size(0) > k,
      "[metrics] expected more than k = {} images a set for precision and recall, got {} and {}", k,
      images.size(0), reference.size(0));
  const Tensor a = images.to(at::kDouble), b = reference.to(at::kDouble);
  return {covered_share(a, b, reach(b, k)), covered_share(b, a, reach(a, k))};
}

double saturated_share(const Tensor& pixels) {
  return ((pixels <= 0) | (pixels >= 1)).to(at::kDouble).mean().item<double>();
}

double within_group_sd(const Tensor& values, int64_t size) {
  VGGFLOW_CHECK(size > 1 && values.numel() % size == 0,
                "[metrics] expected groups of {} values, got {} values", size, values.numel());
  const Tensor groups = values.to(at::kDouble).view({-1, size}),
               known = groups.isnan().logical_not();
  const Tensor n = known.sum(1, /*keepdim=*/true), mean = groups.nansum(1, /*keepdim=*/true) / n;
  const Tensor variance = at::square(groups - mean).nansum(1, /*keepdim=*/true) / (n - 1);
  return std::sqrt(variance.masked_select(n > 1).mean().item<double>());
}

}  // namespace vggflow
