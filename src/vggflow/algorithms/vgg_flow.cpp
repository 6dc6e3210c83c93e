#include "vggflow/algorithms/vgg_flow.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "vggflow/algorithms/adjoint.h"
#include "vggflow/algorithms/gradient_probe.h"
#include "vggflow/algorithms/matching.h"
#include "vggflow/algorithms/value_return.h"
#include "vggflow/core/error.h"

namespace vggflow {

Tensor value_gradient(AlignmentProblem& problem, const EtaSchedule& eta_schedule,
                      const States& states, const Tensor& reward_gradient) {
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

// Whether nu learns from a residual at the drawn transitions, whose estimator finds v_base there.
bool has_residual(const VggFlowOptions& o) {
  return o.consistency.kind != ConsistencyKind::kOff &&
         o.consistency.kind != ConsistencyKind::kReturn;
}

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
  Tensor gradient, factor;        // of the one-step guess: c grad r and c, by transition
  Tensor drift;                   // else: the guess's derivative along the path
  std::vector<Tensor> node_base;  // v_base that a coarse guess found at its nodes, by step
  Tensor rows;                    // the rows there
};

// What nu is shown of the guess, where it is.
void show(AlignmentProblem& problem, States& states, const Tensor& end, const Tensor& gradient) {
  if (!problem.correction_sees_guess()) return;
  states.end = end;
  states.gradient = gradient;
}

Drawn one_step(AlignmentProblem& problem, const VggFlowOptions& o, const RewardClipOptions& clip,
               const Transitions& all, const UpdateInput& input) {
  Drawn out;
  const Tensor ends = one_step_guess(all.states.x, all.states.t, all.velocity);
  out.of = reward_gradients(problem, clip, ends, all.states.rows, input.micro_batch, input.whole);
  const Tensor keep = finite_rows(out.of.finite, "vgg_flow", input.whole);
  out.at = choose(all, keep);
  out.gradient = out.of.gradient.index_select(0, keep);
  out.factor = out.of.factor.index_select(0, keep);
  out.guess = reward_part(o.eta, out.at.states.t, out.gradient);
  show(problem, out.at.states, ends.index_select(0, keep), out.gradient);
  return out;
}

// Rewards and gradients at the end points, and the transitions of the finite ones.
RewardGradients end_gradients(AlignmentProblem& problem, const RewardClipOptions& clip,
                              const Trajectory& trajectory, const UpdateInput& input) {
  return reward_gradients(problem, clip, trajectory.final_state(),
                          row_numbers(input.x0.size(0), input.x0), input.micro_batch, input.whole);
}
Drawn at_ends(AlignmentProblem& problem, const RewardClipOptions& clip,
              const Trajectory& trajectory, const Transitions& all, const UpdateInput& input) {
  Drawn out;
  out.of = end_gradients(problem, clip, trajectory, input);
  out.rows = finite_rows(out.of.finite, "vgg_flow", input.whole);
  out.at = keep_rows(all, out.rows);
  return out;
}

Drawn endpoint(AlignmentProblem& problem, const VggFlowOptions& o, const RewardClipOptions& clip,
               const Trajectory& trajectory, const Transitions& all, const UpdateInput& input) {
  Drawn out = at_ends(problem, clip, trajectory, all, input);
  States& s = out.at.states;
  const Tensor gradient = out.of.gradient.index_select(0, s.rows);
  out.guess = reward_part(o.eta, s.t, gradient);
  out.drift = -expand_time(eta_derivative(o.eta, s.t), s.x) * gradient;
  show(problem, s, trajectory.final_state().index_select(0, s.rows), gradient);
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
             const Trajectory& trajectory, const Transitions& all, const UpdateInput& input,
             MethodReport& report) {
  Drawn out = at_ends(problem, clip, trajectory, all, input);
  const CoarseAdjoint found =
      coarse_adjoint(problem, trajectory, out.rows, -out.of.gradient.index_select(0, out.rows),
                     o.coarse, input.micro_batch);
  const auto& a = found.adjoints;
  out.guess = gather(a, out.at, out.rows);
  out.node_base = found.base;
  show(problem, out.at.states, trajectory.final_state().index_select(0, out.at.states.rows),
       -out.guess);
  report.series["adjoint_norm"] = mean_norms(a, input.whole);
  if (problem.has_correction()) {
    std::vector<Tensor> slope(a.size());
    for (size_t k = 0; k + 1 < a.size(); ++k)
      slope[k + 1] = (a[k + 1] - a[k]) / (trajectory.times[k + 1] - trajectory.times[k]);
    out.drift = gather(slope, out.at, out.rows);
  }
  return out;
}

// g without nu at those of `all` whose rewards and gradients are finite.
Drawn guess_at(AlignmentProblem& problem, const VggFlowOptions& o, const RewardClipOptions& clip,
               const Trajectory& trajectory, const Transitions& all, const UpdateInput& input,
               MethodReport& report) {
  switch (o.guess) {
    case Guess::kEndpoint:
      return endpoint(problem, o, clip, trajectory, all, input);
    case Guess::kCoarse:
      return coarse(problem, o, clip, trajectory, all, input, report);
    case Guess::kOneStep:
      break;
  }
  return one_step(problem, o, clip, all, input);
}

// Those at the given places; what belongs to the batch stays.
Drawn choose(const Drawn& all, const Tensor& places) {
  const auto some = [&](const Tensor& x) { return x.defined() ? x.index_select(0, places) : x; };
  Drawn out = all;
  out.at = choose(all.at, places);
  out.guess = some(all.guess);
  out.gradient = some(all.gradient);
  out.factor = some(all.factor);
  out.drift = some(all.drift);
  return out;
}

// What kind step asks for at the far ends of the rollout's steps.
struct Following {
  States states;
  Tensor guess;
};
Following follow(AlignmentProblem& problem, const VggFlowOptions& o, const RewardClipOptions& clip,
                 const Trajectory& trajectory, const Drawn& drawn, const UpdateInput& input) {
  const Transitions next = following(trajectory, drawn.at);
  Following out{next.states, {}};
  Tensor end, gradient;
  if (o.guess == Guess::kEndpoint) {
    end = trajectory.final_state().index_select(0, next.states.rows);
    gradient = drawn.of.gradient.index_select(0, next.states.rows);
  } else {
    end = one_step_guess(next.states.x, next.states.t, next.velocity);
    gradient =
        reward_gradients(problem, clip, end, next.states.rows, input.micro_batch, input.whole)
            .gradient;
  }
  show(problem, out.states, end, gradient);
  out.guess = reward_part(o.eta, next.states.t, gradient);
  return out;
}

// What the losses of an update are divided by, the elements of the whole batch's transitions; and
// what nu's residuals are multiplied by, beta for units of beta g.
struct Scale {
  double elements, unit;
};

// What is known of v_theta and v_base at transitions: v_theta, and v_theta - v_base or v_base or
// neither.
struct Known {
  Tensor velocity, difference, base;
};

// Accumulates theta's gradient, and phi's of the consistency loss, for some transitions.
void train_part(AlignmentProblem& problem, const VggFlowOptions& o, const ValuePoints& points,
                const Known& known, const Scale& scale, Sums& sums) {
  Tensor base = known.base;
  if (problem.has_correction() && has_residual(o)) {
    const Consistency c = consistency(problem, o.consistency, o.eta, o.beta, points);
    const Tensor loss = (scale.unit * c.residual).square().sum() / scale.elements;
    loss.backward();
    sums.consistency += loss.detach();
    base = c.base;
  } else if (!base.defined() && !known.difference.defined()) {
    base = base_value(problem, points.states);
  }
  const Tensor push = o.beta * points.g;
  const Tensor loss =
      known.difference.defined()
          ? difference_loss(problem, points.states, known.difference, push, scale.elements)
          : matching_loss(problem, points.states, known.velocity, base - push, scale.elements);
  loss.backward();
  sums.matching += loss.detach();
}

// A mean over the finite end points' elements, in parts.
double train_boundary(AlignmentProblem& problem, double alpha, double unit, const Tensor& x1,
                      const UpdateInput& input) {
  const Tensor ok = at::isfinite(x1).flatten(1).all(1).nonzero().flatten();
  const double total = input.whole.sum(static_cast<double>(ok.numel() * x1[0].numel()));
  Tensor sum = at::zeros({}, x1.options().dtype(at::kDouble));
  in_parts(ok.numel(), input.micro_batch, [&](int64_t start, int64_t length) {
    const Tensor rows = ok.narrow(0, start, length);
    const Tensor residual = unit * boundary_residual(problem, x1.index_select(0, rows), rows);
    const Tensor loss = residual.square().sum() / total;
    (alpha * loss).backward();
    sum += loss.detach();
  });
  return input.whole.sum(sum.item<double>());
}

}  // namespace

