#include "vggflow/algorithms/vgg_flow.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "vggflow/algorithms/matching.h"
#include "vggflow/core/log.h"

namespace vggflow {

Tensor value_gradient(AlignmentProblem& problem, Eta eta_schedule, const States& states,
                      const Tensor& reward_gradient) {
  at::NoGradGuard no_grad;
  const Tensor g = -expand_time(eta(eta_schedule, states.t), states.x) * reward_gradient;
  return problem.has_correction() ? g + problem.correction(states) : g;
}

Tensor boundary_residual(AlignmentProblem& problem, const Tensor& x1, const Tensor& rows) {
  return problem.correction({x1, at::ones({x1.size(0)}, x1.options()), rows});
}

namespace {

// Sums over the parts of one update, in fp64 beside the states: read once, at the end.
struct Sums {
  explicit Sums(const Tensor& like)
      : matching(at::zeros({}, like.options().dtype(at::kDouble))),
        consistency(at::zeros_like(matching)),
        energy(at::zeros_like(matching)) {}
  Tensor matching, consistency, energy;
};

// Accumulates theta's gradient, and phi's of the consistency loss, for some transitions of `total`
// elements in all.
void train_part(AlignmentProblem& problem, const VggFlowOptions& o, const ValuePoints& points,
                const Tensor& velocity, double total, Sums& sums) {
  Tensor base;
  if (problem.has_correction() && o.consistency.kind != ConsistencyKind::kOff) {
    const Consistency c = consistency(problem, o.consistency, o.eta, o.beta, points);
    const Tensor loss = c.residual.square().sum() / total;
    loss.backward();
    sums.consistency += loss.detach();
    base = c.base;
  } else {
    base = base_value(problem, points.states);
  }
  const Tensor loss =
      matching_loss(problem, points.states, velocity, base - o.beta * points.g, total);
  loss.backward();
  sums.matching += loss.detach();
  sums.energy += (o.beta * points.g).square().sum().to(at::kDouble) / total;
}

// A mean over the finite end points' elements, in parts.
double train_boundary(AlignmentProblem& problem, double alpha, const Tensor& x1,
                      int64_t micro_batch) {
  const Tensor ok = at::isfinite(x1).flatten(1).all(1).nonzero().flatten();
  const auto total = static_cast<double>(ok.numel() * x1[0].numel());
  Tensor sum = at::zeros({}, x1.options().dtype(at::kDouble));
  in_parts(ok.numel(), micro_batch, [&](int64_t start, int64_t length) {
    const Tensor rows = ok.narrow(0, start, length);
    const Tensor loss =
        boundary_residual(problem, x1.index_select(0, rows), rows).square().sum() / total;
    (alpha * loss).backward();
    sum += loss.detach();
  });
  return sum.item<double>();
}

}  // namespace

MethodTrials VggFlowOptions::trials() {
  return {.small = "bins=3",
          .variants = {{"paper", "consistency.kind=paper"},
                       {"release", "consistency.kind=release", 1e3},
                       {"off", "consistency.kind=off"},
                       {"no boundary", "boundary=false"}}};
}

void VggFlow::check(int64_t steps) const { check_transitions(options_.transitions, steps); }

MethodReport VggFlow::update(AlignmentProblem& problem, const UpdateInput& input) const {
  MethodReport report;
  Stopwatch watch;
  VggFlowOptions options = options_;
  options.beta *= input.beta_scale;
  const Trajectory trajectory = roll_out(problem, input);
  const Transitions all = draw(trajectory, options.transitions, input);
  report.seconds["rollout"] = watch.lap();

  const RewardGradients guess =
      reward_gradients(problem, clip_, one_step_guess(all.states.x, all.states.t, all.velocity),
                       all.states.rows, input.micro_batch);
  const Tensor keep = finite_rows(guess.finite, "vgg_flow");
  report.dropped = all.states.x.size(0) - keep.numel();
  report.rewards = reward_values(problem, trajectory.final_state());
  report.values["clip_threshold"] = guess.threshold;
  report.values["clip_share"] = (guess.factor < 1).to(at::kFloat).mean().item<double>();
  report.seconds["reward"] = watch.lap();

  Sums sums(all.states.x);
  const auto total =
      static_cast<double>(keep.numel() * (all.states.x.numel() / all.states.x.size(0)));
  in_parts(keep.numel(), input.micro_batch, [&](int64_t start, int64_t length) {
    const Tensor part = keep.narrow(0, start, length);
    const States states = select(all.states, part);
    const Tensor gradient = guess.gradient.index_select(0, part);
    const Tensor g = value_gradient(problem, options.eta, states, gradient);
    train_part(problem, options,
               {states, gradient, guess.factor.index_select(0, part), guess.weights, g},
               all.velocity.index_select(0, part), total, sums);
  });
  report.loss["matching"] = sums.matching.item<double>();
  report.values["control_energy"] = sums.energy.item<double>();
  report.seconds["train"] = watch.lap();
  if (!problem.has_correction()) return report;
  if (options.consistency.kind != ConsistencyKind::kOff)
    report.loss["consistency"] = sums.consistency.item<double>();
  if (options.boundary)
    report.loss["boundary"] =
        train_boundary(problem, options.alpha, trajectory.final_state(), input.micro_batch);
  report.seconds["boundary"] = watch.lap();
  return report;
}

Passes VggFlow::cost(const CostShape& s, const MethodReport&) const {
  const double m = s.batch * options_.transitions.count();
  Passes p{.f = s.batch * s.steps * s.rollout + m * (s.known + s.base), .b = m * s.known_graph};
  if (!s.value) return p;
  p.value_f = m;
  if (options_.boundary) {
    p.value_f += s.batch;
    p.value_b += s.batch;
  }
  switch (options_.consistency.kind) {
    case ConsistencyKind::kExact:
      p.f += m * (s.tangent + (s.adjoint_is_base ? 0 : s.adjoint));
      p.j += m * s.tangent;
      p.b += m * s.adjoint;
      p.value_f += m;
      p.value_j += m;
      p.value_b += 2 * m;
      break;
    case ConsistencyKind::kPaper:
      p.f += m * (4 * s.policy + 2 * s.base);
      p.value_f += 4 * m;
      p.value_b += 4 * m;
      break;
    case ConsistencyKind::kRelease:
      p.f += m * (2 * s.policy + s.base);
      p.b += m * (2 * s.policy_graph + s.base);
      p.value_f += 3 * m;
      p.value_b += 3 * m;
      break;
    case ConsistencyKind::kOff:
      break;
  }
  return p;
}

Demand VggFlow::demand(const CostShape& s) const {
  const double m = s.batch * options_.transitions.count();
  Demand want{.transitions = m, .reward_gradients = m};
  if (!s.value) return want;
  const auto moment = [&](Moment part) {
    part.name = "consistency";
    part.rows = m;
    want.moments.push_back(part);
  };
  switch (options_.consistency.kind) {
    case ConsistencyKind::kExact:
      want.hessian_products = m;
      moment({.base_graphs = s.adjoint});
      moment({.tangents = s.tangent});
      moment({.reward_graphs = 3});  // as pairs
      moment({.value_pairs = 1});
      break;
    case ConsistencyKind::kPaper:
      want.reward_gradients = 5 * m;
      moment({.value_graphs = 4, .forwards = s.policy});
      moment({.value_graphs = 4, .reward_graphs = 1});
      break;
    case ConsistencyKind::kRelease:
      want.reward_gradients = 3 * m;
      moment({.value_graphs = 3, .policy_graphs = s.policy_graph, .reward_graphs = 1});
      moment({.value_graphs = 3, .base_graphs = s.base});
      break;
    case ConsistencyKind::kOff:
      break;
  }
  if (options_.boundary)
    want.moments.push_back({.name = "boundary", .rows = s.batch, .value_graphs = 1});
  return want;
}

std::string VggFlow::cost_formula(const CostShape& s) const {
  CostShape one = s;
  one.batch = 1;
  one.steps = 0;
  const double m = options_.transitions.count();
  Passes p = cost(one, {});
  const double boundary = s.value && options_.boundary ? 1 : 0;
  const double tangents = (p.j + p.value_j) / m;
  return fmt::format("B N {}F + {} B ({}F{} + {}B){}", s.rollout, m,
                     (p.f + p.value_f - boundary) / m,
                     tangents > 0 ? fmt::format(" + {}J", tangents) : "",
                     (p.b + p.value_b - boundary) / m, boundary > 0 ? " + B (1F + 1B)" : "");
}

}  // namespace vggflow
