#include "vggflow/algorithms/vgg_flow.h"

#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <limits>

#include "vggflow/core/error.h"
#include "vggflow/flow/sampling.h"

namespace vggflow {
namespace {

using torch::autograd::AutoGradMode;

States slice(const States& s, int64_t start, int64_t length) {
  return {s.x.narrow(0, start, length), s.t.narrow(0, start, length), s.rows.narrow(0, start, length)};
}

// Norm of each transition over all its elements.
Tensor norms(const Tensor& x) { return at::linalg_vector_norm(x.flatten(1), 2, {1}); }

// The bound on gradient norms that the options ask for, from the finite ones of this batch.
double clip_threshold(const VggFlowOptions& o, const Tensor& finite_norms) {
  if (o.clip == "norm") return o.clip_norm;
  if (o.clip == "none" || finite_norms.numel() == 0) return std::numeric_limits<double>::infinity();
  return at::quantile(finite_norms.to(at::kDouble), o.clip_quantile).item<double>();
}

Tensor reward_gradient_at(AlignmentProblem& problem, const Tensor& x1, const Tensor& rows, Tensor& reward) {
  AutoGradMode on(true);
  const Tensor leaf = x1.detach().requires_grad_(true);
  const Tensor score = problem.reward(leaf, rows);
  reward = score.detach();
  return torch::autograd::grad({score.sum()}, {leaf})[0];
}

// H_r(x1) d: reverse mode through the tangent <grad r, d>.
Tensor reward_hessian_product(AlignmentProblem& problem, const Tensor& x1, const Tensor& d, const Tensor& rows) {
  AutoGradMode on(true);
  const Tensor leaf = x1.detach().requires_grad_(true);
  return torch::autograd::grad({problem.reward_tangent({leaf, d.detach()}, rows).tangent.sum()}, {leaf})[0];
}

// [grad v_base]^T g.
Tensor base_vector_jacobian(AlignmentProblem& problem, const States& s, const Tensor& g) {
  AutoGradMode on(true);
  const Tensor leaf = s.x.detach().requires_grad_(true);
  return torch::autograd::grad({problem.base({leaf, s.t, s.rows})}, {leaf}, {g.detach()})[0];
}

}  // namespace

std::vector<int64_t> draw_transitions(const VggFlowOptions& options, int64_t steps, RandomStream random) {
  VGGFLOW_CHECK(options.bins <= steps, "[vgg_flow] expected at most {} bins for {} steps, got {}", steps, steps, options.bins);
  std::vector<int64_t> picked;
  for (int64_t b = 0; b < options.bins; ++b) {
    const int64_t begin = b * steps / options.bins, end = (b + 1) * steps / options.bins;
    const int64_t k = begin + random.below(end - begin);
    picked.push_back(options.skip_first_step ? std::max<int64_t>(k, 1) : k);
  }
  if (options.force_last_step) picked.push_back(steps - 1);
  return picked;
}

Tensor eta(const VggFlowOptions& o, const Tensor& t) {
  return o.eta == "constant" ? at::ones_like(t) : o.eta == "linear" ? t : t * t;
}

Tensor eta_derivative(const VggFlowOptions& o, const Tensor& t) {
  return o.eta == "constant" ? at::zeros_like(t) : o.eta == "linear" ? at::ones_like(t) : 2 * t;
}

ValueGuess guess_value_gradients(AlignmentProblem& problem, const VggFlowOptions& options, const States& states, const Tensor& velocity,
                                 int64_t micro_batch) {
  ValueGuess guess{.velocity = velocity};
  std::vector<Tensor> rewards, gradients;
  for (int64_t start = 0; start < states.x.size(0); start += micro_batch) {
    const States s = slice(states, start, std::min(micro_batch, states.x.size(0) - start));
    Tensor reward;
    gradients.push_back(reward_gradient_at(problem, one_step_guess(s.x, s.t, velocity.narrow(0, start, s.x.size(0))), s.rows, reward));
    rewards.push_back(reward);
  }
  guess.reward = at::cat(rewards);
  const Tensor raw = at::cat(gradients), size = norms(raw);
  guess.finite = at::isfinite(guess.reward) & at::isfinite(size);
  guess.threshold = clip_threshold(options, size.index({guess.finite}));
  guess.clip_factor = at::where(guess.finite, (guess.threshold / size.clamp_min(1e-30)).clamp_max(1.0), at::zeros_like(size)).to(raw.scalar_type());
  guess.reward_gradient = at::where(expand_time(guess.finite, raw), raw * expand_time(guess.clip_factor, raw), at::zeros_like(raw));
  return guess;
}

Tensor value_gradient(AlignmentProblem& problem, const VggFlowOptions& options, const States& states, const Tensor& reward_gradient) {
  AutoGradMode off(false);
  const Tensor g = -expand_time(eta(options, states.t), states.x) * reward_gradient;
  return problem.has_correction() ? g + problem.correction(states) : g;
}

Tensor matching_loss(AlignmentProblem& problem, const VggFlowOptions& options, const States& states, const Tensor& g, double total) {
  const auto base = [&] {
    AutoGradMode off(false);
    return problem.base(states);
  }();
  const Tensor residual = problem.policy(states) - base + options.beta * g;
  return (residual * residual).sum() / total;
}

Tensor consistency_residual(AlignmentProblem& problem, const VggFlowOptions& options, const States& states, const Tensor& reward_gradient,
                            const Tensor& clip_factor) {
  const auto constant_part = [&](const Dual& x, const Dual& t, const Tensor& g) {
    AutoGradMode off(false);
    // d/ds of -eta(t) c grad r(x1_hat) along (w, 1).
    const Dual v = problem.policy_tangent(x, t, states.rows);
    const Tensor late = 1 - expand_time(states.t, states.x);
    const Tensor dx1 = x.tangent - v.value + late * v.tangent;
    const Tensor hessian = reward_hessian_product(problem, states.x + late * v.value, dx1, states.rows);
    const Tensor reward_part = -expand_time(eta_derivative(options, states.t), states.x) * reward_gradient -
                               expand_time(eta(options, states.t) * clip_factor, states.x) * hessian;
    return reward_part + base_vector_jacobian(problem, states, g);
  };
  const Tensor g = value_gradient(problem, options, states, reward_gradient);
  const auto direction = [&] {
    AutoGradMode off(false);
    return problem.base(states) - options.beta * g;
  }();
  const Dual x{states.x, direction}, t{states.t, at::ones_like(states.t)};
  const Tensor constant = constant_part(x, t, g);
  return problem.has_correction() ? constant + problem.correction_tangent(x, t, states.rows).tangent : constant;
}

Tensor boundary_residual(AlignmentProblem& problem, const Tensor& x1, const Tensor& rows) {
  return problem.correction({x1, at::ones({x1.size(0)}, x1.options()), rows});
}

}  // namespace vggflow
