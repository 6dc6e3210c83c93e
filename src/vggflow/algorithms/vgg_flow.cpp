#include "vggflow/algorithms/vgg_flow.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "vggflow/algorithms/adjoint.h"
#include "vggflow/algorithms/gradient_probe.h"
#include "vggflow/algorithms/matching.h"
#include "vggflow/core/error.h"

namespace vggflow {

Tensor value_gradient(AlignmentProblem& problem, Eta eta_schedule, const States& states,
                      const Tensor& reward_gradient) {
  at::NoGradGuard no_grad;
  return corrected(problem, states, reward_part(eta_schedule, states.t, reward_gradient));
}

Tensor corrected(AlignmentProblem& problem, const States& states, const Tensor& guess) {
  at::NoGradGuard no_grad;
  return problem.has_correction() ? guess + problem.correction(states) : guess;
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

// The drawn transitions of finite rewards and gradients, and what g is there without nu.
struct Drawn {
  Transitions at;
  Tensor guess;        // (M, ...) detached
  RewardGradients of;  // of the one-step guesses, by transition; else of the end points, by sample
  Tensor gradient, factor;  // of the one-step guess: c grad r and c, by transition
  Tensor drift;             // else: the guess's derivative along the path
  Tensor base;          // v_base where it is known: with a coarse guess that needs no consistency
  int64_t dropped = 0;  // transitions
};

Drawn one_step(AlignmentProblem& problem, const VggFlowOptions& o, const RewardClipOptions& clip,
               const Rollout& trajectory, const UpdateInput& input) {
  const Transitions all = draw(trajectory, o.transitions, input);
  Drawn out;
  out.of = reward_gradients(problem, clip, one_step_guess(all.states.x, all.states.t, all.velocity),
                            all.states.rows, input.micro_batch, input.whole);
  const Tensor keep = finite_rows(out.of.finite, "vgg_flow", input.whole);
  out.at = choose(all, keep);
  out.gradient = out.of.gradient.index_select(0, keep);
  out.factor = out.of.factor.index_select(0, keep);
  out.guess = reward_part(o.eta, out.at.states.t, out.gradient);
  out.dropped = all.states.x.size(0) - keep.numel();
  return out;
}

// Rewards and gradients at the end points, and the transitions of the finite ones.
struct Ends {
  Drawn drawn;
  Tensor rows;  // whose reward and gradient are finite
};
Ends at_ends(AlignmentProblem& problem, const VggFlowOptions& o, const RewardClipOptions& clip,
             const Rollout& trajectory, const UpdateInput& input) {
  Ends out;
  const Tensor all_rows = row_numbers(input.x0.size(0), input.x0);
  out.drawn.of = reward_gradients(problem, clip, trajectory.final_state(), all_rows,
                                  input.micro_batch, input.whole);
  out.rows = finite_rows(out.drawn.of.finite, "vgg_flow", input.whole);
  const Transitions all = draw(trajectory, o.transitions, input);
  out.drawn.at = keep_rows(all, out.rows);
  out.drawn.dropped = all.states.x.size(0) - out.drawn.at.states.x.size(0);
  return out;
}

Drawn endpoint(AlignmentProblem& problem, const VggFlowOptions& o, const RewardClipOptions& clip,
               const Rollout& trajectory, const UpdateInput& input) {
  Drawn out = at_ends(problem, o, clip, trajectory, input).drawn;
  const States& s = out.at.states;
  const Tensor gradient = out.of.gradient.index_select(0, s.rows);
  out.guess = reward_part(o.eta, s.t, gradient);
  out.drift = -expand_time(eta_derivative(o.eta, s.t), s.x) * gradient;
  return out;
}

// v_base at the transitions: what the pull-backs found where they passed, by row of `rows` and
// step, and else a pass of its own. Counts the former.
Tensor shared_base(AlignmentProblem& problem, const std::vector<Tensor>& nodes,
                   const Transitions& at, const Tensor& rows, int64_t micro_batch,
                   int64_t& shared) {
  std::vector<int64_t> found, missing;
  for (size_t i = 0; i < at.steps.size(); ++i) {
    const bool known = nodes[static_cast<size_t>(at.steps[i])].defined();
    (known ? found : missing).push_back(static_cast<int64_t>(i));
  }
  Tensor out = at::empty_like(at.states.x);
  const auto places = [&](const std::vector<int64_t>& list) {
    return at::tensor(list, at::kLong).to(out.device());
  };
  shared = static_cast<int64_t>(found.size());
  if (!found.empty()) {
    std::vector<Tensor> later{Tensor()};  // gather() reads one step on
    later.insert(later.end(), nodes.begin(), nodes.end());
    const Tensor index = places(found);
    out.index_copy_(0, index, gather(later, choose(at, index), rows));
  }
  const Tensor index = places(missing);
  in_parts(index.numel(), micro_batch, [&](int64_t start, int64_t length) {
    const Tensor part = index.narrow(0, start, length);
    out.index_copy_(0, part, base_value(problem, select(at.states, part)));
  });
  return out;
}

Drawn coarse(AlignmentProblem& problem, const VggFlowOptions& o, const RewardClipOptions& clip,
             const Rollout& trajectory, const UpdateInput& input, bool share_base,
             MethodReport& report) {
  Ends ends = at_ends(problem, o, clip, trajectory, input);
  Drawn& out = ends.drawn;
  const CoarseAdjoint found =
      coarse_adjoint(problem, trajectory, ends.rows, -out.of.gradient.index_select(0, ends.rows),
                     o.coarse, input.micro_batch);
  const auto& a = found.adjoints;
  out.guess = gather(a, out.at, ends.rows);
  report.series["adjoint_norm"] = mean_norms(a, input.whole);
  if (problem.has_correction()) {
    std::vector<Tensor> slope(a.size());
    for (size_t k = 0; k + 1 < a.size(); ++k)
      slope[k + 1] = (a[k + 1] - a[k]) / (trajectory.times[k + 1] - trajectory.times[k]);
    out.drift = gather(slope, out.at, ends.rows);
  }
  int64_t shared = 0;
  if (share_base)
    out.base = shared_base(problem, found.base, out.at, ends.rows, input.micro_batch, shared);
  report.values["shared_base"] = input.whole.sum(static_cast<double>(shared));
  return out;
}

// `share_base`: where the pull-backs' forward passes give matching its v_base.
Drawn draw_guess(AlignmentProblem& problem, const VggFlowOptions& o, const RewardClipOptions& clip,
                 const Rollout& trajectory, const UpdateInput& input, bool share_base,
                 MethodReport& report) {
  switch (o.guess) {
    case Guess::kEndpoint:
      return endpoint(problem, o, clip, trajectory, input);
    case Guess::kCoarse:
      return coarse(problem, o, clip, trajectory, input, share_base, report);
    case Guess::kOneStep:
      break;
  }
  return one_step(problem, o, clip, trajectory, input);
}

// What is known of v_theta and v_base at transitions: v_theta, and v_theta - v_base or v_base or
// neither.
struct Known {
  Tensor velocity, difference, base;
};

// Accumulates theta's gradient, and phi's of the consistency loss, for some transitions of `total`
// elements in all.
void train_part(AlignmentProblem& problem, const VggFlowOptions& o, const ValuePoints& points,
                const Known& known, double total, Sums& sums) {
  Tensor base = known.base;
  if (problem.has_correction() && o.consistency.kind != ConsistencyKind::kOff) {
    const Consistency c = consistency(problem, o.consistency, o.eta, o.beta, points);
    const Tensor loss = c.residual.square().sum() / total;
    loss.backward();
    sums.consistency += loss.detach();
    base = c.base;
  } else if (!base.defined() && !known.difference.defined()) {
    base = base_value(problem, points.states);
  }
  const Tensor push = o.beta * points.g;
  const Tensor loss =
      known.difference.defined()
          ? difference_loss(problem, points.states, known.difference, push, total)
          : matching_loss(problem, points.states, known.velocity, base - push, total);
  loss.backward();
  sums.matching += loss.detach();
  sums.energy += (o.beta * points.g).square().sum().to(at::kDouble) / total;
}

// A mean over the finite end points' elements, in parts.
double train_boundary(AlignmentProblem& problem, double alpha, const Tensor& x1,
                      const UpdateInput& input) {
  const Tensor ok = at::isfinite(x1).flatten(1).all(1).nonzero().flatten();
  const double total = input.whole.sum(static_cast<double>(ok.numel() * x1[0].numel()));
  Tensor sum = at::zeros({}, x1.options().dtype(at::kDouble));
  in_parts(ok.numel(), input.micro_batch, [&](int64_t start, int64_t length) {
    const Tensor rows = ok.narrow(0, start, length);
    const Tensor loss =
        boundary_residual(problem, x1.index_select(0, rows), rows).square().sum() / total;
    (alpha * loss).backward();
    sum += loss.detach();
  });
  return input.whole.sum(sum.item<double>());
}

}  // namespace

MethodTrials VggFlowOptions::trials() {
  return {.small = "bins=3",
          .variants = {{"paper", "consistency.kind=paper"},
                       {"release", "consistency.kind=release", 1e3},
                       {"off", "consistency.kind=off"},
                       {"no boundary", "boundary=false"},
                       {"probed", "probe_every=1"},
                       {"endpoint", "guess=endpoint"},
                       {"coarse", "guess=coarse nodes=3"},
                       {"coarse, no consistency",
                        "guess=coarse nodes=4 consistency.kind=off force_last_step=true"}}};
}

void VggFlow::check(int64_t steps) const {
  check_transitions(options_.transitions, steps);
  if (options_.guess == Guess::kCoarse) check_coarse(options_.coarse, steps);
  const ConsistencyKind kind = options_.consistency.kind;
  VGGFLOW_CHECK(
      options_.guess == Guess::kOneStep || kind == ConsistencyKind::kExact ||
          kind == ConsistencyKind::kOff,
      "[vgg] expected consistency.kind=exact or off with guess={}, got {}: the other estimators "
      "differentiate the one-step guess",
      word_of(options_.guess), word_of(kind));
}

MethodReport VggFlow::update(AlignmentProblem& problem, const UpdateInput& input) const {
  MethodReport report;
  const WholeBatch& whole = input.whole;
  PhaseWatch watch(whole);
  VggFlowOptions options = options_;
  options.beta *= input.beta_scale;
  check(static_cast<int64_t>(input.times.size()) - 1);
  const Rollout trajectory = roll_out(problem, input, options.transitions);
  report.seconds["rollout"] = watch.lap();

  const bool share_base = problem.adjoint_is_base() && !problem.has_difference() &&
                          !takes_consistency(problem.has_correction());
  const Drawn drawn = draw_guess(problem, options, clip_, trajectory, input, share_base, report);
  report.dropped = whole.count(drawn.dropped);
  report.rewards =
      whole.rows(options.guess == Guess::kOneStep ? reward_values(problem, trajectory.final_state())
                                                  : drawn.of.reward);
  report.values["clip_threshold"] = drawn.of.threshold;
  report.values["clip_share"] = whole.mean((drawn.of.factor < 1).to(at::kFloat));
  report.seconds["reward"] = watch.lap();

  Sums sums(drawn.guess);
  const double total = whole.sum(static_cast<double>(drawn.guess.numel()));
  const bool probed =
      options.probe_every > 0 && input.update % static_cast<uint64_t>(options.probe_every) == 0;
  std::vector<Tensor> all_g;
  in_parts(drawn.guess.size(0), input.micro_batch, [&](int64_t start, int64_t length) {
    const auto part = [&](const Tensor& x) { return x.defined() ? x.narrow(0, start, length) : x; };
    const States states = slice(drawn.at.states, start, length);
    const Tensor g = corrected(problem, states, part(drawn.guess));
    if (probed) all_g.push_back(g);
    train_part(
        problem, options,
        {states, part(drawn.gradient), part(drawn.factor), drawn.of.weights, g, part(drawn.drift)},
        {part(drawn.at.velocity), part(drawn.at.difference), part(drawn.base)}, total, sums);
  });
  report.loss["matching"] = whole.sum(sums.matching.item<double>());
  report.values["control_energy"] = whole.sum(sums.energy.item<double>());
  report.seconds["train"] = watch.lap();
  if (probed) {
    probe(problem, clip_, trajectory, drawn.at, drawn.guess, joined(all_g, drawn.guess), input,
          report);
    report.seconds["probe"] = watch.lap();
  }
  if (!problem.has_correction()) return report;
  if (options.consistency.kind != ConsistencyKind::kOff)
    report.loss["consistency"] = whole.sum(sums.consistency.item<double>());
  if (options.boundary)
    report.loss["boundary"] =
        train_boundary(problem, options.alpha, trajectory.final_state(), input);
  report.seconds["boundary"] = watch.lap();
  return report;
}

Passes VggFlow::cost(const CostShape& s, const MethodReport& report) const {
  const double m = s.batch * options_.transitions.count();
  const auto shared = report.values.find("shared_base");
  const double own = m - (shared == report.values.end() ? 0 : shared->second);
  Passes p{.f = s.batch * s.steps * s.rollout + m * s.known, .b = m * s.known_graph};
  if (s.paired) p.f += m * s.reference;
  if (takes_consistency(s.value)) {
    p.f += m * s.base;
  } else if (!s.paired) {
    p.f += own * s.base;
  }
  if (options_.guess == Guess::kCoarse) {
    const double pulls = s.batch * pull_backs(options_.coarse, s.steps) * s.adjoint;
    p.f += pulls;
    p.b += pulls;
  }
  if (report.values.count("error_of_g") > 0) {
    const Passes probed = probe_passes(s);
    p.f += probed.f;
    p.b += probed.b;
  }
  if (s.value) add_value_passes(s, m, p);
  return p;
}

void VggFlow::add_value_passes(const CostShape& s, double m, Passes& p) const {
  const double tangent = options_.guess == Guess::kOneStep ? s.tangent : 0;
  p.value_f += m;
  if (options_.boundary) {
    p.value_f += s.batch;
    p.value_b += s.batch;
  }
  switch (options_.consistency.kind) {
    case ConsistencyKind::kExact:
      p.f += m * (tangent + (s.adjoint_is_base ? 0 : s.adjoint));
      p.j += m * tangent;
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
}

// A node is drawn with the chance that its bin gives each of its steps.
Passes VggFlow::mean_cost(const CostShape& s) const {
  MethodReport mean;
  if (options_.guess == Guess::kCoarse && s.adjoint_is_base && !s.paired &&
      !takes_consistency(s.value))
    mean.values["shared_base"] = s.batch * pull_backs(options_.coarse, s.steps) *
                                 static_cast<double>(options_.transitions.bins) / s.steps;
  Passes p = cost(s, mean);
  if (options_.probe_every > 0) {
    const Passes probed = probe_passes(s);
    p.f += probed.f / static_cast<double>(options_.probe_every);
    p.b += probed.b / static_cast<double>(options_.probe_every);
  }
  return p;
}

Demand VggFlow::demand(const CostShape& s) const {
  const double m = s.batch * options_.transitions.count();
  const bool along = options_.guess != Guess::kOneStep;  // known along the path alone
  Demand want{.transitions = m,
              .reward_gradients = along ? s.batch : m,
              .adjoint = options_.guess == Guess::kCoarse || options_.probe_every > 0};
  if (options_.probe_every > 0)
    want.reward_gradients += probed_rows(s.batch) / static_cast<double>(options_.probe_every);
  if (s.value) add_value_demand(s, m, want);
  return want;
}

void VggFlow::add_value_demand(const CostShape& s, double m, Demand& want) const {
  const auto moment = [&](Moment part) {
    part.name = "consistency";
    part.rows = m;
    want.moments.push_back(part);
  };
  switch (options_.consistency.kind) {
    case ConsistencyKind::kExact:
      moment({.base_graphs = s.adjoint});
      if (options_.guess == Guess::kOneStep) {
        want.hessian_products = m;
        moment({.tangents = s.tangent});
        moment({.reward_graphs = 3});  // as pairs
      }
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
}

std::string VggFlow::cost_formula(const CostShape& s) const {
  CostShape one = s;
  one.batch = 1;
  one.rollout = 0;
  const double m = options_.transitions.count();
  Passes p = mean_cost(one);
  const Passes probed = probe_passes(one);
  const double pulls = options_.guess == Guess::kCoarse ? pull_backs(options_.coarse, s.steps) : 0;
  const double every = options_.probe_every > 0 ? static_cast<double>(options_.probe_every) : 0;
  const double apart = pulls * s.adjoint + (every > 0 ? probed.f / every : 0);
  const double boundary = s.value && options_.boundary ? 1 : 0;
  const double tangents = (p.j + p.value_j) / m;
  return fmt::format(
      "B N {}F{} + {} B ({:g}F{} + {:g}B){}{}", s.rollout,
      pulls > 0 ? fmt::format(" + {} B ({}F + {}B)", pulls, s.adjoint, s.adjoint) : "", m,
      (p.f + p.value_f - boundary - apart) / m, tangents > 0 ? fmt::format(" + {}J", tangents) : "",
      (p.b + p.value_b - boundary - apart) / m, boundary > 0 ? " + B (1F + 1B)" : "",
      every > 0 ? fmt::format(", and {} ({}F + {}B) every {} updates",
                              probed_rows(s.batch) * s.steps, s.adjoint, s.adjoint, every)
                : "");
}

}  // namespace vggflow
