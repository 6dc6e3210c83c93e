// What stands for a rollout where a reward's gradient at its end is handed back: DRTune, LeapAlign
// and FlowBP against the graphs that they describe, and in closed form.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/algorithms/draft.h"
#include "vggflow/algorithms/drtune.h"
#include "vggflow/algorithms/flowbp.h"
#include "vggflow/algorithms/leapalign.h"
#include "vggflow/algorithms/surrogate.h"
#include "vggflow/core/error.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/proofs/analytic_claims.h"

namespace vggflow::analytic {
namespace {

constexpr int64_t kBatch = 5;
constexpr double kWide = 1e6;  // a tau above every gap: w = 1 / (2 tau)

Tensor taken(Trainable& field) {
  const Tensor g = field.parameters.grad().clone();
  field.parameters.mutable_grad().reset();
  return g;
}

LeapAlign leapalign(double alpha) {
  LeapAlignOptions o;
  o.alpha = alpha;
  o.tau = kWide;
  return {o, no_clip()};
}

FlowBp flowbp(FlowBpOptions o) {
  o.lagrange.tau = kWide;
  return {o, no_clip()};
}

FlowBpOptions kind(FlowBpKind of) {
  FlowBpOptions o;
  o.kind = of;
  return o;
}

// The scalar loss that a surrogate's terms stand for, with values straight through: v_k enters with
// its gradient alone, and the joint step's input is alpha of what comes before it.
Tensor straight_through(Problem& problem, const Trajectory& path, const Surrogates& all,
                        const Reward& reward) {
  std::vector<Tensor> losses;
  for (int64_t i = 0; i < kBatch; ++i) {
    const Surrogate& s = all.of[static_cast<size_t>(i)];
    const auto state = [&](int64_t k) {
      return path.states[static_cast<size_t>(k)].narrow(0, i, 1).detach();
    };
    const auto move = [&](int64_t k, const Tensor& x, double weight) {
      const Tensor t = vector({path.times[static_cast<size_t>(k)]});
      const Tensor v = problem.policy({x, t, at::zeros({1}, at::kLong)});
      return weight * (v - v.detach());
    };
    Tensor end = all.scored.narrow(0, i, 1).detach();
    if (s.joint) {
      Tensor meeting = state(s.joint->step);
      for (const StepTerm& term : s.early)
        meeting = meeting + move(term.step, state(term.step), term.weight);
      const Tensor input = all.alpha * meeting + (1 - all.alpha) * meeting.detach();
      end = end + meeting - meeting.detach() + move(s.joint->step, input, s.joint->weight);
    }
    for (const StepTerm& term : s.late) end = end + move(term.step, state(term.step), term.weight);
    losses.push_back(-reward(end).sum());
  }
  return at::stack(losses).mean();
}

// |gradient of the method - of that loss| over the latter, on the mixture with a network as policy.
double graph_error(const Method& method,
                   const std::function<Surrogate(const UpdateInput&, int64_t)>& terms, double alpha,
                   double weight) {
  const auto control = std::make_shared<Mlp>(2, 8, 11, /*last=*/0.7);
  const auto reward = mixture_reward(2);
  Problem problem(mixture(2), reward, control);
  UpdateInput input = update_input(3, 5, kBatch, 2, uniform_grid(8));
  input.micro_batch = 3;
  method.update(problem, input);
  const Tensor got = taken(*control);
  const Trajectory path = roll_out(problem, input);
  Surrogates all{{}, path.final_state(), {}, alpha};
  for (int64_t i = 0; i < kBatch; ++i) all.of.push_back(terms(input, i));
  straight_through(problem, path, all, *reward).backward();
  return relative(got - weight * taken(*control), got);
}

void graphs(AnalyticReport& report) {
  const double weight = 1 / (2 * kWide);
  for (const double alpha : {0.0, 0.3, 1.0}) {
    report.below(fmt::format("LeapAlign, alpha {}: gradient - its graph's", alpha),
                 graph_error(
                     leapalign(alpha),
                     [](const UpdateInput& input, int64_t i) {
                       RandomStream random = steps_stream(input, i);
                       const auto [k, j] = draw_two_steps(8, random);
                       return leap_surrogate(input.times, k, j);
                     },
                     alpha, weight),
                 1e-12);
  }
  for (const auto& [name, of] : option_words(FlowBpKind{})) {
    const FlowBpOptions o = kind(of);
    const bool lagrange = of == FlowBpKind::kLagrange;
    report.below("FlowBP " + name + ": gradient - its graph's",
                 graph_error(
                     flowbp(o),
                     [&](const UpdateInput& input, int64_t i) {
                       return draw_flowbp(o, input.times, steps_stream(input, i)).terms;
                     },
                     lagrange ? o.lagrange.alpha : o.bridge.alpha, lagrange ? weight : 1),
                 1e-12);
  }
}

// The gradient to the bias of a policy a x + theta in one dimension, over -mean grad r.
double bias_gradient(const Method& method, double a, const std::vector<double>& times) {
  const auto control = std::make_shared<BinnedLinear>(std::vector<double>{0, 1}, 1);
  const auto reward = std::make_shared<Quadratic>(matrix({{0}}), vector({0}));
  // A linear reward: grad r = 1 everywhere.
  struct Slope : Reward {
    Tensor operator()(const Tensor& x) const override { return x.sum(1); }
    Dual operator()(const Dual& x) const override { return {x.value.sum(1), x.tangent.sum(1)}; }
  };
  Problem problem(std::make_shared<LinearField>(matrix({{a}})), std::make_shared<Slope>(), control);
  method.update(problem, update_input(3, 5, 1, 1, times));
  return -taken(*control)[1].item<double>();
}

void closed_forms(AnalyticReport& report) {
  const auto times = uniform_grid(10);
  double worst = 0;
  for (const double a : {-1.0, 0.5}) {
    for (const double alpha : {0.0, 0.3, 1.0}) {
      RandomStream random = steps_stream(update_input(3, 5, 1, 1, times), 0);
      const auto [k, j] = draw_two_steps(10, random);
      const double last = 1 - times[static_cast<size_t>(j)],
                   leap = times[static_cast<size_t>(j)] - times[static_cast<size_t>(k)];
      worst = std::max(worst, std::abs(bias_gradient(leapalign(alpha), a, times) * 2 * kWide -
                                       (last + leap * (1 + alpha * a * last))));
    }
  }
  report.below("LeapAlign, v = a x + theta: d / d theta - closed form", worst, 1e-12,
               "(1 - t_j) + (t_j - t_k) (1 + alpha a (1 - t_j))");

  const auto fine = uniform_grid(400);
  const auto draft = make_draft({.kind = DraftKind::kFull}, no_clip());
  FlowBpOptions all = kind(FlowBpKind::kSparse);
  all.sparse = {.k = 400, .rescale = 0};
  double bias = 0;
  for (const double a : {-1.0, 1.0}) {
    const double ratio = bias_gradient(flowbp(all), a, fine) / bias_gradient(*draft, a, fine);
    bias = std::max(bias, std::abs(ratio - a / (std::exp(a) - 1)));
  }
  report.below("FlowBP of all steps over the exact gradient - a / (e^a - 1)", bias, 2e-3,
               "0.582 where the flow expands, 1.582 where it contracts");

  // A velocity that no state changes: one unit Jacobian between steps is then the truth.
  const auto still = [&](const Method& method) {
    const auto control = std::make_shared<BinnedLinear>(times, 2);
    for (int64_t i = 0; i < 10; ++i)
      control->set(i, at::zeros({2, 2}, at::kDouble), vector({0.1 * static_cast<double>(i), -0.2}));
    Problem problem(std::make_shared<LinearField>(at::zeros({2, 2}, at::kDouble)),
                    mixture_reward(2), control);
    method.update(problem, update_input(3, 5, kBatch, 2, times));
    return taken(*control);
  };
  const Tensor exact = still(*draft);
  all.sparse.k = 10;
  FlowBpOptions bridge = kind(FlowBpKind::kBridge);
  bridge.bridge = {.k = 10, .rescale = 0, .alpha = 0.7};
  report.below("dv/dx = 0: FlowBP sparse of all steps - DRaFT",
               relative(still(flowbp(all)) - exact, exact), 1e-13);
  report.below("dv/dx = 0: FlowBP bridge of all steps - DRaFT",
               relative(still(flowbp(bridge)) - exact, exact), 1e-13);
}

double term_gap(const std::vector<StepTerm>& a, const std::vector<StepTerm>& b) {
  if (a.size() != b.size()) return 1;
  double gap = 0;
  for (size_t i = 0; i < a.size(); ++i)
    gap = std::max({gap, std::abs(static_cast<double>(a[i].step - b[i].step)),
                    std::abs(a[i].weight - b[i].weight)});
  return gap;
}

double surrogate_gap(const Surrogate& a, const Surrogate& b) {
  return std::max(
      {term_gap(a.late, b.late), term_gap(a.early, b.early),
       term_gap({a.joint.value_or(StepTerm{-1, 0})}, {b.joint.value_or(StepTerm{-1, 0})})});
}

void weights(AnalyticReport& report) {
  const auto times =
      time_grid({.steps = 25, .kind = GridKind::kSingleShift, .shift = 3});  // FlowBP's
  double sums = 0, polynomials = 0;
  for (const int64_t order : {1, 2, 3, 5}) {
    for (const auto& [start, target] :
         std::vector<std::pair<int64_t, int64_t>>{{5, 15}, {15, 25}, {0, 25}, {23, 25}, {3, 4}}) {
      const Leg leg = lagrange_leg(times, start, target, order);
      const double a = times[static_cast<size_t>(start)], b = times[static_cast<size_t>(target)];
      for (size_t power = 0; power < leg.supports.size(); ++power) {
        double sum = 0;
        for (const StepTerm& s : leg.supports)
          sum += s.weight * std::pow(times[static_cast<size_t>(s.step)], power);
        const auto next = static_cast<double>(power + 1);
        const double miss = std::abs(sum - (std::pow(b, next) - std::pow(a, next)) / next);
        (power == 0 ? sums : polynomials) = std::max(power == 0 ? sums : polynomials, miss);
      }
    }
  }
  report.below("Lagrange weights: sum - the leg's length", sums, 1e-12, "orders 1, 2, 3, 5");
  report.below("Lagrange weights: integrals of polynomials below the order", polynomials, 1e-12);

  double fixtures = 0;
  const auto expect = [&](int64_t start, int64_t target, const std::vector<StepTerm>& want) {
    fixtures = std::max(fixtures, term_gap(lagrange_leg(times, start, target, 3).supports, want));
  };
  expect(5, 15, {{5, .01574}, {9, .14504}, {14, .09563}});
  expect(15, 25, {{15, .02000}, {19, .36507}, {24, .28160}});
  expect(0, 25, {{0, -.09375}, {12, .72250}, {24, .37125}});
  expect(23, 25, {{23, -.01655}, {24, .22345}});
  report.below("Lagrange weights of FlowBP's 25 steps - known ones", fixtures, 1e-5,
               "a leg's start can have a negative weight");
  const Surrogate half = sparse_surrogate(times, {6, 12, 18, 24}, 0.5),
                  whole = sparse_surrogate(times, {6, 12, 18, 24}, 1);
  report.below("FlowBP sparse's scale - known ones",
               std::max(std::abs(half.late[3].weight / (1 - times[24]) - 2.8517),
                        std::abs(whole.late[3].weight / (1 - times[24]) - 4.7034)),
               1e-4, "steps 6, 12, 18, 24 of 25; rescale 0.5 and 1");

  const std::pair<Leg, Leg> legs{lagrange_leg(times, 4, 17, 1), lagrange_leg(times, 17, 25, 1)};
  report.below("FlowBP lagrange of order 1 - LeapAlign's terms",
               surrogate_gap(lagrange_surrogate(legs, {}), leap_surrogate(times, 4, 17)), 1e-14);
  report.below("DRTune at the last step - FlowBP sparse's terms",
               surrogate_gap(drtune_surrogate(times, {24, {6, 12, 18, 24}}),
                             sparse_surrogate(times, {6, 12, 18, 24}, 0)),
               1e-14);
}

}  // namespace

void surrogate_gradients(AnalyticReport& report) {
  graphs(report);
  closed_forms(report);
  weights(report);
}

}  // namespace vggflow::analytic
