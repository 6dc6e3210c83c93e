#include "vggflow/algorithms/surrogate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace vggflow {
namespace {

// The products of one kind over the kept samples: steps by sample, and for each product its weight,
// the share of alpha p in what it is shown, and the place of its sample among the kept.
struct Terms {
  explicit Terms(int64_t batch) : steps(static_cast<size_t>(batch)) {}
  void add(int64_t row, int64_t place, const StepTerm& term, bool early) {
    steps[static_cast<size_t>(row)].push_back(term.step);
    weights.push_back(term.weight);
    shares.push_back(early ? 1.0 : 0.0);
    places.push_back(static_cast<double>(place));
  }
  StepsOfSamples steps;
  std::vector<double> weights, shares, places;
};

// Their states and numbers on the device, which are copied there at once.
struct Placed {
  Placed(const Trajectory& trajectory, const Terms& terms) : at(pick(trajectory, terms.steps)) {
    std::vector<double> all = terms.weights;
    all.insert(all.end(), terms.shares.begin(), terms.shares.end());
    all.insert(all.end(), terms.places.begin(), terms.places.end());
    const Tensor& x = at.states.x;
    const Tensor table = at::tensor(all, at::kDouble).to(x.device()).view({3, x.size(0)});
    weights = expand_time(table[0].to(x.scalar_type()), x);
    shares = expand_time(table[1].to(x.scalar_type()), x);
    places = table[2].to(at::kLong);
  }
  Transitions at;
  Tensor weights, shares, places;
};

// c_j of the joints, and p of every kept sample.
Tensor pull_joints(AlignmentProblem& problem, const Trajectory& trajectory, const Terms& joints,
                   const Tensor& cotangent, int64_t micro_batch) {
  Tensor out = at::zeros_like(cotangent);
  if (joints.places.empty()) return out;
  const Placed all(trajectory, joints);
  const Tensor a = all.weights * cotangent.index_select(0, all.places);
  std::vector<Tensor> pulled;
  in_parts(a.size(0), micro_batch, [&](int64_t start, int64_t length) {
    pulled.push_back(
        policy_pull_back(problem, slice(all.at.states, start, length), a.narrow(0, start, length)));
  });
  out.index_copy_(0, all.places, at::cat(pulled));
  return out;
}

void add_products(AlignmentProblem& problem, const Trajectory& trajectory, const Terms& terms,
                  const Tensor& cotangent, const Tensor& p, double alpha, int64_t micro_batch) {
  if (terms.places.empty()) return;
  const Placed all(trajectory, terms);
  in_parts(all.places.numel(), micro_batch, [&](int64_t start, int64_t length) {
    const auto part = [&](const Tensor& x) { return x.narrow(0, start, length); };
    const Tensor places = part(all.places);
    const Tensor shown =
        cotangent.index_select(0, places) + alpha * part(all.shares) * p.index_select(0, places);
    const Tensor velocity =
        problem.policy_known(slice(all.at.states, start, length), part(all.at.velocity));
    (velocity * part(all.weights) * shown).sum().backward();
  });
}

// The products of all samples; returns how many there are without p. `kept`: rows whose G is
// cotangent.
double accumulate(AlignmentProblem& problem, const Trajectory& trajectory, const Surrogates& all,
                  const Tensor& kept, const Tensor& cotangent, int64_t micro_batch) {
  const int64_t batch = trajectory.final_state().size(0);
  Terms joints(batch), terms(batch);
  const std::vector<int64_t> rows = numbers(kept);
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto place = static_cast<int64_t>(i);
    const Surrogate& s = all.of[static_cast<size_t>(rows[i])];
    if (s.joint) joints.add(rows[i], place, *s.joint, false);
    for (const StepTerm& term : s.late) terms.add(rows[i], place, term, false);
    for (const StepTerm& term : s.early) terms.add(rows[i], place, term, true);
  }
  const Tensor p = pull_joints(problem, trajectory, joints, cotangent, micro_batch);
  add_products(problem, trajectory, terms, cotangent, p, all.alpha, micro_batch);
  return static_cast<double>(terms.places.size());
}

}  // namespace

Tensor policy_pull_back(AlignmentProblem& problem, const States& s, const Tensor& a) {
  at::AutoGradMode on(true);
  const Tensor leaf = s.x.detach().requires_grad_(true);
  (problem.policy_trained({leaf, s.t, s.rows}) * a).sum().backward();
  return leaf.grad();
}

