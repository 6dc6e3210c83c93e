// Targets that one gradient at the end point and a truncated adjoint make, where the fixed point of
// "regress on own rollouts" is known: bases with one Gaussian mode.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <numbers>
#include <string>
#include <vector>

#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/pmp.h"
#include "vggflow/algorithms/transitions.h"
#include "vggflow/algorithms/vgg_flow.h"
#include "vggflow/core/error.h"
#include "vggflow/proofs/analytic_claims.h"

namespace vggflow::analytic {
namespace {

constexpr double kCurvature = 2, kCentre = 0.7;

// Base N(0, s^2) in one dimension, r = -k (x - m)^2 / 2, and targets v_base - beta w_i
// grad(-r)(x_N) at the steps i. With f_i = 1 + h_i a_i the base's steps, Phi_i their product before
// step i, J_i from step i on:
//
//   x_N = Phi_N x_0 - beta k S (x_N - m),   S = sum_i h_i J_{i+1} w_i,
//   x_i = Phi_i x_0 - beta k S_i (x_N - m), S_i the sum before i, carried to i
//
// so x_N - m is affine in x_i, and the control is a policy of affine steps.
class ModeFixedPoint {
 public:
  ModeFixedPoint(double s, const std::vector<double>& times, bool base = true)
      : s_(s), base_(base), times_(times) {
    const size_t n = times.size() - 1;
    pulled_.assign(n + 1, 1);
    for (size_t i = n; i-- > 0;) pulled_[i] = pulled_[i + 1] * step(i);
  }
  // J_i.
  double pulled(size_t i) const { return pulled_[i]; }

  // S with w_i = seen(i).
  double strength_of(const std::function<double(size_t)>& seen) const {
    double sum = 0;
    for (size_t i = 0; i + 1 < times_.size(); ++i) sum += h(i) * pulled_[i + 1] * seen(i);
    return sum;
  }

  // The control of w_i = seen(i).
  void solve(const std::function<double(size_t)>& seen) {
    const size_t n = times_.size() - 1;
    control_ = std::make_shared<BinnedLinear>(times_, 1);
    strength_ = strength_of(seen);
    const double bk = kBeta * kCurvature, all = 1 + bk * strength_, phi_end = pulled_[0];
    double phi = 1, so_far = 0;
    for (size_t i = 0; i < n; ++i) {
      const double slope = phi * all / phi_end - bk * so_far, offset = phi * kCentre / phi_end;
      const double gain = -bk * seen(i) / slope;
      control_->set(static_cast<int64_t>(i), matrix({{gain}}), vector({-gain * offset}));
      so_far = so_far * step(i) + h(i) * seen(i);
      phi *= step(i);
    }
  }
  double strength() const { return strength_; }
  Problem problem() const {
    FieldPtr field = std::make_shared<LinearField>(matrix({{0}}));
    if (base_) field = std::make_shared<MixtureField>(vector({1}), matrix({{0}}), vector({s_}));
    return Problem(field, std::make_shared<Quadratic>(matrix({{kCurvature}}), vector({kCentre})),
                   control_);
  }
  // Largest |x_N - its closed form| of a rollout.
  double end_error() const {
    Problem p = problem();
    const UpdateInput input = update_input(1, 0, 5, 1, times_);
    const Tensor want =
        kCentre + (pulled_[0] * input.x0 - kCentre) / (1 + kBeta * kCurvature * strength_);
    return largest(roll_out(p, input).final_state() - want);
  }
  // The method's regression loss there.
  double loss(const Method& method) const {
    Problem p = problem();
    return method.update(p, update_input(1, 0, 5, 1, times_)).loss.at("matching");
  }

