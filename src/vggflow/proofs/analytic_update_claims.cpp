#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/algorithms/draft.h"
#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/refl.h"
#include "vggflow/algorithms/registry.h"
#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/algorithms/transitions.h"
#include "vggflow/algorithms/vgg_flow.h"
#include "vggflow/core/error.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/proofs/analytic_claims.h"

namespace vggflow::analytic {
namespace {

// A non-linear problem where nothing vanishes: mixture base, a small network as control, rewards of
// both signs.
struct Nonlinear {
  std::vector<double> times = uniform_grid(6);
  FieldPtr base = mixture(2);
  RewardPtr reward =
      std::make_shared<LogCosh>(0.8, at::full({2}, 0.3, at::kDouble), /*offset=*/0.7);
  std::shared_ptr<Mlp> control = std::make_shared<Mlp>(2, 8, 11, /*last=*/0.7);
  std::shared_ptr<Mlp> nu = std::make_shared<Mlp>(2, 8, 12, /*last=*/0.5);
  Problem problem(bool value = false) const {
    return Problem(base, reward, control, value ? nu : nullptr);
  }

  // x through the steps `from` ... N-1.
  Tensor continued(Tensor x, size_t from) const {
    Problem p = problem();
    for (size_t j = from; j + 1 < times.size(); ++j)
      x = x + (times[j + 1] - times[j]) *
                  p.rollout_velocity(x, at::full({x.size(0)}, times[j], x.options()));
    return x;
  }
};

UpdateInput input_of(const Nonlinear& n, int64_t batch = 7) {
  return update_input(3, 5, batch, 2, n.times);
}

Tensor gradient_of(Trainable& field) {
  const Tensor g = field.parameters.grad().clone();
  field.parameters.mutable_grad().reset();
  return g;
}

// Largest difference between `gradient` and central differences of f along six directions, over the
// largest of the derivatives.
double difference_error(Trainable& field, const Tensor& gradient,
                        const std::function<double()>& f) {
  constexpr double kStep = 1e-5;
  at::NoGradGuard no_grad;
  double miss = 0, size = 0;
  for (uint64_t i = 0; i < 6; ++i) {
    const Tensor d =
        keyed_normal(1, Purpose::kTest, 0, i, 1, {gradient.numel()})[0].to(at::kDouble);
    field.parameters.add_(kStep * d);
    const double up = f();
    field.parameters.sub_(2 * kStep * d);
    const double down = f();
    field.parameters.add_(kStep * d);
    const double want = (up - down) / (2 * kStep);
    miss = std::max(miss, std::abs((gradient * d).sum().item<double>() - want));
    size = std::max(size, std::abs(want));
  }
  return size > 0 ? miss / size : 1;
}

double mean_loss(const Nonlinear& n, const RewardTransformOptions& transform, const Tensor& x1) {
  return -transformed(transform, (*n.reward)(x1)).mean().item<double>();
}

double draft_error(DraftKind kind, const RewardTransformOptions& transform, bool own_step) {
  Nonlinear n;
  DraftOptions o;
  o.kind = kind;
  o.k = kind == DraftKind::kFull || kind == DraftKind::kLv ? 1 : 3;
  o.lv_own_step = own_step;
  o.transform = transform;
  Problem problem = n.problem();
  UpdateInput input = input_of(n);
  input.micro_batch = 3;
  const MethodReport report = make_draft(o, no_clip())->update(problem, input);
  const Tensor gradient = gradient_of(*n.control);
  const Trajectory path = roll_out(problem, input);
  if (kind != DraftKind::kLv) {
    const size_t from = n.times.size() - 1 - static_cast<size_t>(report.values.at("depth"));
    return difference_error(*n.control, gradient, [&] {
      return mean_loss(n, transform, n.continued(path.states[from], from));
    });
  }
  // The same fixed, keyed noises around the finished x_N.
  const double t = n.times[n.times.size() - 2];
  const Tensor e = keyed_normal(input.seed, Purpose::kPathNoise, input.update, input.first_sample,
                                7, {o.lv_noises, 2})
                       .to(at::kDouble);
  std::vector<Tensor> starts;
  for (int64_t i = 0; i < o.lv_noises; ++i)
    starts.push_back(t * path.final_state() + (1 - t) * e.select(1, i));
  if (own_step) starts.push_back(path.states[n.times.size() - 2]);
  const Tensor all = at::cat(starts);
  return difference_error(*n.control, gradient, [&] {
    return mean_loss(n, transform, n.continued(all, n.times.size() - 2));
  });
}

double refl_error(const RewardTransformOptions& transform) {
  Nonlinear n;
  ReflOptions o;
  o.k_min = 2;
  o.k_max = 5;
  o.transform = transform;
  Problem problem = n.problem();
  const UpdateInput input = input_of(n);
  Refl(o, no_clip()).update(problem, input);
  const Tensor gradient = gradient_of(*n.control);
  std::vector<std::vector<int64_t>> steps;
  for (uint64_t i = 0; i < 7; ++i)
    steps.push_back({2 + RandomStream({input.seed, Purpose::kTime, input.update, i}).below(4)});
  const Transitions at = pick(roll_out(problem, input), steps);
  return difference_error(*n.control, gradient, [&] {
    return mean_loss(n, transform,
                     one_step_guess(at.states.x, at.states.t,
                                    problem.rollout_velocity(at.states.x, at.states.t)));
  });
}

}  // namespace

void sampler_gradients(AnalyticReport& report) {
  for (const auto& [name, form] : option_words(RewardTransform{})) {
    RewardTransformOptions transform;
    transform.kind = form;
    transform.top = 0.2;
    for (const auto& [word, kind] : option_words(DraftKind{})) {
      report.below(fmt::format("DRaFT {}, {}: gradient - finite differences", word, name),
                   draft_error(kind, transform, false), 1e-7);
    }
    report.below(fmt::format("DRaFT lv with own step, {}: gradient - finite differences", name),
                 draft_error(DraftKind::kLv, transform, true), 1e-7);
    report.below(fmt::format("ReFL, {}: gradient - finite differences", name),
                 refl_error(transform), 1e-7);
  }
  const Nonlinear n;
  Problem problem = n.problem();
  const Tensor r = (*n.reward)(roll_out(problem, input_of(n)).final_state());
  const double share = (r > 0.2).to(at::kDouble).mean().item<double>(),
               positive = (r > 0).to(at::kDouble).mean().item<double>();
  report.below("share of rewards on one side of the transforms' kinks",
               std::max(std::max(share, 1 - share), std::max(positive, 1 - positive)), 0.99,
               "both sides of 0 (relu) and of 0.2 (relu_below) are met");
}

namespace {

struct Variant {
  std::string label, method;
  MethodOptions options;
  double rounding = 1;
  std::unique_ptr<Method> make() const { return make_method(method, options); }
};

// Every registered method with its defaults, and the variants that count or split otherwise.
std::vector<Variant> variants() {
  std::vector<Variant> out;
  for (const std::string& name : method_names()) {
    const MethodTrials trials = method_trials(name);
    MethodOptions small = unclipped();
    small.set(name, trials.small);
    out.push_back({name, name, small});
    for (const MethodTrial& trial : trials.variants) {
      MethodOptions options = small;
      options.set(name, trial.settings);
      out.push_back({name + ", " + trial.label, name, options, trial.rounding});
    }
  }
  return out;
}

double largest_gap(const Passes& a, const Passes& b) {
  double gap = 0;
  for (const auto member :
       {&Passes::f, &Passes::j, &Passes::b, &Passes::value_f, &Passes::value_j, &Passes::value_b})
    gap = std::max(gap, std::abs(a.*member - b.*member));
  return gap;
}

std::string text(const Passes& p) {
  return fmt::format("F {} J {} B {}, value {} {} {}", p.f, p.j, p.b, p.value_f, p.value_j,
                     p.value_b);
}

}  // namespace

void counted_passes(AnalyticReport& report) {
  for (const Variant& v : variants()) {
    for (const bool value : {false, true}) {
      const auto method = v.make();
      if (value && !method->trains_value()) continue;
      const Nonlinear n;
      Problem inner = n.problem(value);
      Counted problem(inner);
      const MethodReport found = method->update(problem, input_of(n, 8));
      CostShape shape;
      shape.batch = 8;
      shape.steps = 6;
      shape.rollout = shape.policy = shape.policy_graph = shape.known = shape.tangent = shape.base =
          shape.adjoint = shape.reference = 1;
      shape.value = value;
      const Passes want = method->cost(shape, found);
      report.below("passes of " + v.label + (value ? " with nu" : "") + ": counted - formula",
                   largest_gap(problem.passes, want), 0.5, text(problem.passes));
    }
  }
}

namespace {

struct Gradients {
  Tensor policy, value;
};

Gradients gradients_of(const Variant& v, int64_t batch, uint64_t first_sample,
                       int64_t micro_batch) {
  const Nonlinear n;
  const auto method = v.make();
  const bool value = method->trains_value();
  Problem problem = n.problem(value);
  UpdateInput input = update_input(3, 5, batch, 2, n.times, first_sample);
  input.micro_batch = micro_batch;
  method->update(problem, input);
  return {gradient_of(*n.control), value ? gradient_of(*n.nu) : at::zeros({1}, at::kDouble)};
}

double gap(const Gradients& a, const Gradients& b) {
  return std::max(
      (a.policy - b.policy).norm().item<double>() / b.policy.norm().item<double>(),
      (a.value - b.value).norm().item<double>() / std::max(b.value.norm().item<double>(), 1e-300));
}

}  // namespace

void split_updates(AnalyticReport& report) {
  for (const Variant& v : variants()) {
    const double bound = 1e-12 * v.rounding;
    const Gradients whole = gradients_of(v, 8, 0, 1000);
    report.below(v.label + ": gradient in micro-batches of 3", gap(gradients_of(v, 8, 0, 3), whole),
                 bound, "relative difference from one micro-batch");
    const Gradients a = gradients_of(v, 4, 0, 1000), b = gradients_of(v, 4, 4, 1000);
    report.below(v.label + ": mean gradient of two halves",
                 gap({(a.policy + b.policy) / 2, (a.value + b.value) / 2}, whole), bound,
                 "relative difference from the whole batch");
  }
  const Variant first = variants().front();
  report.above("gradient of other samples",
               gap(gradients_of(first, 8, 8, 1000), gradients_of(first, 8, 0, 1000)), 1e-2,
               "the test can fail");
}

void balanced_rewards(AnalyticReport& report) {
  const Tensor one = at::eye(2, at::kDouble);
  const std::vector<RewardPtr> rewards{
      std::make_shared<Quadratic>(1000 * matrix({{2, 0.5}, {0.5, 1}}), vector({1, 0})),
      std::make_shared<Quadratic>(1e-3 * one, vector({-1, 2}))};
  const std::vector<double> weights{0.7, 0.3};
  Problem problem(std::make_shared<LinearField>(at::zeros({2, 2}, at::kDouble)), rewards, weights,
                  std::make_shared<LinearField>(0.2 * one));
  const Tensor x = noise(2, 0, 40, 2), rows = at::arange(40);
  RewardClipOptions clip;
  clip.kind = ClipBound::kNone;
  const auto shares = [&](const RewardGradients& r) {
    std::vector<double> size;
    for (size_t p = 0; p < 2; ++p)
      size.push_back(r.weights[static_cast<int64_t>(p)].item<double>() *
                     rewards[p]->gradient(x).norm(2, {1}).mean().item<double>());
    return size[0] / (size[0] + size[1]);
  };
  report.above("large reward's share without balance",
               shares(reward_gradients(problem, clip, x, rows, 16)), 0.999, "its weight is 0.7");
  clip.balance = true;
  const RewardGradients r = reward_gradients(problem, clip, x, rows, 16);
  report.below("large reward's share with balance - 0.7", std::abs(shares(r) - 0.7), 1e-12);
  report.below("balanced reward - w . r", relative(r.reward - problem.reward(x, rows), r.reward),
               1e-12, "the value keeps its weights");
  const auto sum_gradient = [&](const Tensor& at) {
    return r.weights[0] * rewards[0]->gradient(at) + r.weights[1] * rewards[1]->gradient(at);
  };
  report.below("balanced gradient - weights . grad r",
               relative(r.gradient - sum_gradient(x), r.gradient), 1e-12);
  const Tensor d = noise(2, 1, 40, 2);
  const Tensor difference = (sum_gradient(x + 1e-4 * d) - sum_gradient(x - 1e-4 * d)) / 2e-4;
  report.below(
      "Hessian product - difference of the balanced gradient",
      relative(reward_hessian_product(problem, r.weights, x, d, rows) - difference, difference),
      1e-9);
}

}  // namespace vggflow::analytic
