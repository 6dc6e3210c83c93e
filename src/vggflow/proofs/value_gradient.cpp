#include "vggflow/proofs/value_gradient.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "vggflow/algorithms/adjoint.h"
#include "vggflow/algorithms/coarse_adjoint.h"
#include "vggflow/algorithms/gradient_probe.h"
#include "vggflow/algorithms/pmp.h"
#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/algorithms/vgg_flow.h"
#include "vggflow/flow/sampling.h"

namespace vggflow {
namespace {

// Trajectories, and the adjoint that every g is held against.
struct Measured {
  AlignmentProblem& problem;
  const UpdateInput& input;
  Trajectory path;
  Tensor rows;
  RewardGradients end;
  std::vector<Tensor> adjoints;
  size_t steps() const { return path.times.size() - 1; }
};

RewardClipOptions unclipped() {
  RewardClipOptions clip;
  clip.kind = ClipBound::kNone;
  return clip;
}

Measured measure(AlignmentProblem& problem, const UpdateInput& input) {
  Measured m{problem, input, roll_out(problem, input), row_numbers(input.x0.size(0), input.x0),
             {},      {}};
  m.end = reward_gradients(problem, unclipped(), m.path.final_state(), m.rows, input.micro_batch);
  m.adjoints = sweep(m.path, m.rows, -m.end.gradient, input.micro_batch, lean_step(problem));
  return m;
}

// g at the transitions 0 ... N-1, and where they start with what nu is shown there.
struct Estimates {
  std::vector<Tensor> g;
  std::vector<States> at;
};

Estimates estimates(const Measured& m, const VggFlowOptions& o) {
  Estimates out;
  for (size_t k = 0; k < m.steps(); ++k) {
    const Tensor& x = m.path.states[k];
    out.at.push_back({x, at::full({x.size(0)}, m.path.times[k], x.options()), m.rows,
                      m.path.final_state(), m.end.gradient});
  }
  if (o.guess == Guess::kCoarse) {
    out.g =
        coarse_adjoint(m.problem, m.path, m.rows, -m.end.gradient, o.coarse, m.input.micro_batch)
            .adjoints;
    out.g.erase(out.g.begin());
    for (size_t k = 0; k < m.steps(); ++k) out.at[k].gradient = -out.g[k];
    return out;
  }
  for (size_t k = 0; k < m.steps(); ++k) {
    States& s = out.at[k];
    if (o.guess == Guess::kOneStep) {
      const double h = m.path.times[k + 1] - m.path.times[k];
      s.end = one_step_guess(s.x, s.t, (m.path.states[k + 1] - s.x) / h);
      s.gradient =
          reward_gradients(m.problem, unclipped(), s.end, m.rows, m.input.micro_batch).gradient;
    }
    out.g.push_back(reward_part(o.eta, s.t, s.gradient));
  }
  return out;
}

// The same with nu.
std::vector<Tensor> with_nu(const Measured& m, Estimates estimates) {
  for (size_t k = 0; k < m.steps(); ++k)
    estimates.g[k] = corrected(m.problem, estimates.at[k], estimates.g[k]);
  return std::move(estimates.g);
}

Figure figure_of(const Tensor& by_trajectory) {
  const auto n = static_cast<double>(by_trajectory.numel());
  return {by_trajectory.mean().item<double>(),
          n > 1 ? by_trajectory.std().item<double>() / std::sqrt(n) : 0.0};
}

Tensor product(const Tensor& x, const Tensor& y) {
  return (x.flatten(1).to(at::kDouble) * y.flatten(1)).sum(1);
}

ValueGradientRow row_of(const std::string& name, const Measured& m, const std::vector<Tensor>& g) {
  ValueGradientRow row;
  row.name = name;
  std::vector<Tensor> cosine, ratio, error;
  Tensor along = at::zeros({m.rows.numel()}, at::kDouble), energy = at::zeros_like(along),
         most = at::zeros_like(along);
  for (size_t k = 0; k < m.steps(); ++k) {
    const Tensor& a = m.adjoints[k + 1];
    const double h = m.path.times[k + 1] - m.path.times[k];
    along += h * product(g[k], a).cpu();
    energy += h * product(g[k], g[k]).cpu();
    most += h * product(a, a).cpu();
    if (k + 1 == m.steps()) break;
    const Agreement found = agreement(g[k], a);
    cosine.push_back(found.cosine.cpu());
    ratio.push_back(found.ratio.clamp_min(1e-12).log().cpu());
    error.push_back(found.error.cpu());
  }
  row.cosine = figure_of(at::stack(cosine).mean(0));
  row.gain = figure_of(along / (energy * most).sqrt().clamp_min(1e-300));
  row.ratio = std::exp(at::stack(ratio).mean().item<double>());
  row.error = at::stack(error).mean().item<double>();
  return row;
}

struct Choice {
  std::string name;
  VggFlowOptions options;
};

// The guesses, coarse adjoints of a few sizes, damped and not, and every second step.
std::vector<Choice> choices_of(double damping, size_t steps) {
  constexpr double kUndamped = 1e12;
  std::vector<Choice> out;
  const auto add = [&](const std::string& name, Guess guess, const CoarseOptions& coarse) {
    VggFlowOptions o;
    o.guess = guess;
    o.coarse = coarse;
    out.push_back({name, o});
  };
  add("one-step guess, t^2", Guess::kOneStep, {});
  add("end point, t^2", Guess::kEndpoint, {});
  for (const int64_t nodes : {3, 5, 8}) {
    if (static_cast<size_t>(nodes) > steps) continue;
    add(fmt::format("coarse {}", nodes), Guess::kCoarse, {.nodes = nodes, .damping = damping});
    add(fmt::format("coarse {}, undamped", nodes), Guess::kCoarse,
        {.nodes = nodes, .damping = kUndamped});
  }
  CoarseOptions second{.damping = damping};
  for (size_t k = steps; k-- > 0;) {
    if ((steps - 1 - k) % 2 == 0) second.node_steps.push_back(static_cast<int64_t>(k));
  }
  add("every second step", Guess::kCoarse, second);
  return out;
}

double passes_of(const Method& method, const CostShape& shape) {
  const Passes p = method.mean_cost(shape);
  return p.f + p.j + p.b;
}

}  // namespace

std::vector<ValueGradientRow> measure_value_gradient(AlignmentProblem& problem,
                                                     const UpdateInput& input, CostShape shape,
                                                     double damping, Guess below_nu) {
  at::NoGradGuard no_grad;
  const Measured m = measure(problem, input);
  shape.batch = 1;
  shape.value = false;
  std::vector<ValueGradientRow> out;
  for (const Choice& choice : choices_of(damping, m.steps())) {
    ValueGradientRow row = row_of(choice.name, m, estimates(m, choice.options).g);
    if (choice.options.guess == Guess::kCoarse)
      row.pulls = pull_backs(choice.options.coarse, static_cast<double>(m.steps()));
    row.passes = passes_of(VggFlow(choice.options, unclipped()), shape);
    out.push_back(row);
  }
  if (problem.has_correction()) {
    VggFlowOptions o;
    o.guess = below_nu;
    o.coarse.damping = damping;
    ValueGradientRow row = row_of("nu on " + word_of(below_nu), m, with_nu(m, estimates(m, o)));
    if (below_nu == Guess::kCoarse)
      row.pulls = pull_backs(o.coarse, static_cast<double>(m.steps()));
    o.consistency.kind = ConsistencyKind::kOff;
    o.boundary = false;
    CostShape with = shape;
    with.value = true;
    const Passes p = VggFlow(o, unclipped()).mean_cost(with);
    row.passes = p.f + p.j + p.b;
    out.push_back(row);
  }
  ValueGradientRow lean = row_of("PMP, lean", m, {m.adjoints.begin() + 1, m.adjoints.end()});
  lean.pulls = static_cast<double>(m.steps());
  lean.passes = passes_of(Pmp({}, unclipped()), shape);
  out.push_back(lean);
  return out;
}

}  // namespace vggflow
