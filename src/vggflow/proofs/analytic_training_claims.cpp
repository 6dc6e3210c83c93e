#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "vggflow/algorithms/adjoint_matching.h"
#include "vggflow/algorithms/consistency.h"
#include "vggflow/algorithms/draft.h"
#include "vggflow/algorithms/fitted_adjoint.h"
#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/pmp.h"
#include "vggflow/algorithms/refl.h"
#include "vggflow/algorithms/registry.h"
#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/algorithms/vgg_flow.h"
#include "vggflow/core/error.h"
#include "vggflow/proofs/analytic_claims.h"

namespace vggflow::analytic {

UpdateInput update_input(uint64_t seed, uint64_t update, int64_t batch, int64_t width,
                         const std::vector<double>& times, uint64_t first_sample) {
  UpdateInput input;
  input.seed = seed;
  input.update = update;
  input.first_sample = first_sample;
  input.x0 = noise(seed, update, batch, width, first_sample);
  input.times = times;
  input.micro_batch = 1 << 30;
  return input;
}

void train(AlignmentProblem& problem, const Method& method, Trainable& policy, Trainable* value,
           const Training& training, const std::vector<double>& times,
           const std::function<void(int64_t)>& after) {
  Adam policy_adam, value_adam;
  for (int64_t i = 0; i < training.updates; ++i) {
    const double left = 1 - static_cast<double>(i) / static_cast<double>(training.updates);
    const auto step_value = [&] {
      if (value && value->parameters.grad().defined())
        value_adam.step(*value, left * training.value_rate);
    };
    UpdateInput input = update_input(training.seed, static_cast<uint64_t>(i), training.batch,
                                     training.width, times);
    input.step_value = step_value;
    const MethodReport report = method.update(problem, input);
    if (report.trains_policy) policy_adam.step(policy, left * training.rate);
    if (report.trains_value) step_value();
    if (after) after(i + 1);
  }
}

namespace {

// The common problem: general A, so that neither the one-step guess nor a symmetric Jacobian helps;
// 20 steps; a policy that holds the optimum.
struct Common {
  std::vector<double> times = uniform_grid(20);
  FieldPtr base = std::make_shared<LinearField>(general_base());
  RewardPtr reward = std::make_shared<Quadratic>(reward_matrix(), at::zeros({2}, at::kDouble));
  DiscreteRiccati optimum{general_base(), reward_matrix(), kBeta, times};
  std::shared_ptr<BinnedLinear> control = std::make_shared<BinnedLinear>(times, 2);
  Tensor x0 = noise(77, 0, 512, 2);