MethodReport Ascent::update(AlignmentProblem& problem, const UpdateInput& input) const {
  check(std::ssize(input.times) - 1);
  MethodReport report;
  const WholeBatch& whole = input.whole;
  PhaseWatch watch(whole);
  const Trajectory trajectory = roll_out(problem, input);
  const Tensor& x1 = trajectory.final_state();
  const Tensor rows = row_numbers(x1.size(0), x1);
  report.seconds["rollout"] = watch.lap();

  const Surrogates all = draw(trajectory, input);
  report.values = all.values;
  const bool at_end = all.scored.is_same(x1);
  const RewardGradients r =
      reward_gradients(problem, clip_, all.scored, rows, input.micro_batch, whole);
  report.rewards = whole.rows(at_end ? r.reward : reward_values(problem, x1));
  const Tensor keep = finite_rows(r.finite, name_, whole);
  report.dropped = whole.count(rows.numel() - keep.numel());
  report.values["clip_threshold"] = r.threshold;
  const Tensor w = all.weight.defined() ? all.weight : at::ones_like(r.reward);
  const auto kept = [&](const Tensor& x) { return x.index_select(0, keep); };
  report.loss["reward"] = -whole.mean(kept(w) * transformed(transform_, kept(r.reward)));
  if (all.weight.defined()) report.values["sample_weight"] = whole.mean(kept(w));
  const Tensor slope =
      w * transform_slope(transform_, r.reward) / static_cast<double>(whole.count(keep.numel()));
  const Tensor cotangent = -expand_time(kept(slope), r.gradient) * kept(r.gradient);
  report.seconds["reward"] = watch.lap();

  report.values["terms"] =
      whole.sum(accumulate(problem, trajectory, all, keep, cotangent, input.micro_batch));
  report.seconds["train"] = watch.lap();
  return report;
}

Passes Ascent::cost(const CostShape& s, const MethodReport& report) const {
  const auto counted = report.values.find("terms");
  const double products = counted == report.values.end() ? s.batch * terms() : counted->second,
               joints = has_joint() ? s.batch : 0;
  return {.f = s.batch * s.steps * s.rollout + products * s.known + joints * s.policy,
          .b = products * s.known_graph + joints * s.policy_graph};
}

Demand Ascent::demand(const CostShape& s) const {
  return {.transitions = s.batch * (terms() + (has_joint() ? 1 : 0)),
          .reward_gradients = s.batch,
          .policy_input = has_joint()};
}

std::string Ascent::cost_formula(const CostShape& s) const {
  return fmt::format("B N {}F + {:g} B ({}F + {}B){}", s.rollout, terms(), s.known, s.known_graph,
                     has_joint() ? fmt::format(" + B ({}F + {}B)", s.policy, s.policy_graph) : "");
}

std::pair<int64_t, int64_t> draw_two_steps(int64_t steps, RandomStream& random) {
  const int64_t a = random.below(steps), other = random.below(steps - 1);
  const int64_t b = other + (other >= a ? 1 : 0);
  return std::minmax(a, b);
}

Tensor gap(const Trajectory& trajectory, int64_t sample, const Leg& leg) {
  const auto state = [&](int64_t k) { return trajectory.states[static_cast<size_t>(k)][sample]; };
  Tensor guess = state(leg.start);
  for (const StepTerm& s : leg.supports) {
    const auto k = static_cast<size_t>(s.step);
    guess = guess + s.weight / (trajectory.times[k + 1] - trajectory.times[k]) *
                        (state(s.step + 1) - state(s.step));
  }
  return (state(leg.target) - guess).abs().mean();
}

Tensor gap_weights(const Trajectory& trajectory, const std::vector<std::pair<Leg, Leg>>& legs,
                   double tau) {
  std::vector<Tensor> first, second;
  for (size_t i = 0; i < legs.size(); ++i) {
    first.push_back(gap(trajectory, static_cast<int64_t>(i), legs[i].first));
    second.push_back(gap(trajectory, static_cast<int64_t>(i), legs[i].second));
  }
  return (at::stack(first).clamp_min(tau) + at::stack(second).clamp_min(tau)).reciprocal();
}

}  // namespace vggflow
