#include "vggflow/algorithms/reward_gradient.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "vggflow/algorithms/transitions.h"
#include "vggflow/core/error.h"
#include "vggflow/ops/row_norms.h"
#include "vggflow/ops/vjp.h"

namespace vggflow {
namespace {

// The bound on gradient norms that the options ask for, from the finite ones of the batch.
double clip_threshold(const RewardClipOptions& o, const Tensor& finite_norms,
                      const WholeBatch& whole) {
  switch (o.kind) {
    case ClipBound::kNorm:
      return o.norm;
    case ClipBound::kQuantile:
      if (whole.count(finite_norms.numel()) == 0) break;
      return whole.quantile(finite_norms, o.quantile);
    case ClipBound::kNone:
      break;
  }
  return std::numeric_limits<double>::infinity();
}

// w_p n / n_p; parts (P, M, ...) of gradients.
Tensor balanced(const Tensor& weights, const Tensor& parts, const WholeBatch& whole) {
  std::vector<Tensor> means;
  for (int64_t p = 0; p < parts.size(0); ++p) {
    const Tensor n = row_norms(parts[p]);
    means.push_back(whole.rows(n.index({at::isfinite(n)}).to(at::kDouble)).mean());
  }
  const Tensor n = at::stack(means), shown = n.cpu();
  VGGFLOW_CHECK(shown.gt(0).all().item<bool>(),
                "[reward_clip.balance] expected every reward to have a gradient in the batch, got "
                "mean norms {}: drop the "
                "reward that has none, or reward_clip.balance",
                fmt::join(std::vector<double>(shown.const_data_ptr<double>(),
                                              shown.const_data_ptr<double>() + n.numel()),
                          ", "));
  const Tensor size = weights.abs();
  return weights * ((size * n).sum() / size.sum()) / n;
}

// Per-part values (P, M) and gradients (P, M, ...) where they are asked apart, else the sum's
// gradient as one part.
struct Parts {
  Tensor values, gradients;
};

Parts part_gradients(AlignmentProblem& problem, const Tensor& weights, bool apart, const Tensor& x1,
                     const Tensor& rows, int64_t micro_batch) {
  if (x1.size(0) == 0) {  // a share may have none of the samples that are asked for
    std::vector<int64_t> shape = x1.sizes().vec();
    shape.insert(shape.begin(), apart ? weights.numel() : 1);
    return {at::empty({weights.numel(), 0}, x1.options()), at::empty(shape, x1.options())};
  }
  at::AutoGradMode on(true);
  std::vector<Tensor> values, gradients;
  in_parts(x1.size(0), micro_batch, [&](int64_t start, int64_t length) {
    const Tensor leaf = x1.narrow(0, start, length).detach().requires_grad_(true);
    const Tensor parts = problem.reward_parts(leaf, rows.narrow(0, start, length));
    std::vector<Tensor> of;
    if (apart) {
      for (int64_t p = 0; p < parts.size(0); ++p)
        of.push_back(torch::autograd::grad({parts[p].sum()}, {leaf}, {}, /*retain_graph=*/true)[0]);
    } else {
      of.push_back(torch::autograd::grad({(weights.to(parts.options()).unsqueeze(1) * parts).sum()},
                                         {leaf})[0]);
    }
    gradients.push_back(at::stack(of));
    values.push_back(parts.detach());
  });
  return {at::cat(values, 1), at::cat(gradients, 1)};
}

}  // namespace

Tensor reward_part(const EtaSchedule& schedule, const Tensor& t, const Tensor& gradient) {
  return -expand_time(eta(schedule, t), gradient) * gradient;
}

RewardGradients reward_gradients(AlignmentProblem& problem, const RewardClipOptions& clip,
                                 const Tensor& x1, const Tensor& rows, int64_t micro_batch,
                                 const WholeBatch& whole) {
  const Tensor given = at::tensor(problem.reward_weights(), x1.options().dtype(at::kDouble));
  const bool apart = clip.balance && given.numel() > 1;
  const Parts parts = part_gradients(problem, given, apart, x1, rows, micro_batch);
  RewardGradients out;
  out.reward = (given.to(parts.values.options()).unsqueeze(1) * parts.values).sum(0);
  out.weights = apart ? balanced(given, parts.gradients, whole) : given;
  const Tensor raw =
      apart ? at::tensordot(out.weights.to(parts.gradients.options()), parts.gradients, {0}, {0})
            : parts.gradients[0];
  const Tensor size = row_norms(raw);
  out.finite = at::isfinite(out.reward) & at::isfinite(size);
  out.threshold = clip_threshold(clip, size.index({out.finite}), whole);
  out.factor = at::where(out.finite, (out.threshold / size.clamp_min(1e-30)).clamp_max(1.0),
                         at::zeros_like(size))
                   .to(raw.scalar_type());
  out.gradient = at::where(expand_time(out.finite, raw), raw * expand_time(out.factor, raw),
                           at::zeros_like(raw));
  return out;
}

Tensor reward_values(AlignmentProblem& problem, const Tensor& x1) {
  at::NoGradGuard no_grad;
  return problem.reward(x1, row_numbers(x1.size(0), x1));
}

Tensor reward_hessian_product(AlignmentProblem& problem, const Tensor& weights, const Tensor& x1,
                              const Tensor& d, const Tensor& rows) {
  return gradient_of(
      [&](const Tensor& x) {
        const Tensor tangent = problem.reward_parts_tangent({x, d.detach()}, rows).tangent;
        return weights.to(tangent.options()).unsqueeze(1) * tangent;
      },
      x1);
}

Tensor transformed(const RewardTransformOptions& transform, const Tensor& reward) {
  switch (transform.kind) {
    case RewardTransform::kIdentity:
      break;
    case RewardTransform::kRelu:
      return reward.clamp_min(0);
    case RewardTransform::kReluBelow:
      return -(transform.top - reward).clamp_min(0);
  }
  return reward;
}

Tensor transform_slope(const RewardTransformOptions& transform, const Tensor& reward) {
  switch (transform.kind) {
    case RewardTransform::kIdentity:
      break;
    case RewardTransform::kRelu:
      return (reward > 0).to(reward.scalar_type());
    case RewardTransform::kReluBelow:
      return (reward < transform.top).to(reward.scalar_type());
  }
  return at::ones_like(reward);
}

}  // namespace vggflow