  double best() const { return optimum.objective(x0); }
  Problem problem(FieldPtr correction = nullptr) const {
    return Problem(base, reward, control, correction);
  }
  double objective_now() const {
    Problem p = problem();
    return objective(p, kBeta, x0, times);
  }
  // (J - J*) / J*.
  double excess() const { return objective_now() / best() - 1; }
  double reward_now() const {
    Problem p = problem();
    return mean_reward(p, x0, times);
  }
};

VggFlow vgg(Eta eta, ConsistencyKind consistency, bool boundary = true) {
  VggFlowOptions o;
  o.beta = kBeta;
  o.eta = eta;
  o.consistency.kind = consistency;
  o.boundary = boundary;
  return {o, no_clip()};
}

AnalyticSeries curve_of(const std::string& name) { return {name, {}, {}}; }

// Trains and returns the excess; keeps every 25th in `curve`.
double train_excess(Common& c, const Method& method, FieldPtr correction, Trainable* value,
                    const Training& training, AnalyticSeries* curve = nullptr) {
  Problem problem = c.problem(correction);
  if (curve) curve->x.push_back(0), curve->y.push_back(c.excess());
  train(problem, method, *c.control, value, training, c.times, [&](int64_t update) {
    if (!curve || update % 25 != 0) return;
    curve->x.push_back(static_cast<double>(update));
    curve->y.push_back(c.excess());
  });
  return c.excess();
}

// |g - a| / |a| with a nu that sees t as an MMDiT does, trained with the policy on general A.
struct LearnedError {
  double guess, g, excess;
};
LearnedError learned_error(ConsistencyKind kind, int64_t updates, double rate = 0.01) {
  constexpr double kClock = 1000;  // an MMDiT's
  Common c;
  const auto nu = std::make_shared<Mlp>(2, 24, 5, 0, kClock);
  VggFlowOptions o;
  o.beta = kBeta;
  o.eta = Eta::kQuadratic;
  o.consistency.kind = kind;
  o.consistency.every = 1;
  o.consistency.warmup = 0;
  const double excess = train_excess(c, VggFlow(o, no_clip()), nu, nu.get(),
                                     {.updates = updates, .rate = 0.05, .value_rate = rate});
  o.probe_every = 1;
  Problem problem = c.problem(nu);
  const MethodReport held_out =
      VggFlow(o, no_clip()).update(problem, update_input(91, 0, 64, 2, c.times));
  return {held_out.values.at("error_of_guess"), held_out.values.at("error_of_g"), excess};
}

// Between two points of the grid a network of fast sinusoids can have any slope: the exact residual
// vanishes while nu stays where it was. What asks for no derivative learns all the same.
void clocks(AnalyticReport& report) {
  const auto note = [](const LearnedError& e) {
    return fmt::format("the guess alone {:.3f}; excess objective {:.2e}", e.guess, e.excess);
  };
  const LearnedError aliased = learned_error(ConsistencyKind::kExact, 400);
  report.above("error of g, exact, t as an MMDiT sees it", aliased.g, 0.5, note(aliased));
  const LearnedError step = learned_error(ConsistencyKind::kStep, 1500);
  report.below("error of g, step, t as an MMDiT sees it", step.g, 0.15, note(step));
  const LearnedError swept = learned_error(ConsistencyKind::kReturn, 2000, 0.003);
  report.below("error of g, return, t as an MMDiT sees it", swept.g, 0.05, note(swept));
}

}  // namespace

void learned_correction(AnalyticReport& report) {
  AnalyticFigure figure{"analytic_training",
                        "VGG-Flow, general A: nu by estimator",
                        "update",
                        "(J - J*) / J*",
                        true,
                        {}};
  report.above("excess objective of the base, general A", Common().excess(), 0.5,
               "(J - J*) / J*, 512 held-out starts");
  for (const auto& [name, schedule] : option_words(Eta{})) {
    Common c;
    AnalyticSeries curve = curve_of("guess " + name);
    report.above("excess objective of the one-step guess, eta " + name,
                 train_excess(c, vgg(schedule, ConsistencyKind::kOff), nullptr, nullptr,
                              {.updates = 250}, &curve),
                 0.01, "nu = 0: not the optimum");
    if (curve.name == "guess quadratic") figure.series.push_back({"nu = 0", curve.x, curve.y});
  }
  Common c;
  const auto nu = std::make_shared<Mlp>(2, 24, 5);
  AnalyticSeries curve = curve_of("exact");
  const Training training{.updates = 1000, .rate = 0.05, .value_rate = 0.01};
  report.below("excess objective with a learned nu",
               train_excess(c, vgg(Eta::kQuadratic, ConsistencyKind::kExact), nu, nu.get(),
                            training, &curve),
               0.01, "nu: (x, t) -> 24 -> 24 -> 2, starts at 0; 1000 updates of 32");
  figure.series.push_back(curve);
  for (const ConsistencyKind wrong : {ConsistencyKind::kPaper, ConsistencyKind::kRelease}) {
    Common other;
    const auto learned = std::make_shared<Mlp>(2, 24, 5);
    AnalyticSeries other_curve = curve_of(word_of(wrong));
    report.above("excess objective with nu learned by the estimator " + word_of(wrong),
                 train_excess(other, vgg(Eta::kQuadratic, wrong), learned, learned.get(),
                              {.updates = 500, .rate = 0.05, .value_rate = 0.01}, &other_curve),
                 0.01, "general A, 500 updates");
    figure.series.push_back(other_curve);
  }
  report.figures.push_back(figure);
  clocks(report);
}

namespace {

struct Run {
  std::string label;
  std::unique_ptr<Method> method;
  double reach = 0;        ///< bound of the excess objective, 0 where the method has another aim
  std::string curve = {};  ///< its name in the figure, empty where it is left out
};

std::unique_ptr<Method> pmp(AdjointForm adjoint) {
  return std::make_unique<Pmp>(PmpOptions{.beta = kBeta, .adjoint = adjoint}, no_clip());
}
std::unique_ptr<Method> draft(DraftKind kind, int64_t k = 1) {
  return make_draft({.kind = kind, .k = k}, no_clip());
}
std::unique_ptr<Method> fitted(double lambda_return, int64_t steps = 0) {
  return std::make_unique<FittedAdjoint>(
      FittedAdjointOptions{.beta = kBeta, .lambda_return = lambda_return, .steps = steps},
      no_clip());
}

// Settings of single methods, with what is known of them.
std::vector<Run> known_runs() {
  AdjointMatchingOptions unbounded;
  unbounded.clip = TermClip::kNone;
  std::vector<Run> out;
  const auto add = [&](const std::string& label, std::unique_ptr<Method> method, double reach = 0,
                       const std::string& curve = "") {
    out.push_back({label, std::move(method), reach, curve});
  };
  add("VGG-Flow, nu = 0", std::make_unique<VggFlow>(vgg(Eta::kConstant, ConsistencyKind::kOff)), 0,
      "nu = 0");
  const auto guessed = [](Guess guess, const CoarseOptions& coarse) {
    VggFlowOptions o;
    o.beta = kBeta;
    o.guess = guess;
    o.coarse = coarse;
    o.eta = Eta::kConstant;
    return std::make_unique<VggFlow>(o, no_clip());
  };
  add("VGG-Flow, end point", guessed(Guess::kEndpoint, {}));
  add("VGG-Flow, coarse 3", guessed(Guess::kCoarse, {.nodes = 3}));
  add("VGG-Flow, coarse 8", guessed(Guess::kCoarse, {.nodes = 8}));
  add("VGG-Flow, coarse 20, undamped", guessed(Guess::kCoarse, {.nodes = 20, .damping = 1e12}),
      0.01);
  add("PMP lean", pmp(AdjointForm::kLean), 0.01, "PMP");
  add("PMP full", pmp(AdjointForm::kFull), 0.01);
  add("ReFL", std::make_unique<Refl>(ReflOptions{}, no_clip()));
  add("DRaFT-1", draft(DraftKind::kFixed));
  add("DRaFT full", draft(DraftKind::kFull));
  add("DRaFT uniform 10", draft(DraftKind::kUniform, 10));
  add("DRaFT gaussian 10", draft(DraftKind::kGaussian, 10));
  add("DRaFT-LV", draft(DraftKind::kLv));
  add("Adjoint Matching", std::make_unique<AdjointMatching>(unbounded, no_clip()));
  add("fitted adjoint, lambda 1", fitted(1), 0.01);
  for (const double l : {0.0, 0.5, 0.8})
    add(fmt::format("fitted adjoint, lambda {}", l), fitted(l), 0,
        l == 0.5 ? "fitted, lambda 0.5" : "");
  add("fitted adjoint, 5 steps", fitted(0.8, 5));
  return out;
}

// Every registered method as it is by default, so that a new one is tried without a line here.
std::vector<Run> registered_runs() {
  std::vector<Run> out;
  for (const std::string& name : method_names()) {
    MethodOptions options = unclipped();
    if (make_method(name, options)->minimises_objective())
      options.set(name, fmt::format("beta={}", kBeta));
    out.push_back({name, make_method(name, options)});
  }
  return out;
}

}  // namespace

namespace {

// On the one-dimensional mixture no policy class holds the optimum; it is found from each start
// without one.
void mixture_training(AnalyticReport& report) {
  const auto times = uniform_grid(20);
  const Tensor x0 = noise(78, 0, 256, 1);
  const OpenLoop optimum = open_loop_optimum(*mixture(1), *mixture_reward(1), kBeta, x0, times, 40);
  for (const bool lean : {true, false}) {
    const auto control = std::make_shared<Mlp>(1, 24, 21);
    const auto nu = std::make_shared<Mlp>(1, 24, 22);
    Problem problem(mixture(1), mixture_reward(1), control, lean ? nullptr : nu);
    const double base = objective(problem, kBeta, x0, times);
    const std::unique_ptr<Method> method =
        lean ? pmp(AdjointForm::kLean)
             : std::make_unique<VggFlow>(vgg(Eta::kQuadratic, ConsistencyKind::kExact));
    train(problem, *method, *control, nu.get(), {.updates = 400, .width = 1, .rate = 0.02}, times);
    const double reached = objective(problem, kBeta, x0, times);
    report.below(
        std::string(lean ? "PMP lean" : "VGG-Flow, learned nu") + ", mixture 1-D: excess objective",
        (reached - optimum.objective) / optimum.objective, 0.01,
        fmt::format("{:.5f}; open-loop optimum {:.5f}, base {:.5f}; policy and nu are networks, "
                    "400 updates",
                    reached, optimum.objective, base));
  }
}

}  // namespace

void every_method(AnalyticReport& report) {
  std::vector<Run> list = known_runs();
  for (Run& run : registered_runs()) list.push_back(std::move(run));
  std::string refusal;
  try {
    make_method("no such method", {});
  } catch (const Error& e) {
    refusal = e.what();
  }
  double unnamed = 0;
  for (const std::string& name : method_names())
    unnamed += refusal.find(name) == std::string::npos ? 1 : 0;
  report.below("methods that the refusal of an unknown name leaves out", unnamed, 0.5, refusal);
  AnalyticFigure figure{
      "analytic_methods", "Excess objective over training", "update", "(J - J*) / J*", true, {}};
  const Common fresh;
  for (const Run& run : list) {
    Common c;
    AnalyticSeries curve = curve_of(run.curve);
    const double excess = train_excess(c, *run.method, nullptr, nullptr, {.updates = 200}, &curve);
    const std::string note =
        fmt::format("excess {:.2e}, mean reward {:.3f} (base {:.2f}, {:.3f}; optimum 0, {:.3f})",
                    excess, c.reward_now(), fresh.excess(), fresh.reward_now(), [&] {
                      Common best;
                      best.control = best.optimum.control();
                      return best.reward_now();
                    }());
    if (run.method->minimises_objective()) {
      report.below(run.label + ": objective / base's", c.objective_now() / fresh.objective_now(), 1,
                   note);
    } else {
      report.above(run.label + ": reward - base's", c.reward_now() - fresh.reward_now(), 0, note);
    }
    if (run.reach > 0)
      report.below(run.label + ": excess objective", excess, run.reach, "reaches the optimum");
    if (!run.curve.empty()) figure.series.push_back(curve);
  }
  Common c;
  const Riccati riccati(general_base(), reward_matrix(), kBeta);
  const auto exact = std::make_shared<ExactCorrection>(
      [&](const Tensor& x, const Tensor& t) { return riccati.gradient(x, t); }, c.base, c.control,
      c.reward, Eta::kQuadratic);
  constexpr bool kBoundary = false;  // nothing of this nu can be trained
  report.below("VGG-Flow, exact nu: excess objective",
               train_excess(c, vgg(Eta::kQuadratic, ConsistencyKind::kOff, kBoundary), exact,
                            nullptr, {.updates = 200}),
               0.01, "reaches the optimum");
  report.figures.push_back(figure);
  mixture_training(report);
}

}  // namespace vggflow::analytic