MethodTrials VggFlowOptions::trials() {
  return {
      .small = "bins=3",
      .variants = {{"paper", "consistency.kind=paper"},
                   {"release", "consistency.kind=release", 1e3},
                   {"step", "consistency.kind=step"},
                   {"step, end point", "consistency.kind=step guess=endpoint"},
                   {"return", "consistency.kind=return consistency.warmup=0 consistency.every=1"},
                   {"return, coarse",
                    "consistency.kind=return consistency.warmup=0 consistency.every=1 "
                    "guess=coarse nodes=3"},
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
  const bool one_step = options_.guess == Guess::kOneStep;
  VGGFLOW_CHECK(one_step || (kind != ConsistencyKind::kPaper && kind != ConsistencyKind::kRelease),
                "[vgg] expected consistency.kind=exact, return or off with guess={}, got {}: that "
                "estimator differentiates the one-step guess",
                word_of(options_.guess), word_of(kind));
  VGGFLOW_CHECK(options_.guess != Guess::kCoarse || kind != ConsistencyKind::kStep,
                "[vgg] expected consistency.kind=exact, return or off with guess=coarse, got step: "
                "a coarse adjoint is no function of single states");
}

MethodReport VggFlow::update(AlignmentProblem& problem, const UpdateInput& input) const {
  MethodReport report;
  const WholeBatch& whole = input.whole;
  PhaseWatch watch(whole);
  VggFlowOptions options = options_;
  options.beta *= input.beta_scale;
  check(static_cast<int64_t>(input.times.size()) - 1);
  const bool value = problem.has_correction();
  const bool swept = value && options.consistency.sweeps(input.update);
  const auto steps = draw_steps(options.transitions, input);
  report.trains_policy = !(value && options.consistency.warms_up(input.update));
  const Rollout trajectory = report.trains_policy ? roll_out(problem, input, steps)
                                                  : Rollout{roll_out(problem, input), {}};
  report.seconds["rollout"] = watch.lap();

  Drawn drawn = guess_at(problem, options, clip_, trajectory,
                         swept ? all_steps(trajectory) : pick(trajectory, steps), input, report);
  report.values["clip_threshold"] = drawn.of.threshold;
  report.values["clip_share"] = whole.mean((drawn.of.factor < 1).to(at::kFloat));
  RewardGradients ends = options.guess == Guess::kOneStep ? RewardGradients{} : drawn.of;
  if (swept && !ends.reward.defined()) ends = end_gradients(problem, clip_, trajectory, input);
  report.rewards = whole.rows(
      ends.reward.defined() ? ends.reward : reward_values(problem, trajectory.final_state()));
  report.seconds["reward"] = watch.lap();
  if (swept) {
    report.loss["return"] = train_on_return(problem, trajectory, ends, drawn.at, drawn.guess,
                                            options.consistency.value_steps, input);
    report.values["swept"] = 1;
    drawn = choose(drawn, places_of(drawn.at, steps));
    report.seconds["return"] = watch.lap();
  }
  const double all = static_cast<double>(input.x0.size(0)) * options.transitions.count();
  report.dropped = whole.count(static_cast<int64_t>(all) - drawn.guess.size(0));
  report.trains_value = options.consistency.kind != ConsistencyKind::kReturn || swept;
  if (!report.trains_policy) report.values["policy_waits"] = 1;
  Tensor known;
  if (options.guess == Guess::kCoarse) {
    int64_t shared = 0;
    if (report.trains_policy && problem.adjoint_is_base() && !problem.has_difference() &&
        !(value && has_residual(options)))
      known =
          shared_base(problem, drawn.node_base, drawn.at, drawn.rows, input.micro_batch, shared);
    report.values["shared_base"] = whole.sum(static_cast<double>(shared));
  }
  Following next;
  if (value && options.consistency.kind == ConsistencyKind::kStep)
    next = follow(problem, options, clip_, trajectory, drawn, input);

  Sums sums(drawn.guess);
  const Scale scale{whole.sum(static_cast<double>(drawn.guess.numel())),
                    input.losses_of_g ? 1 : options_.beta};
  const bool probed =
      options.probe_every > 0 && input.update % static_cast<uint64_t>(options.probe_every) == 0;
  std::vector<Tensor> all_g;
  in_parts(drawn.guess.size(0), input.micro_batch, [&](int64_t start, int64_t length) {
    const auto part = [&](const Tensor& x) { return x.defined() ? x.narrow(0, start, length) : x; };
    const States states = slice(drawn.at.states, start, length);
    const Tensor g = corrected(problem, states, part(drawn.guess));
    if (probed) all_g.push_back(g);
    sums.energy += (options.beta * g).square().sum().to(at::kDouble) / scale.elements;
    if (!report.trains_policy) return;
    train_part(
        problem, options,
        {states, part(drawn.gradient), part(drawn.factor), drawn.of.weights, g, part(drawn.drift),
         part(drawn.guess), next.states.x.defined() ? slice(next.states, start, length) : States{},
         part(next.guess)},
        {part(drawn.at.velocity), part(drawn.at.difference), part(known)}, scale, sums);
  });
  if (report.trains_policy) report.loss["matching"] = whole.sum(sums.matching.item<double>());
  report.values["control_energy"] = whole.sum(sums.energy.item<double>());
  report.seconds["train"] = watch.lap();
  if (probed) {
    probe(problem, clip_, trajectory, drawn.at, drawn.guess, joined(all_g, drawn.guess), input,
          report);
    report.seconds["probe"] = watch.lap();
  }
  if (!value) return report;
  if (has_residual(options))
    report.loss["consistency"] = whole.sum(sums.consistency.item<double>());
  if (has_boundary(true))
    report.loss["boundary"] =
        train_boundary(problem, options.alpha, scale.unit, trajectory.final_state(), input);
  report.seconds["boundary"] = watch.lap();
  return report;
}

Passes VggFlow::cost(const CostShape& s, const MethodReport& report) const {
  const double m = s.batch * options_.transitions.count();
  const auto told = [&](const char* name) {
    const auto found = report.values.find(name);
    return found == report.values.end() ? 0 : found->second;
  };
  Passes p{.f = s.batch * s.steps * s.rollout};
  if (told("policy_waits") == 0) {
    const bool residual = s.value && has_residual(options_);
    const double own = residual ? m : s.paired ? 0 : m - told("shared_base");
    p.f += m * (s.known + (s.paired ? s.reference : 0)) + own * s.base;
    p.b += m * s.known_graph;
  }
  if (s.value && told("swept") > 0) {
    const double swept = told("swept") * s.batch * s.steps;
    p.f += swept * s.adjoint;
    p.b += swept * s.adjoint;
    p.value_f += swept;
    p.value_b += swept;
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
  if (has_boundary(true)) {
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
    case ConsistencyKind::kStep:
      p.f += m * (s.adjoint_is_base ? 0 : s.adjoint);
      p.b += m * s.adjoint;
      p.value_f += 2 * m;
      p.value_b += 2 * m;
      break;
    case ConsistencyKind::kReturn:
    case ConsistencyKind::kOff:
      break;
  }
}

double VggFlow::sweeps_per_update() const {
  return options_.consistency.kind == ConsistencyKind::kReturn
             ? 1 / static_cast<double>(options_.consistency.every)
             : 0;
}

// After the warm-up. A node is drawn with the chance that its bin gives each of its steps.
Passes VggFlow::mean_cost(const CostShape& s) const {
  MethodReport mean;
  mean.values["swept"] = sweeps_per_update();
  if (options_.guess == Guess::kCoarse && s.adjoint_is_base && !s.paired &&
      !(s.value && has_residual(options_)))
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
    case ConsistencyKind::kStep:
      if (options_.guess == Guess::kOneStep) want.reward_gradients += m;
      moment({.value_graphs = 1, .base_graphs = s.adjoint});
      moment({.value_graphs = 2});
      break;
    case ConsistencyKind::kReturn:
      want.adjoint = true;
      if (options_.guess == Guess::kOneStep)
        want.reward_gradients += sweeps_per_update() * (s.batch * (s.steps + 1) - m);
      want.moments.push_back({.name = "return", .rows = s.batch * s.steps, .value_graphs = 1});
      break;
    case ConsistencyKind::kOff:
      break;
  }
  if (has_boundary(true))
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
  const double swept = s.value ? sweeps_per_update() : 0;
  const double apart =
      pulls * s.adjoint + (every > 0 ? probed.f / every : 0) + swept * s.steps * (s.adjoint + 1);
  const double boundary = has_boundary(s.value) ? 1 : 0;
  const double tangents = (p.j + p.value_j) / m;
  return fmt::format(
      "B N {}F{} + {} B ({:g}F{} + {:g}B){}{}{}", s.rollout,
      pulls > 0 ? fmt::format(" + {} B ({}F + {}B)", pulls, s.adjoint, s.adjoint) : "", m,
      (p.f + p.value_f - boundary - apart) / m, tangents > 0 ? fmt::format(" + {}J", tangents) : "",
      (p.b + p.value_b - boundary - apart) / m, boundary > 0 ? " + B (1F + 1B)" : "",
      swept > 0 ? fmt::format(", and B N ({}F + {}B) every {} updates", s.adjoint + 1,
                              s.adjoint + 1, options_.consistency.every)
                : "",
      every > 0 ? fmt::format(", and {} ({}F + {}B) every {} updates",
                              probed_rows(s.batch) * s.steps, s.adjoint, s.adjoint, every)
                : "");
}

}  // namespace vggflow
