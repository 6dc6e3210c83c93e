#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

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
    method.update(problem, update_input(training.seed, static_cast<uint64_t>(i), training.batch,
                                        training.width, times));
    const double left = 1 - static_cast<double>(i) / static_cast<double>(training.updates);
    policy_adam.step(policy, left * training.rate);
    if (value && value->parameters.grad().defined())
      value_adam.step(*value, left * training.value_rate);
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

MethodOptions vgg(const std::string& eta, const std::string& consistency) {
  MethodOptions o = unclipped();
  o.vgg.beta = kBeta;
  o.vgg.eta = eta;
  o.vgg.consistency.kind = consistency;
  return o;
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
  for (const char* schedule : {"constant", "linear", "quadratic"}) {
    Common c;
    AnalyticSeries curve = curve_of(std::string("guess ") + schedule);
    report.above(std::string("excess objective of the one-step guess, eta ") + schedule,
                 train_excess(c, *make_method("vgg-flow", vgg(schedule, "off")), nullptr, nullptr,
                              {.updates = 250}, &curve),
                 0.01, "nu = 0: not the optimum");
    if (curve.name == "guess quadratic") figure.series.push_back({"nu = 0", curve.x, curve.y});
  }
  Common c;
  const auto nu = std::make_shared<Mlp>(2, 24, 5);
  AnalyticSeries curve = curve_of("exact");
  const Training training{.updates = 1000, .rate = 0.05, .value_rate = 0.01};
  report.below("excess objective with a learned nu",
               train_excess(c, *make_method("vgg-flow", vgg("quadratic", "exact")), nu, nu.get(),
                            training, &curve),
               0.01, "nu: (x, t) -> 24 -> 24 -> 2, starts at 0; 1000 updates of 32");
  figure.series.push_back(curve);
  for (const char* wrong : {"paper", "release"}) {
    Common other;
    const auto learned = std::make_shared<Mlp>(2, 24, 5);
    AnalyticSeries other_curve = curve_of(wrong);
    report.above(std::string("excess objective with nu learned by the estimator ") + wrong,
                 train_excess(other, *make_method("vgg-flow", vgg("quadratic", wrong)), learned,
                              learned.get(), training, &other_curve),
                 0.01, "general A, the same training");
    figure.series.push_back(other_curve);
  }
  report.figures.push_back(figure);
}

namespace {

struct Run {
  std::string label, method;
  MethodOptions options;
  double reach = 0;        ///< bound of the excess objective, 0 where the method has another aim
  std::string curve = {};  ///< its name in the figure, empty where it is left out
};

MethodOptions with(const std::function<void(MethodOptions&)>& change) {
  MethodOptions o = unclipped();
  o.pmp.beta = o.fitted.beta = o.vgg.beta = kBeta;
  change(o);
  return o;
}

std::vector<Run> runs() {
  std::vector<Run> out{
      {"VGG-Flow, nu = 0", "vgg-flow", vgg("constant", "off"), 0, "nu = 0"},
      {"PMP lean", "vgg-flow-pmp", with([](MethodOptions&) {}), 0.01, "PMP"},
      {"PMP full", "vgg-flow-pmp", with([](MethodOptions& o) { o.pmp.adjoint = "full"; }), 0.01},
      {"ReFL", "refl", with([](MethodOptions&) {})},
      {"DRaFT-1", "draft", with([](MethodOptions&) {})},
      {"DRaFT full", "draft", with([](MethodOptions& o) { o.draft.kind = "full"; })},
      {"DRaFT uniform 10", "draft", with([](MethodOptions& o) {
         o.draft.kind = "uniform";
         o.draft.k = 10;
       })},
      {"DRaFT gaussian 10", "draft", with([](MethodOptions& o) {
         o.draft.kind = "gaussian";
         o.draft.k = 10;
       })},
      {"DRaFT-LV", "draft", with([](MethodOptions& o) { o.draft.kind = "lv"; })},
      {"Adjoint Matching", "adjoint-matching",
       with([](MethodOptions& o) { o.adjoint_matching.clip = "none"; })},
      {"fitted adjoint, lambda 1", "fitted-adjoint",
       with([](MethodOptions& o) { o.fitted.lambda_return = 1; }), 0.01},
  };
  for (const double l : {0.0, 0.5, 0.8}) {
    out.push_back({fmt::format("fitted adjoint, lambda {}", l), "fitted-adjoint",
                   with([l](MethodOptions& o) { o.fitted.lambda_return = l; }), 0,
                   l == 0.5 ? "fitted, lambda 0.5" : ""});
  }
  out.push_back({"fitted adjoint, 5 steps", "fitted-adjoint",
                 with([](MethodOptions& o) { o.fitted.steps = 5; })});
  return out;
}

// Whether the method minimises J; the others raise the reward.
bool minimises_objective(const std::string& method) {
  return method == "vgg-flow" || method == "vgg-flow-pmp" || method == "fitted-adjoint";
}

}  // namespace

namespace {

// On the one-dimensional mixture no policy class holds the optimum; it is found from each start
// without one.
void mixture_training(AnalyticReport& report) {
  const auto times = uniform_grid(20);
  const Tensor x0 = noise(78, 0, 256, 1);
  const OpenLoop optimum = open_loop_optimum(*mixture(1), *mixture_reward(1), kBeta, x0, times, 40);
  for (const bool pmp : {true, false}) {
    const auto control = std::make_shared<Mlp>(1, 24, 21);
    const auto nu = std::make_shared<Mlp>(1, 24, 22);
    Problem problem(mixture(1), mixture_reward(1), control, pmp ? nullptr : nu);
    const double base = objective(problem, kBeta, x0, times);
    train(problem, *make_method(pmp ? "vgg-flow-pmp" : "vgg-flow", with([](MethodOptions&) {})),
          *control, nu.get(), {.updates = 400, .width = 1, .rate = 0.02}, times);
    const double reached = objective(problem, kBeta, x0, times);
    report.below(
        std::string(pmp ? "PMP lean" : "VGG-Flow, learned nu") + ", mixture 1-D: excess objective",
        (reached - optimum.objective) / optimum.objective, 0.01,
        fmt::format("{:.5f}; open-loop optimum {:.5f}, base {:.5f}; policy and nu are networks, "
                    "400 updates",
                    reached, optimum.objective, base));
  }
}

}  // namespace

void every_method(AnalyticReport& report) {
  const auto list = runs();
  for (const std::string& name : method_names()) {
    const bool covered =
        std::any_of(list.begin(), list.end(), [&](const Run& r) { return r.method == name; });
    report.above("runs of " + name, covered ? 1 : 0, 0, "every registered method is tried");
  }
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
    const double excess = train_excess(c, *make_method(run.method, run.options), nullptr, nullptr,
                                       {.updates = 200}, &curve);
    const std::string note =
        fmt::format("excess {:.2e}, mean reward {:.3f} (base {:.2f}, {:.3f}; optimum 0, {:.3f})",
                    excess, c.reward_now(), fresh.excess(), fresh.reward_now(), [&] {
                      Common best;
                      best.control = best.optimum.control();
                      return best.reward_now();
                    }());
    if (minimises_objective(run.method)) {
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
      c.reward, "quadratic");
  MethodOptions options = vgg("quadratic", "off");
  options.vgg.boundary = false;  // nothing of this nu can be trained
  report.below("VGG-Flow, exact nu: excess objective",
               train_excess(c, *make_method("vgg-flow", options), exact, nullptr, {.updates = 200}),
               0.01, "reaches the optimum");
  report.figures.push_back(figure);
  mixture_training(report);
}

}  // namespace vggflow::analytic
