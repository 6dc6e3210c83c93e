#include "vggflow/algorithms/whole_batch.h"

#include <ATen/ATen.h>

namespace vggflow {

Tensor WholeBatch::rows(const Tensor& own) const {
  if (!gather_) return own;
  const Stopwatch watch;
  const Tensor all = gather_(own);
  away_ += watch.seconds();
  return all;
}

double WholeBatch::sum(double own) const {
  return gather_ ? rows(at::full({1}, own, at::kDouble)).sum().item<double>() : own;
}

int64_t WholeBatch::count(int64_t own) const {
  return gather_ ? rows(at::full({1}, own, at::kLong)).sum().item<int64_t>() : own;
}

double WholeBatch::mean(const Tensor& own) const {
  if (!gather_) return own.mean().item<double>();
  const double total = own.sum(at::kDouble).item<double>();
  const Tensor all =
      rows(at::tensor({total, static_cast<double>(own.numel())}, at::kDouble).unsqueeze(0)).sum(0);
  return all[0].item<double>() / all[1].item<double>();
}

Tensor WholeBatch::quantiles(const Tensor& own, double q) const {
  return at::quantile(rows(own.to(at::kDouble)), q, /*dim=*/0);
}

double WholeBatch::quantile(const Tensor& own, double q) const {
  return quantiles(own, q).item<double>();
}

double PhaseWatch::lap() {
  const double away = whole_.seconds_away() - away_;
  away_ += away;
  return watch_.lap() - away;
}

}  // namespace vggflow
