#include "vggflow/algorithms/coarse_adjoint.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "vggflow/algorithms/adjoint.h"
#include "vggflow/core/error.h"
#include "vggflow/ops/row_norms.h"
#include "vggflow/ops/vjp.h"

namespace vggflow {
namespace {

// a_k from a_{k'} and its denoised form D_k^T a_{k'}; share: l.
Tensor long_step(const Tensor& a, const Tensor& denoised, double share, double damping) {
  if (share >= 1) return denoised;
  const Tensor most =
      std::max(share, damping) * row_norms(a) / row_norms(denoised).clamp_min(1e-30);
  return (1 - share) * a + expand_time(most.clamp_max(share), a) * denoised;
}

// The step below `last` and not below `least` whose noise level is nearest, by its logarithm.
size_t nearest_step(const std::vector<double>& times, double noise_level, size_t least,
                    size_t last) {
  const auto away = [&](size_t k) { return std::abs(std::log((1 - times[k]) / noise_level)); };
  size_t best = last - 1;
  for (size_t k = last - 1; k > least; --k) {
    if (away(k - 1) < away(best)) best = k - 1;
  }
  return best;
}

}  // namespace

double pull_backs(const CoarseOptions& o, double steps) {
  return o.node_steps.empty() ? std::min(static_cast<double>(o.nodes), steps)
                              : static_cast<double>(o.node_steps.size());
}

void check_coarse(const CoarseOptions& o, int64_t steps) {
  VGGFLOW_CHECK(!o.node_steps.empty() || o.nodes <= steps,
                "[coarse] expected nodes of at most {} (the steps), got {}", steps, o.nodes);
  int64_t above = steps;
  for (const int64_t k : o.node_steps) {
    VGGFLOW_CHECK(k >= 0 && k < above,
                  "[coarse] expected node_steps that decrease, within 0 and {}, got {} where at "
                  "most {} may stand",
                  steps - 1, k, above - 1);
    above = k;
  }
}

std::vector<size_t> coarse_nodes(const CoarseOptions& o, const std::vector<double>& times) {
  constexpr double kFirst = 0.05, kPower = 1.5;
  const size_t steps = times.size() - 1;
  check_coarse(o, static_cast<int64_t>(steps));
  std::vector<size_t> nodes(o.node_steps.begin(), o.node_steps.end());
  if (!nodes.empty()) return nodes;
  const auto count = static_cast<size_t>(o.nodes);
  const auto m = static_cast<double>(count);
  size_t last = steps;
  for (size_t i = 0; i < count; ++i) {
    const double along = count > 1 ? static_cast<double>(i) / (m - 1) : 0.0;
    const double level = kFirst + ((m - 1) / (m + 3) - kFirst) * std::pow(along, kPower);
    last = nearest_step(times, level, count - 1 - i, last);
    nodes.push_back(last);
  }
  return nodes;
}

CoarseAdjoint coarse_adjoint(AlignmentProblem& problem, const Trajectory& trajectory,
                             const Tensor& rows, const Tensor& end, const CoarseOptions& options,
                             int64_t micro_batch) {
  const std::vector<double>& t = trajectory.times;
  CoarseAdjoint out;
  out.adjoints.resize(t.size());
  out.base.resize(t.size());
  auto& a = out.adjoints;
  size_t right = t.size() - 1;
  a[right] = end;
  for (const size_t k : coarse_nodes(options, t)) {
    std::vector<Tensor> base;
    const Tensor denoised = pull_back_step(
        trajectory, k, rows, a[right], micro_batch,
        [&](const States& s, double, const Tensor& cotangent) {
          const auto [value, pull] =
              value_and_vjp([&](const Tensor& x) { return problem.adjoint_base({x, s.t, s.rows}); },
                            s.x, cotangent);
          base.push_back(value);
          return cotangent + (1 - t[k]) * pull;
        });
    out.base[k] = at::cat(base);
    a[k] = long_step(a[right], denoised, (t[right] - t[k]) / (1 - t[k]), options.damping);
    for (size_t j = k + 1; j < right; ++j)
      a[j] = at::lerp(a[k], a[right], (t[j] - t[k]) / (t[right] - t[k]));
    right = k;
  }
  for (size_t j = 0; j < right; ++j) a[j] = a[right] * ((1 - t[right]) / (1 - t[j]));
  return out;
}

}  // namespace vggflow