 private:
  double h(size_t i) const { return times_[i + 1] - times_[i]; }
  double step(size_t i) const {
    const double t = times_[i], late = 1 - t;
    return base_ ? 1 + h(i) * (t * s_ * s_ - late) / (t * t * s_ * s_ + late * late) : 1.0;
  }
  double s_;
  bool base_;
  std::vector<double> times_, pulled_;
  std::shared_ptr<BinnedLinear> control_;
  double strength_ = 0;
};

Pmp truncated(int64_t steps, EarlySteps early) {
  PmpOptions o;
  o.beta = kBeta;
  o.steps = steps;
  o.early = early;
  o.transitions.bins = 10;
  return {o, no_clip()};
}

// The continuous S of a width s whose adjoint is known from tau on.
double anchored_strength(double s, double tau) {
  return s *
         (std::numbers::pi / 2 - (tau < 1 ? std::atan(s * tau / (1 - tau)) : std::numbers::pi / 2));
}
double frozen_strength(double s, double tau) {
  const double a = 1 + s * s, j = s / std::sqrt(tau * tau * s * s + (1 - tau) * (1 - tau));
  const auto integral = [&](double t) { return s / std::sqrt(a) * std::asinh((a * t - 1) / s); };
  return anchored_strength(s, tau) + j * (integral(tau) - integral(0));
}

struct Cut {
  int64_t steps;
  EarlySteps early;
};

// The weights that transition i sees on a grid of n steps: J_{i+1}, and what stands for it before.
double seen_at(const ModeFixedPoint& mode, const Cut& cut, size_t n, size_t i) {
  const size_t first = n - static_cast<size_t>(cut.steps);
  if (i >= first) return mode.pulled(i + 1);
  return cut.early == EarlySteps::kAnchor ? 0 : mode.pulled(std::max(i + 1, first));
}

constexpr size_t kFine = 4000, kFew = 40;  // steps where numbers do, and where updates run

void truncations(AnalyticReport& report) {
  double loss = 0, end = 0, strength = 0, fall = -1;
  std::string table;
  for (const double s : {0.5, 1.0, 2.0}) {
    const ModeFixedPoint fine(s, uniform_grid(kFine));
    ModeFixedPoint few(s, uniform_grid(kFew));
    double before = 0;
    for (const auto& [share, early] :
         std::vector<std::pair<double, EarlySteps>>{{0.2, EarlySteps::kAnchor},
                                                    {0.5, EarlySteps::kAnchor},
                                                    {1, EarlySteps::kAnchor},
                                                    {0, EarlySteps::kFrozenAdjoint},
                                                    {0.2, EarlySteps::kFrozenAdjoint},
                                                    {0.5, EarlySteps::kFrozenAdjoint}}) {
      const auto cut = [&, share = share, early = early](size_t n) {
        return Cut{std::llround(share * static_cast<double>(n)), early};
      };
      const bool anchored = early == EarlySteps::kAnchor;
      const double got =
          fine.strength_of([&](size_t i) { return seen_at(fine, cut(kFine), kFine, i); });
      const double want =
          anchored ? anchored_strength(s, 1 - share) : frozen_strength(s, 1 - share);
      strength = std::max(strength, std::abs(got / want - 1));
      if (anchored) fall = std::max(fall, before - got);
      before = got;
      table += fmt::format("{}{} {} {} {:.3f}", table.empty() ? "" : ", ", s, word_of(early), share,
                           got);
      few.solve([&](size_t i) { return seen_at(few, cut(kFew), kFew, i); });
      loss = std::max(loss, few.loss(truncated(cut(kFew).steps, early)));
      end = std::max(end, few.end_error());
    }
  }
  report.below("truncated PMP: matching loss at its fixed point", loss, 1e-20,
               "Gaussian bases of width 0.5, 1, 2, anchored and frozen, 40 steps");
  report.below("truncated PMP: end points - closed form", end, 1e-12);
  report.below("truncated PMP: strength / closed form - 1", strength, 1e-3,
               "4000 steps, width, kind, share of the steps: " + table);
  report.below("anchored PMP: largest fall of the strength with more steps", fall, 0);
}

// One gradient at the end: beta times Int J eta / (s pi / 2) of the optimum's, by width and eta.
void end_point(AnalyticReport& report) {
  const std::vector<std::pair<Eta, std::vector<double>>> known{
      {Eta::kConstant, {1.096, 0.794, 0.548}},
      {Eta::kLinear, {0.622, 0.397, 0.237}},
      {Eta::kQuadratic, {0.436, 0.258, 0.144}},
      {Eta::kGaussian, {1, 1, 1}}};
  const std::vector<double> widths{0.5, 1, 2};
  double loss = 0, worst = 0;
  for (const auto& [kind, ratios] : known) {
    for (size_t i = 0; i < widths.size(); ++i) {
      VggFlowOptions o;
      o.beta = kBeta;
      o.guess = Guess::kEndpoint;
      o.eta = kind;
      o.eta.width = widths[i];
      const auto schedule = [&](size_t steps) {
        const Tensor e = eta(o.eta, vector(uniform_grid(steps)));
        return [e](size_t k) { return e.const_data_ptr<double>()[k]; };
      };
      const ModeFixedPoint fine(widths[i], uniform_grid(kFine));
      worst = std::max(
          worst, std::abs(fine.strength_of(schedule(kFine)) / anchored_strength(widths[i], 0) -
                          ratios[i]));
      ModeFixedPoint few(widths[i], uniform_grid(kFew));
      few.solve(schedule(kFew));
      loss = std::max(loss, few.loss(VggFlow(o, no_clip())));
    }
  }
  report.below("end point: matching loss at its fixed point", loss, 1e-20,
               "three widths, four schedules of eta, 40 steps");
  report.below("end point: strength over the optimum's - closed form", worst, 1e-3,
               "width 1: 0.794 with eta 1, 0.397 with t, 0.258 with t^2, 1 with gaussian");
}

// No base field: the adjoint does not change, so the frozen one is exact, however short.
void without_base(AnalyticReport& report) {
  const auto times = uniform_grid(20);
  double worst = 0, loss = 0;
  for (const int64_t steps : {0, 5, 20}) {
    ModeFixedPoint mode(1, times, /*base=*/false);
    mode.solve([](size_t) { return 1.0; });
    loss = std::max(loss, mode.loss(truncated(steps, EarlySteps::kFrozenAdjoint)));
    worst = std::max(worst, std::abs(mode.strength() - 1));
  }
  ModeFixedPoint anchored(1, times, /*base=*/false);
  anchored.solve([](size_t i) { return i >= 15 ? 1.0 : 0.0; });
  loss = std::max(loss, anchored.loss(truncated(5, EarlySteps::kAnchor)));
  worst = std::max(worst, std::abs(anchored.strength() - 0.25));
  report.below("truncated PMP, no base: matching loss at its fixed point", loss, 1e-20,
               "frozen after 0, 5 and all steps is the optimum; anchored: 1 + beta k (1 - tau)");
  report.below("truncated PMP, no base: strength - closed form", worst, 1e-12);
}

// The variance of x_1 given x_t damps the tilt's pull: grad log E[e^{lambda r(x_1)} | x_t] over
// lambda grad r at the mean, by quadrature over x_1.
void damped(AnalyticReport& report) {
  constexpr double kMean = 0.3, kStep = 1e-4;
  EtaSchedule schedule(Eta::kDamped);
  schedule.width = 1.5;
  schedule.damping = 3 * kCurvature;  // lambda k
  double worst = 0;
  for (const double t : {0.2, 0.5, 0.9}) {
    const double s2 = 2.25, v = s2 * (1 - t) * (1 - t) / (t * t * s2 + (1 - t) * (1 - t));
    const auto value = [&](double mean) {
      const Tensor z = at::linspace(-9, 9, 20001, at::kDouble),
                   r = -kCurvature / 2 * (mean + std::sqrt(v) * z - kCentre).square();
      return at::logsumexp(3 * r - z.square() / 2, {0}).item<double>();
    };
    const double slope = (value(kMean + kStep) - value(kMean - kStep)) / (2 * kStep);
    const double pull = slope / (-3 * kCurvature * (kMean - kCentre));
    worst = std::max(worst, std::abs(eta(schedule, vector({t})).item<double>() - pull));
  }
  report.below("damped eta - the tilt's pull by quadrature", worst, 1e-6,
               "t = 0.2, 0.5, 0.9; width 1.5, lambda k = 6");
  const Tensor t = at::linspace(0.05, 0.95, 9, at::kDouble);
  double slope = 0;
  for (const auto& [name, kind] : option_words(Eta{})) {
    EtaSchedule e(kind);
    e.width = 1.5;
    e.damping = 2;
    const Tensor want = (eta(e, t + 1e-5) - eta(e, t - 1e-5)) / 2e-5;
    slope = std::max(slope, largest(eta_derivative(e, t) - want));
    slope = std::max(slope, std::abs(eta(e, vector({1})).item<double>() - 1));
  }
  report.below("d eta / d t - central difference, every schedule; eta(1) - 1", slope, 1e-8);
}

}  // namespace

void truncated_adjoints(AnalyticReport& report) {
  truncations(report);
  without_base(report);
  end_point(report);
  damped(report);
}

}  // namespace vggflow::analytic
