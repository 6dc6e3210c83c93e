#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/algorithms/adjoint.h"
#include "vggflow/algorithms/coarse_adjoint.h"
#include "vggflow/algorithms/fitted_adjoint.h"
#include "vggflow/algorithms/pmp.h"
#include "vggflow/core/error.h"
#include "vggflow/proofs/analytic_claims.h"

namespace vggflow::analytic {
namespace {

struct Swept {
  Trajectory path;
  std::vector<Tensor> lean, full;
};

// The adjoints of the discrete optimum's trajectories.
Swept sweep_optimum(const Tensor& a, const DiscreteRiccati& optimum) {
  Problem problem(std::make_shared<LinearField>(a),
                  std::make_shared<Quadratic>(reward_matrix(), at::zeros({2}, at::kDouble)),
                  optimum.control());
  const Tensor rows = at::arange(8);
  const Trajectory path = roll_out(problem, update_input(3, 0, 8, 2, optimum.times));
  const Tensor end = path.final_state().matmul(reward_matrix().t());
  const auto full = [&](const States& s, double h, const Tensor& c) {
    return full_adjoint_step(problem, s, h, c, 1 / kBeta);
  };
  return {path, sweep(path, rows, end, 3, lean_step(problem)), sweep(path, rows, end, 3, full)};
}

double largest_miss(const std::vector<Tensor>& adjoints, const Trajectory& path,
                    const std::function<Tensor(size_t)>& value_matrix) {
  double worst = 0;
  for (size_t k = 0; k < adjoints.size(); ++k)
    worst = std::max(worst, largest(adjoints[k] - path.states[k].matmul(value_matrix(k).t())));
  return worst;
}

// Largest |a_k - grad V(x_k, t_k)| over the open-loop optimum of a mixture on a grid of n steps.
struct OpenLoopMiss {
  double gradient, value, change;
};
OpenLoopMiss open_loop_miss(int64_t width, int64_t n) {
  const auto base = mixture(width);
  const auto reward = mixture_reward(width);
  const Characteristics paths(base, reward, kBeta, 32);
  const Tensor x0 = noise(5, 0, 6, width);
  const OpenLoop o = open_loop_optimum(*base, *reward, kBeta, x0, uniform_grid(n), 40);
  const auto middle = static_cast<size_t>(n / 2);
  const double miss =
      std::max(largest(o.adjoints[0] - paths.at(x0, 0).gradient),
               largest(o.adjoints[middle] - paths.at(o.trajectory.states[middle], 0.5).gradient));
  return {miss, std::abs(o.objective - paths.at(x0, 0).value.mean().item<double>()), o.change};
}

}  // namespace

void adjoints_on_optimal_paths(AnalyticReport& report) {
  for (const bool symmetric : {true, false}) {
    const Tensor a = symmetric ? symmetric_base() : general_base();
    const std::string name = symmetric ? "symmetric A" : "general A";
    const Riccati riccati(a, reward_matrix(), kBeta);
    std::vector<double> miss;
    for (const int64_t n : {20, 80, 160}) {
      const DiscreteRiccati optimum(a, reward_matrix(), kBeta, uniform_grid(n));
      const Swept swept = sweep_optimum(a, optimum);
      if (n == 20) {
        report.below(
            "lean adjoint - P_k x_k, " + name,
            largest_miss(swept.lean, swept.path, [&](size_t k) { return optimum.values[k]; }),
            1e-12, "20 steps");
        report.below(
            "full adjoint - P_k x_k, " + name,
            largest_miss(swept.full, swept.path, [&](size_t k) { return optimum.values[k]; }),
            1e-12, "20 steps");
      } else {
        miss.push_back(largest_miss(swept.lean, swept.path, [&](size_t k) {
          return riccati.value_matrix(swept.path.times[k]);
        }));
      }
    }
    report.below(
        "adjoint -> grad V's order, " + name, std::abs(std::log2(miss[0] / miss[1]) - 1), 0.1,
        fmt::format("largest |a - K x| {:.1e} with 80 steps, {:.1e} with 160", miss[0], miss[1]));
  }
  for (const int64_t width : {1, 2}) {
    const std::string name = fmt::format("mixture {}-D", width);
    const OpenLoopMiss coarse = open_loop_miss(width, 40), fine = open_loop_miss(width, 80);
    report.below("adjoint -> grad V's order, " + name,
                 std::abs(std::log2(coarse.gradient / fine.gradient) - 1), 0.15,
                 fmt::format("open-loop optima against characteristics: {:.1e} with 40 steps, "
                             "{:.1e} with 80; objectives differ by {:.1e}, {:.1e}",
                             coarse.gradient, fine.gradient, coarse.value, fine.value));
    const Characteristics paths(mixture(width), mixture_reward(width), kBeta);
    const Tensor x = noise(6, 0, 4, width);
    std::vector<Tensor> columns;
    for (int64_t i = 0; i < width; ++i) {
      const Tensor e = 1e-4 * at::eye(width, at::kDouble)[i];
      columns.push_back((paths.at(x + e, 0.3).value - paths.at(x - e, 0.3).value) / 2e-4);
    }
    report.below("a - central difference of V, " + name,
                 largest(paths.at(x, 0.3).gradient - at::stack(columns, 1)), 1e-6,
                 "characteristics, t = 0.3");
    const Tensor line = at::linspace(-4, 4, 17, at::kDouble);
    const Tensor ends = width == 1 ? line.unsqueeze(1)
                                   : at::stack(at::meshgrid({line, line}, "ij"), 2).view({-1, 2});
    report.above("smallest det d x_0 / d x_1, " + name,
                 paths.determinant(ends, 0).min().item<double>(), 0.05,
                 "one path through each x_0, so it is the optimum");
  }
  const auto times = uniform_grid(50);
  const Tensor x0 = at::linspace(-2, 2, 7, at::kDouble).unsqueeze(1);
  const OpenLoop optimum = open_loop_optimum(*mixture(1), *mixture_reward(1), kBeta, x0, times, 40);
  const Trajectory base =
      integrate([](const Tensor& x, const Tensor& t) { return (*mixture(1))(x, t); }, x0, times);
  AnalyticFigure trajectories{
      "analytic_trajectories", "Mixture base, reward at 0.7: paths", "t", "x", false, {}};
  AnalyticFigure controls{
      "analytic_control", "Optimal control along the same paths", "t", "v - v_base", false, {}};
  for (int64_t i = 1; i < 7; i += 4) {
    const std::string from_x = fmt::format("{:.1f}", x0[i].item<double>());
    AnalyticSeries free{"base " + from_x, {}, {}, true}, best{"optimal", {}, {}},
        control{"from " + from_x, {}, {}};
    for (size_t k = 0; k < times.size(); ++k) {
      free.x.push_back(times[k]), free.y.push_back(base.states[k][i].item<double>());
      best.x.push_back(times[k]), best.y.push_back(optimum.trajectory.states[k][i].item<double>());
      if (k + 1 < times.size())
        control.x.push_back(times[k]), control.y.push_back(optimum.controls[k][i].item<double>());
    }
    trajectories.series.push_back(free);
    trajectories.series.push_back(best);
    controls.series.push_back(control);
  }
  report.figures.push_back(trajectories);
  report.figures.push_back(controls);
}

namespace {

// A Riccati problem, its discrete optimum's trajectories and the one-step guesses along them.
struct Guessed {
  Guessed(const Tensor& a, int64_t n)
      : optimum(a, reward_matrix(), kBeta, uniform_grid(n)),
        problem(std::make_shared<LinearField>(a),
                std::make_shared<Quadratic>(reward_matrix(), at::zeros({2}, at::kDouble)),
                optimum.control()) {
    path = roll_out(problem, update_input(3, 0, 64, 2, optimum.times));
    guesses.resize(optimum.times.size());
    for (size_t k = 1; k < optimum.times.size(); ++k) {
      const States s = states(path.states[k], optimum.times[k]);
      const Tensor velocity =
          k + 1 < optimum.times.size() ? problem.rollout_velocity(s.x, s.t) : at::zeros_like(s.x);
      guesses[k] = one_step_guess(s.x, s.t, velocity).matmul(reward_matrix().t());
    }
  }
  std::vector<Tensor> targets(double lambda, int64_t steps) {
    FittedAdjointOptions o;
    o.lambda_return = lambda;
    o.steps = steps;
    return fitted_targets(problem, path, at::arange(64), guesses, o, 25);
  }
  DiscreteRiccati optimum;
  Problem problem;
  Trajectory path;
  std::vector<Tensor> guesses;
};

// Root mean square of target - P_k x_k over that of P_k x_k.
double target_error(const Guessed& g, const std::vector<Tensor>& targets) {
  std::vector<Tensor> miss, truth;
  for (size_t k = 1; k < targets.size(); ++k) {
    truth.push_back(g.path.states[k].matmul(g.optimum.values[k].t()));
    miss.push_back(targets[k] - truth.back());
  }
  return relative(at::cat(miss), at::cat(truth));
}

}  // namespace

void fitted_adjoints(AnalyticReport& report) {
  const Tensor a = general_base();
  Guessed hand(a, 3);
  const auto pull = [&](size_t k, const Tensor& c) {
    return c + (hand.path.times[k + 1] - hand.path.times[k]) * c.matmul(a);
  };
  const auto& g = hand.guesses;
  const double lambda = 0.4;
  report.below("lambda 0 by hand", largest(hand.targets(0, 0)[1] - pull(1, g[2])), 1e-14,
               "P_1 G_2");
  report.below("2-step target by hand", largest(hand.targets(0, 2)[1] - pull(1, pull(2, g[3]))),
               1e-14, "P_1 P_2 G_3");
  report.below("1-step target by hand", largest(hand.targets(1, 1)[1] - pull(1, g[2])), 1e-14,
               "P_1 G_2");
  report.below("lambda-return by hand",
               largest(hand.targets(lambda, 0)[1] - (1 - lambda) * pull(1, g[2]) -
                       lambda * pull(1, pull(2, g[3]))),
               1e-14, "(1 - lambda) P_1 G_2 + lambda P_1 P_2 G_3");

  Guessed fine(a, 20);
  const Swept swept = sweep_optimum(a, fine.optimum);
  const auto pmp =
      sweep(fine.path, at::arange(64), fine.guesses.back(), 64, lean_step(fine.problem));
  double miss = 0;
  const auto full = fine.targets(1, 0);
  for (size_t k = 1; k < full.size(); ++k) miss = std::max(miss, largest(full[k] - pmp[k]));
  report.below("lambda 1 - PMP's lean adjoint", miss, 1e-14, "20 steps");

  Tensor mixed = at::zeros_like(full[1]);
  for (int64_t n = 1; n < 19; ++n)
    mixed = mixed + (1 - lambda) * std::pow(lambda, n - 1) * fine.targets(0, n)[1];
  mixed = mixed + std::pow(lambda, 18) * fine.targets(0, 19)[1];
  report.below("lambda-return - mixture of n-step targets",
               largest(fine.targets(lambda, 0)[1] - mixed), 1e-13, "at x_1 of 20 steps");

  AnalyticFigure figure{"analytic_fitted",
                        "Error of fitted adjoints on optimal paths",
                        "lambda",
                        "|g_k - grad V| / |grad V|",
                        false,
                        {{"lambda-return", {}, {}}}};
  std::string table;
  std::vector<double> errors;
  for (const double l : {0.0, 0.25, 0.5, 0.75, 0.9, 1.0}) {
    errors.push_back(target_error(fine, fine.targets(l, 0)));
    figure.series[0].x.push_back(l);
    figure.series[0].y.push_back(errors.back());
    table += fmt::format("{}{:.4f} at {}", table.empty() ? "" : ", ", errors.back(), l);
  }
  report.figures.push_back(figure);
  report.below("target error at lambda 1", errors.back(), 1e-12,
               "relative to |grad V|, Riccati, optimal paths");
  report.below("target error at lambda 0.5 / at lambda 0", errors[2] / errors[0], 1,
               "between, though not by much: " + table);
  double rise = -1;
  for (size_t i = 0; i + 1 < errors.size(); ++i) rise = std::max(rise, errors[i + 1] - errors[i]);
  report.below("largest change of the target error with lambda", rise, 0, "it falls throughout");
}

namespace {

// Of one Gaussian mode of width s, N(0, s^2 I): the lean adjoint's and the coarse one's share of
// the end's cotangent, and the root mean square of their difference over t > 0.
double gaussian_error(double s, const CoarseOptions& o) {
  Problem problem(std::make_shared<MixtureField>(vector({1}), matrix({{0, 0}}), vector({s})),
                  mixture_reward(2), std::make_shared<LinearField>(at::zeros({2, 2}, at::kDouble)));
  const Tensor rows = at::arange(4), end = noise(8, 0, 4, 2);
  const Trajectory path = roll_out(problem, update_input(3, 0, 4, 2, uniform_grid(20)));
  const auto lean = sweep(path, rows, end, 4, lean_step(problem));
  const auto coarse = coarse_adjoint(problem, path, rows, end, o, 4).adjoints;
  std::vector<Tensor> miss(coarse.size() - 1);
  for (size_t k = 1; k < coarse.size(); ++k) miss[k - 1] = coarse[k] - lean[k];
  return relative(at::cat(miss), at::cat(std::vector<Tensor>(lean.begin() + 1, lean.end())));
}

}  // namespace

void coarse_adjoints(AnalyticReport& report) {
  Guessed fine(general_base(), 20);
  const auto error = [&](const CoarseOptions& o) {
    return target_error(
        fine, coarse_adjoint(fine.problem, fine.path, at::arange(64), fine.guesses.back(), o, 25)
                  .adjoints);
  };
  constexpr double kUndamped = 1e12;
  report.below("coarse adjoint, a node at every step, undamped: error",
               error({.nodes = 20, .damping = kUndamped}), 1e-12,
               "PMP's lean adjoint; relative to |grad V|, Riccati, general A, optimal paths");
  std::string table;
  std::vector<double> errors;
  for (const int64_t nodes : {1, 3, 5, 8}) {
    errors.push_back(error({.nodes = nodes}));
    table += fmt::format("{}{:.3f} with {}", table.empty() ? "" : ", ", errors.back(), nodes);
  }
  report.below("coarse adjoint with 8 nodes / with 1: error", errors.back() / errors.front(), 0.5,
               table);
  for (const double s : {0.5, 1.0, 2.0}) {
    const double few = gaussian_error(s, {.nodes = 3}), more = gaussian_error(s, {.nodes = 8});
    report.below(fmt::format("coarse adjoint, Gaussian base of width {}: error with 8 nodes", s),
                 more, 0.25, fmt::format("relative; {:.3f} with 3", few));
  }
}

}  // namespace vggflow::analytic
