#include "vggflow/algorithms/consistency.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "vggflow/algorithms/matching.h"
#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/core/error.h"
#include "vggflow/ops/vjp.h"

namespace vggflow {

namespace {

struct Call {
  AlignmentProblem& problem;
  const ConsistencyOptions& options;
  const EtaSchedule& schedule;
  double beta;
  const ValuePoints& p;
};

// v_base and [grad v_base]^T g; one forward pass where both are the same field.
struct BaseField {
  Tensor value, pull;
};
BaseField base_field(AlignmentProblem& problem, const States& s, const Tensor& g) {
  const auto [field, pull] = value_and_vjp(
      [&](const Tensor& x) { return problem.adjoint_base({x, s.t, s.rows}); }, s.x, g);
  return {problem.adjoint_is_base() ? field : base_value(problem, s), pull};
}

// The derivative of g without nu along (w, 1), x's and t's tangents.
Tensor guess_tangent(const Call& c, const Dual& x, const Dual& t) {
  if (c.p.drift.defined()) return c.p.drift;
  at::NoGradGuard no_grad;
  const States& s = c.p.states;
  const Dual v = c.problem.policy_tangent(x, t, s.rows);
  const Tensor late = 1 - expand_time(s.t, s.x);
  const Tensor dx1 = x.tangent - v.value + late * v.tangent;
  const Tensor hessian =
      reward_hessian_product(c.problem, c.p.reward_weights, s.x + late * v.value, dx1, s.rows);
  return -expand_time(eta_derivative(c.schedule, s.t), s.x) * c.p.reward_gradient -
         expand_time(eta(c.schedule, s.t) * c.p.clip_factor, s.x) * hessian;
}

Consistency exact(const Call& c) {
  const States& s = c.p.states;
  const BaseField base = base_field(c.problem, s, c.p.g);
  const Dual x{s.x, base.value - c.beta * c.p.g}, t{s.t, at::ones_like(s.t)};
  const Tensor constant = guess_tangent(c, x, t) + base.pull;
  return {c.problem.correction_tangent(x, t, s.rows).tangent + constant, base.value};
}

// The reward's parts at x1, each times its weight; (P, M).
Tensor weighted_parts(const Call& c, const Tensor& x1) {
  const Tensor parts = c.problem.reward_parts(x1, c.p.states.rows);
  return c.p.reward_weights.to(parts.options()).unsqueeze(1) * parts;
}

// c grad r at x1 = x + (1 - t) v for given v, without graph.
Tensor reward_gradient_at(const Call& c, const Tensor& x1) {
  return gradient_of([&](const Tensor& x) { return weighted_parts(c, x); }, x1) *
         expand_time(c.p.clip_factor, x1);
}

// g at shifted points, differentiable to phi: the reward's gradient with the velocity there, and
// nu.
Tensor value_gradient_at(const Call& c, const States& s) {
  const Tensor velocity = [&] {
    at::NoGradGuard no_grad;
    return c.problem.policy(s);
  }();
  const Tensor reward = reward_gradient_at(c, one_step_guess(s.x, s.t, velocity));
  return reward_part(c.schedule, s.t, reward) + c.problem.correction(s);
}

// A step along d that moves each sample by `size`, root mean square; (M).
Tensor step_length(const Tensor& d, double size) {
  return size / d.flatten(1).square().mean(1).sqrt().clamp_min(1e-30);
}

Consistency paper(const Call& c) {
  const States& s = c.p.states;
  const double e = c.options.fd_t;
  const Tensor base = base_value(c.problem, s), w = base - c.beta * c.p.g;
  const Tensor later = (s.t + e).clamp_max(1), earlier = (s.t - e).clamp_min(0);
  const Tensor in_time =
      (value_gradient_at(c, {s.x, later, s.rows}) - value_gradient_at(c, {s.x, earlier, s.rows})) /
      expand_time(later - earlier, s.x);
  const Tensor dw = step_length(w, c.options.fd_x), dg = step_length(c.p.g, c.options.fd_x);
  const Tensor move = expand_time(dw, s.x) * w, push = expand_time(dg, s.x) * c.p.g;
  const Tensor along = (value_gradient_at(c, {s.x + move, s.t, s.rows}) -
                        value_gradient_at(c, {s.x - move, s.t, s.rows})) /
                       (2 * expand_time(dw, s.x));
  const Tensor base_change = base_value(c.problem, {s.x + push, s.t, s.rows}) -
                             base_value(c.problem, {s.x - push, s.t, s.rows});
  return {in_time + along + base_change / (2 * expand_time(dg, s.x)), base};
}

// Paths of the gradient of r(x + (1 - t) v(x, t)) that the released code takes at its shifted
// points.
enum class Path { kNetwork, kBoth };
Tensor released_reward_gradient(const Call& c, const States& s, Path path) {
  const auto reward = [&](const Tensor& x) {
    return weighted_parts(c, one_step_guess(path == Path::kBoth ? x : s.x.detach(), s.t,
                                            c.problem.policy({x, s.t, s.rows})));
  };
  return gradient_of(reward, s.x) * expand_time(c.p.clip_factor, s.x);
}

Consistency release(const Call& c) {
  // The released code steps by kStep on its own clock, which counts 1000 from noise to data.
  constexpr double kStep = 1e-4, kReleasedClock = 1000;
  const States& s = c.p.states;
  const Tensor base = base_value(c.problem, s), w = base - c.beta * c.p.g;
  const auto g_at = [&](const States& at, Path path) {
    return reward_part(c.schedule, at.t, released_reward_gradient(c, at, path)) +
           c.problem.correction(at);
  };
  const Tensor g = reward_part(c.schedule, s.t, c.p.reward_gradient) + c.problem.correction(s);
  const States later{s.x, s.t + kStep / kReleasedClock, s.rows},
      moved{s.x + kStep * w, s.t, s.rows};
  const Tensor base_moved = c.problem.base({s.x + kStep * g, s.t, s.rows});
  return {(g_at(later, Path::kNetwork) - g) / kStep + (g_at(moved, Path::kBoth) - g) / kStep +
              (base_moved - base) / kStep,
          base};
}

Consistency step(const Call& c) {
  const States& s = c.p.states;
  const Tensor inside = expand_time((c.p.next.t < 1).to(s.x.scalar_type()), s.x);
  const Tensor later = c.p.next_guess + inside * c.problem.correction(c.p.next);
  const BaseField base = base_field(c.problem, s, later.detach());
  const Tensor h = expand_time(c.p.next.t - s.t, s.x);
  const Tensor here = c.p.guess + c.problem.correction(s);
  return {later - here + h * base.pull, base.value};
}

}  // namespace

Consistency consistency(AlignmentProblem& problem, const ConsistencyOptions& options,
                        const EtaSchedule& eta_schedule, double beta, const ValuePoints& points) {
  const Call call{problem, options, eta_schedule, beta, points};
  switch (options.kind) {
    case ConsistencyKind::kExact:
      return exact(call);
    case ConsistencyKind::kPaper:
      return paper(call);
    case ConsistencyKind::kRelease:
      return release(call);
    case ConsistencyKind::kStep:
      return step(call);
    case ConsistencyKind::kReturn:
    case ConsistencyKind::kOff:
      break;
  }
  fail("[consistency] expected an estimator of the residual, got {}", word_of(options.kind));
}

}  // namespace vggflow
