#include "vggflow/algorithms/adjoint_matching.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "vggflow/algorithms/adjoint.h"
#include "vggflow/algorithms/matching.h"
#include "vggflow/ops/random_tensor.h"

namespace vggflow {
namespace {

// States to train on, with everything that the loss needs besides theta's graph.
struct Terms {
  States states;
  Tensor velocity, adjoint, sigma;
  Tensor difference;  // v_theta - v_base as the rollout carried it, or
  Tensor base;        // v_base
  // (2/sigma) (v - v_base) + sigma a.
  Tensor residual(const Tensor& v_less_base, int64_t start, int64_t length) const {
    const Tensor scale = expand_time(sigma.narrow(0, start, length), v_less_base);
    return v_less_base * (2 / scale) + scale * adjoint.narrow(0, start, length);
  }
  Tensor known() const { return difference.defined() ? difference : velocity - base; }
  // v_theta - v_base with gradient to theta.
  Tensor trained(AlignmentProblem& problem, int64_t start, int64_t length) const {
    const auto part = [&](const Tensor& x) { return x.narrow(0, start, length); };
    const States at = slice(states, start, length);
    return difference.defined() ? problem.difference_known(at, part(difference))
                                : problem.policy_known(at, part(velocity)) - part(base);
  }
};

Terms terms_of(AlignmentProblem& problem, const MemorylessPath& path,
               const std::vector<Tensor>& adjoints, const Tensor& rows,
               const std::vector<int64_t>& steps, int64_t micro_batch) {
  const auto& times = path.trajectory.times;
  std::vector<Tensor> x, v, a, t, s, r, d, base;
  for (const int64_t k : steps) {
    const auto at = static_cast<size_t>(k);
    const Tensor state = path.trajectory.states[at].index_select(0, rows);
    x.push_back(state);
    v.push_back(path.velocities[at].index_select(0, rows));
    if (path.differences[at].defined()) d.push_back(path.differences[at].index_select(0, rows));
    a.push_back(adjoints[at]);
    t.push_back(at::full({rows.numel()}, times[at], state.options()));
    s.push_back(at::full({rows.numel()}, memoryless_sigma(times[at], times[at + 1] - times[at]),
                         state.options()));
    r.push_back(rows);
  }
  Terms out{{at::cat(x), at::cat(t), at::cat(r)}, at::cat(v), at::cat(a), at::cat(s), {}, {}};
  if (!d.empty()) {
    out.difference = at::cat(d);
    return out;
  }
  in_parts(out.states.x.size(0), micro_batch, [&](int64_t start, int64_t length) {
    base.push_back(base_value(problem, slice(out.states, start, length)));
  });
  out.base = joined(base, out.states.x);
  return out;
}

Tensor squared(const Tensor& residual) { return residual.square().flatten(1).sum(1); }

std::vector<double> numbers_of(const Tensor& x) {
  const Tensor here = x.cpu().contiguous();
  return {here.const_data_ptr<double>(), here.const_data_ptr<double>() + here.numel()};
}

// Each step's share of the loss, of the terms (samples, steps).
std::vector<double> shares(const Tensor& terms, const WholeBatch& whole) {
  const Tensor by_step = whole.rows(terms.sum(0, /*keepdim=*/true)).sum(0);
  return numbers_of(by_step / by_step.sum().clamp_min(1e-300));
}

// The bounds (steps) of the terms (samples, steps).
Tensor clip_bounds(const AdjointMatchingOptions& o, double lambda, const Tensor& terms,
                   const WholeBatch& whole) {
  const auto of_all = [&](double bound) {
    return at::full({terms.size(1)}, bound, terms.options());
  };
  switch (o.clip) {
    case TermClip::kConstant:
      return of_all(o.clip_constant * lambda * lambda);
    case TermClip::kNone:
      return of_all(std::numeric_limits<double>::infinity());
    case TermClip::kQuantile:
      break;
  }
  return whole.quantiles(terms, o.clip_quantile);
}

}  // namespace

double memoryless_sigma(double t, double h) { return std::sqrt(2 * (1 - t + h) / (t + h)); }

std::vector<int64_t> draw_steps(const AdjointMatchingOptions& o, int64_t steps,
                                RandomStream random) {
  const auto share = [&](double s) {
    return static_cast<int64_t>(std::llround(s * static_cast<double>(steps)));
  };
  const int64_t tail = std::clamp<int64_t>(share(o.tail), 0, steps), rest = steps - tail;
  std::vector<int64_t> picked = random.permutation(rest);
  picked.resize(static_cast<size_t>(std::min(rest, share(o.early))));
  for (int64_t k = rest; k < steps; ++k) picked.push_back(k);
  if (picked.empty()) picked.push_back(steps - 1);
  std::sort(picked.begin(), picked.end());
  return picked;
}

MemorylessPath roll_out_memoryless(AlignmentProblem& problem, const UpdateInput& input,
                                   const std::vector<int64_t>& steps) {
  at::NoGradGuard no_grad;
  MemorylessPath path{{input.times, {input.x0}}, {}, {}};
  const size_t n = input.times.size() - 1;
  const int64_t batch = input.x0.size(0);
  std::vector<int64_t> shape = input.x0.sizes().slice(1).vec();
  shape.insert(shape.begin(), static_cast<int64_t>(n));
  const Tensor noise =
      keyed_normal(input.seed, Purpose::kPathNoise, input.update, input.first_sample, batch, shape)
          .to(input.x0.options());
  for (size_t k = 0; k < n; ++k) {
    const Tensor& x = path.trajectory.states.back();
    const double t = input.times[k], h = input.times[k + 1] - t;
    const Tensor time = at::full({batch}, t, x.options());
    const States here{x, time, row_numbers(batch, x)};
    const bool trained = problem.has_difference() &&
                         std::binary_search(steps.begin(), steps.end(), static_cast<int64_t>(k));
    const VelocityDifference v = trained
                                     ? rollout_difference(problem, here)
                                     : VelocityDifference{problem.rollout_velocity(x, time), {}};
    path.velocities.push_back(v.velocity);
    path.differences.push_back(v.difference);
    path.trajectory.states.push_back(k + 1 == n
                                         ? x + h * problem.base(here)
                                         : x + h * (2 * path.velocities.back() - x / (t + h)) +
                                               std::sqrt(h) * memoryless_sigma(t, h) *
                                                   noise.select(1, static_cast<int64_t>(k)));
  }
  return path;
}

MethodTrials AdjointMatchingOptions::trials() { return {.small = "clip=none"}; }

MethodReport AdjointMatching::update(AlignmentProblem& problem, const UpdateInput& input) const {
  MethodReport report;
  const WholeBatch& whole = input.whole;
  PhaseWatch watch(whole);
  const double lambda = lambda_of(options_.lambda, options_.lambda_unit, input);
  const auto steps =
      draw_steps(options_, static_cast<int64_t>(input.times.size()) - 1, whole_update(input));
  const MemorylessPath path = roll_out_memoryless(problem, input, steps);
  report.seconds["rollout"] = watch.lap();

  const Tensor all_rows = row_numbers(input.x0.size(0), input.x0);
  const RewardGradients end = reward_gradients(problem, clip_, path.trajectory.final_state(),
                                               all_rows, input.micro_batch, whole);
  const Tensor rows = finite_rows(end.finite, "adjoint_matching", whole);
  report.rewards = whole.rows(end.reward);
  report.dropped = whole.count(all_rows.numel() - rows.numel());
  report.values["clip_threshold"] = end.threshold;
  report.seconds["reward"] = watch.lap();

  const StepPullBack step = [&](const States& s, double h, const Tensor& a) {
    return a + h * (2 * base_pull_back(problem, s, a) - a / (s.t[0].to(at::kDouble) + h));
  };
  const auto adjoints = sweep(path.trajectory, rows, -lambda * end.gradient.index_select(0, rows),
                              input.micro_batch, step);
  report.series["adjoint_norm"] = mean_norms(adjoints, whole);
  report.seconds["adjoint"] = watch.lap();

  const Terms terms = terms_of(problem, path, adjoints, rows, steps, input.micro_batch);
  const int64_t count = terms.states.x.size(0);
  const Tensor sizes = squared(terms.residual(terms.known(), 0, count))
                           .to(at::kDouble)
                           .view({std::ssize(steps), rows.numel()})
                           .t();
  const Tensor bounds = clip_bounds(options_, lambda, sizes, whole), above = sizes > bounds,
               is_above = above.t().flatten(),
               bound_of = bounds.repeat_interleave(rows.numel()).to(terms.states.x.options());
  const auto total = whole.sum(static_cast<double>(terms.states.x.numel()));
  Tensor loss = at::zeros({}, terms.states.x.options().dtype(at::kDouble));
  in_parts(count, input.micro_batch, [&](int64_t start, int64_t length) {
    const Tensor difference = terms.trained(problem, start, length);
    const Tensor part =
        at::where(is_above.narrow(0, start, length), bound_of.narrow(0, start, length),
                  squared(terms.residual(difference, start, length)))
            .sum() /
        total;
    part.backward();
    loss += part.detach();
  });
  report.series["loss_share"] = shares(sizes, whole);
  report.series["term_bound"] = numbers_of(bounds);
  const Tensor clipped = whole.rows(above.to(at::kDouble));
  report.series["terms_above"] = numbers_of(clipped.mean(0));
  report.values["terms_above"] = clipped.mean().item<double>();
  report.loss["matching"] = whole.sum(loss.item<double>());
  report.seconds["train"] = watch.lap();
  return report;
}

int64_t trained_steps(const AdjointMatchingOptions& o, int64_t steps) {
  return std::ssize(draw_steps(o, steps, RandomStream({})));
}

Passes AdjointMatching::cost(const CostShape& s, const MethodReport&) const {
  const double m =
      s.batch * static_cast<double>(trained_steps(options_, static_cast<int64_t>(s.steps)));
  return {.f = s.batch * (s.steps * (s.rollout + s.adjoint) + s.base) + m * (s.known + s.reference),
          .b = s.batch * s.steps * s.adjoint + m * s.known_graph};
}

Demand AdjointMatching::demand(const CostShape& s) const {
  const auto steps = static_cast<int64_t>(s.steps);
  return {.transitions = s.batch * static_cast<double>(trained_steps(options_, steps)),
          .reward_gradients = s.batch,
          .adjoint = true};
}

std::string AdjointMatching::cost_formula(const CostShape& s) const {
  return fmt::format("B (N {}F + {}F) + B N ({}F + {}B) + {} B ({}F + {}B)", s.rollout, s.base,
                     s.adjoint, s.adjoint, trained_steps(options_, static_cast<int64_t>(s.steps)),
                     s.known + s.reference, s.known_graph);
}

}  // namespace vggflow
