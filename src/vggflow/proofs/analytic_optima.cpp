#include "vggflow/proofs/analytic_optima.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "vggflow/algorithms/adjoint_matching.h"
#include "vggflow/algorithms/consistency.h"
#include "vggflow/core/error.h"

namespace vggflow::analytic {

namespace {

Trajectory roll(AlignmentProblem& problem, const Tensor& x0, const std::vector<double>& times) {
  return integrate([&](const Tensor& x, const Tensor& t) { return problem.rollout_velocity(x, t); },
                   x0, times);
}

Tensor time_of(const Tensor& x, double t) { return at::full({x.size(0)}, t, x.options()); }

}  // namespace

double objective(AlignmentProblem& problem, double beta, const Tensor& x0,
                 const std::vector<double>& times) {
  at::NoGradGuard no_grad;
  const Trajectory path = roll(problem, x0, times);
  Tensor cost = -problem.reward(path.final_state(), at::arange(x0.size(0)));
  for (size_t k = 0; k + 1 < times.size(); ++k) {
    const double h = times[k + 1] - times[k];
    const Tensor u =
        (path.states[k + 1] - path.states[k]) / h - problem.base(states(path.states[k], times[k]));
    cost = cost + h / (2 * beta) * u.square().sum(1);
  }
  return cost.mean().item<double>();
}

double mean_reward(AlignmentProblem& problem, const Tensor& x0, const std::vector<double>& times) {
  at::NoGradGuard no_grad;
  return problem.reward(roll(problem, x0, times).final_state(), at::arange(x0.size(0)))
      .mean()
      .item<double>();
}

Tensor Riccati::value_matrix(double t) const {
  if (const auto found = known_.find(t); found != known_.end()) return found->second;
  at::NoGradGuard no_grad;
  const Tensor at = a_.t();
  const double h = (1 - t) / static_cast<double>(steps_);
  const auto f = [&](const Tensor& m) { return beta_ * m.matmul(m) - m.matmul(a_) - at.matmul(m); };
  Tensor k = r_.clone();
  for (int64_t i = 0; i < steps_; ++i) {
    const Tensor k1 = f(k), k2 = f(k - h / 2 * k1), k3 = f(k - h / 2 * k2), k4 = f(k - h * k3);
    k = k - h / 6 * (k1 + 2 * k2 + 2 * k3 + k4);
  }
  return known_[t] = k;
}

Tensor Riccati::gradient(const Tensor& x, const Tensor& t) const {
  std::vector<Tensor> k;
  for (int64_t i = 0; i < t.numel(); ++i) k.push_back(value_matrix(t[i].item<double>()));
  return at::stack(k).matmul(x.unsqueeze(2)).squeeze(2);
}

DiscreteRiccati::DiscreteRiccati(const Tensor& a, const Tensor& r, double beta,
                                 const std::vector<double>& grid)
    : times(grid), values(grid.size()), gains(grid.size() - 1) {
  const Tensor one = at::eye(a.size(0), a.options());
  values.back() = r;
  for (size_t k = times.size() - 1; k-- > 0;) {
    const double h = times[k + 1] - times[k];
    const Tensor f = one + h * a, s = at::linalg_solve(one + h * beta * values[k + 1], f);
    gains[k] = -beta * values[k + 1].matmul(s);
    values[k] = f.t().matmul(values[k + 1]).matmul(s);
  }
}

double DiscreteRiccati::objective(const Tensor& x0) const {
  return 0.5 * (x0 * x0.matmul(values[0].t())).sum(1).mean().item<double>();
}

std::shared_ptr<BinnedLinear> DiscreteRiccati::control() const {
  const int64_t d = gains[0].size(0);
  auto out = std::make_shared<BinnedLinear>(times, d);
  for (size_t k = 0; k < gains.size(); ++k)
    out->set(static_cast<int64_t>(k), gains[k], at::zeros({d}, at::kDouble));
  return out;
}

namespace {

// [grad v] a of a gradient field.
Tensor push(const Field& field, const Tensor& x, const Tensor& t, const Tensor& a) {
  return field(Dual{x, a}, Dual{t, at::zeros_like(t)}).tangent;
}

}  // namespace

Characteristics::Values Characteristics::back(const Tensor& x1, double t) const {
  at::NoGradGuard no_grad;
  const int64_t d = x1.size(1);
  const double h = (1 - t) / static_cast<double>(steps_);
  // z = (x, a, cost); the derivative in time.
  const auto f = [&](const Tensor& z, double time) {
    const Tensor x = z.narrow(1, 0, d), a = z.narrow(1, d, d);
    const Dual v =
        (*base_)(Dual{x, a}, Dual{time_of(x, time), at::zeros({x.size(0)}, x.options())});
    return at::cat({v.value - beta_ * a, -v.tangent, -beta_ / 2 * a.square().sum(1, true)}, 1);
  };
  Tensor z = at::cat({x1, -reward_->gradient(x1), -(*reward_)(x1).unsqueeze(1)}, 1);
  for (int64_t i = 0; i < steps_; ++i) {
    const double at = 1 - h * static_cast<double>(i);
    const Tensor k1 = f(z, at), k2 = f(z - h / 2 * k1, at - h / 2),
                 k3 = f(z - h / 2 * k2, at - h / 2), k4 = f(z - h * k3, at - h);
    z = z - h / 6 * (k1 + 2 * k2 + 2 * k3 + k4);
  }
  return {z.narrow(1, 0, d), z.narrow(1, d, d), z.select(1, 2 * d)};
}

// d x(t) / d x_1 (M, d, d) by central differences, and the values at x_1 itself, from one
// integration.
Tensor Characteristics::jacobian(const Tensor& x1, double t, Values& values) const {
  constexpr double kStep = 1e-5;
  const int64_t m = x1.size(0), d = x1.size(1);
  std::vector<Tensor> points{x1};
  for (int64_t i = 0; i < d; ++i) {
    const Tensor e = kStep * at::eye(d, x1.options())[i];
    points.push_back(x1 + e);
    points.push_back(x1 - e);
  }
  const Values all = back(at::cat(points), t);
  values = {all.x.narrow(0, 0, m), all.gradient.narrow(0, 0, m), all.value.narrow(0, 0, m)};
  std::vector<Tensor> columns;
  for (int64_t i = 0; i < d; ++i)
    columns.push_back((all.x.narrow(0, (2 * i + 1) * m, m) - all.x.narrow(0, (2 * i + 2) * m, m)) /
                      (2 * kStep));
  return at::stack(columns, 2);
}

Tensor Characteristics::determinant(const Tensor& x1, double t) const {
  Values values;
  return at::linalg_det(jacobian(x1, t, values));
}

Characteristics::Values Characteristics::at(const Tensor& x, double t) const {
  constexpr int kMostIterations = 40;
  Tensor x1 = x;
  Values values;
  for (int i = 0; i < kMostIterations; ++i) {
    const Tensor j = jacobian(x1, t, values);
    const Tensor miss = values.x - x;
    if (miss.abs().max().item<double>() < 1e-12) return values;
    const Tensor move = at::linalg_solve(j, miss.unsqueeze(2)).squeeze(2);
    x1 = x1 - move.clamp(-1, 1);
  }
  const double left = (back(x1, t).x - x).abs().max().item<double>();
  VGGFLOW_CHECK(left < 1e-9,
                "[characteristics] expected a path through every point at t = {}, missed one by {}",
                t, left);
  return back(x1, t);
}

OpenLoop open_loop_optimum(const Field& base, const Reward& reward, double beta, const Tensor& x0,
                           const std::vector<double>& times, int64_t sweeps) {
  constexpr double kDamping = 0.5;
  at::NoGradGuard no_grad;
  const size_t n = times.size() - 1;
  OpenLoop out{
      {times, {}}, std::vector<Tensor>(n, at::zeros_like(x0)), std::vector<Tensor>(n + 1), 0, 0};
  for (int64_t i = 0; i < sweeps; ++i) {
    auto& x = out.trajectory.states;
    x = {x0};
    for (size_t k = 0; k < n; ++k)
      x.push_back(x[k] + (times[k + 1] - times[k]) *
                             (base(x[k], time_of(x0, times[k])) + out.controls[k]));
    Tensor cost = -reward(x[n]);
    out.adjoints[n] = -reward.gradient(x[n]);
    out.change = 0;
    for (size_t k = n; k-- > 0;) {
      const double h = times[k + 1] - times[k];
      const Tensor& a = out.adjoints[k + 1];
      out.adjoints[k] = a + h * push(base, x[k], time_of(x0, times[k]), a);
      cost = cost + h / (2 * beta) * out.controls[k].square().sum(1);
      const Tensor miss = out.controls[k] + beta * a;
      out.change = std::max(out.change, miss.abs().max().item<double>());
      out.controls[k] = out.controls[k] - kDamping * miss;
    }
    out.objective = cost.mean().item<double>();
  }
  VGGFLOW_CHECK(out.change < 1e-6,
                "[open_loop] expected controls that settle, the last of {} sweeps left {}: lower "
                "beta or the reward's curvature",
                sweeps, out.change);
  return out;
}

Tensor ExactCorrection::operator()(const Tensor& x, const Tensor& t) const {
  at::NoGradGuard no_grad;
  const Tensor end = one_step_guess(x, t, (*base_)(x, t) + (*control_)(x, t));
  return g_(x, t) + expand_time(eta(eta_, t), x) * reward_->gradient(end);
}

Dual ExactCorrection::operator()(const Dual& x, const Dual& t) const {
  constexpr double kStep = 1e-3;
  const auto at = [&](double s) {
    return (*this)(x.value + s * kStep * x.tangent, t.value + s * kStep * t.tangent);
  };
  return {at(0), (at(-2) - 8 * at(-1) + 8 * at(1) - at(2)) / (12 * kStep)};
}

double Tilt::target_variance() const { return 1 / (1 / (deviation * deviation) + lambda * k); }
double Tilt::target_mean() const {
  return target_variance() * (mean / (deviation * deviation) + lambda * k * centre);
}
FieldPtr Tilt::base() const {
  return std::make_shared<MixtureField>(vector({1}), matrix({{mean}}), vector({deviation}));
}
RewardPtr Tilt::reward() const {
  return std::make_shared<Quadratic>(matrix({{k}}), vector({centre}));
}

namespace {

// The step t -> t + h of the memoryless SDE with v_base = p x + q: x_{k+1} = drift x + 2 h q + 2 h
// c(x) + sqrt(h) sigma e.
struct Step {
  double h, p, q, drift, sigma;
};

Step step_of(const Tilt& o, const std::vector<double>& times, size_t k) {
  const double t = times[k], h = times[k + 1] - t, s2 = o.deviation * o.deviation;
  const double p = (t * s2 - (1 - t)) / (t * t * s2 + (1 - t) * (1 - t));
  return {h, p, o.mean * (1 - p * t), 1 + h * (2 * p - 1 / (t + h)), memoryless_sigma(t, h)};
}

}  // namespace

Gaussian memoryless_end(const Tilt& tilt, const std::vector<double>& times,
                        const std::vector<double>& slopes, const std::vector<double>& offsets) {
  Gaussian x;
  for (size_t k = 0; k + 2 < times.size(); ++k) {
    const Step s = step_of(tilt, times, k);
    const double factor = s.drift + 2 * s.h * slopes[k];
    x = {factor * x.mean + 2 * s.h * (s.q + offsets[k]),
         factor * factor * x.variance + s.h * s.sigma * s.sigma};
  }
  const Step last = step_of(tilt, times, times.size() - 2);
  const double factor = 1 + last.h * last.p;
  return {factor * x.mean + last.h * last.q, factor * factor * x.variance};
}

TiltFixedPoint::TiltFixedPoint(const Tilt& o, const std::vector<double>& grid)
    : times(grid), slopes(grid.size() - 1), offsets(grid.size() - 1) {
  const size_t n = times.size() - 1;
  double product = 1, m = 1, c = 0;  // of (1 + h b'), and E[x_N | x_{k+1}] = m x + c
  for (size_t k = n; k-- > 0;) {
    const Step s = step_of(o, times, k);
    product *= s.drift;
    const double pull =
        s.sigma * s.sigma / 2 * o.lambda * o.k * product;  // c_k = -pull (E[x_N | x_k] - centre)
    if (k + 1 == n) {
      m = 1 + s.h * s.p;
      c = s.h * s.q;
    } else {  // E = m (drift x + 2 h q - 2 h pull (E - centre)) + c, solved for E
      const double denominator = 1 + 2 * s.h * m * pull;
      c = (2 * s.h * s.q * m + c + 2 * s.h * m * pull * o.centre) / denominator;
      m = m * s.drift / denominator;
    }
    slopes[k] = -pull * m;
    offsets[k] = -pull * (c - o.centre);
  }
  const Gaussian end = memoryless_end(o, times, slopes, offsets);
  mean = end.mean;
  variance = end.variance;
}

std::shared_ptr<BinnedLinear> TiltFixedPoint::control() const {
  auto out = std::make_shared<BinnedLinear>(times, 1);
  for (size_t k = 0; k < slopes.size(); ++k)
    out->set(static_cast<int64_t>(k), matrix({{slopes[k]}}), vector({offsets[k]}));
  return out;
}

}  // namespace vggflow::analytic
