#include <ATen/core/grad_mode.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>

#include "vggflow/algorithms/consistency.h"
#include "vggflow/algorithms/vgg_flow.h"
#include "vggflow/core/error.h"
#include "vggflow/proofs/analytic_claims.h"

namespace vggflow::analytic {

Tensor symmetric_base() { return matrix({{0.9, 0.6}, {0.6, -0.7}}); }
Tensor general_base() { return matrix({{0.8, 1.3}, {-0.9, -0.4}}); }
Tensor reward_matrix() { return matrix({{1.4, 0.4}, {0.4, 0.9}}); }

// Modes so far apart that two controls are as good from some x_0 (2.2 apart with deviation 0.5)
// fold the characteristics: grad V has jumps there.
FieldPtr mixture(int64_t width) {
  if (width == 1)
    return std::make_shared<MixtureField>(vector({0.4, 0.6}), matrix({{-0.8}, {0.8}}),
                                          vector({0.55, 0.65}));
  return std::make_shared<MixtureField>(vector({0.3, 0.4, 0.3}),
                                        matrix({{-0.8, 0.0}, {0.5, 0.7}, {0.5, -0.7}}),
                                        vector({0.6, 0.65, 0.7}));
}

RewardPtr mixture_reward(int64_t width) {
  return std::make_shared<LogCosh>(0.8, at::full({width}, 0.7, at::kDouble));
}

RewardClipOptions no_clip() {
  RewardClipOptions clip;
  clip.kind = ClipBound::kNone;
  return clip;
}

MethodOptions unclipped() {
  MethodOptions o;
  o.reward_clip = no_clip();
  return o;
}

double largest(const Tensor& x) { return x.abs().max().item<double>(); }
double relative(const Tensor& x, const Tensor& y) {
  return x.norm().item<double>() / y.norm().item<double>();
}

namespace {

// A problem whose value gradient is known, with a policy that is not the optimum (so that the
// reward part of g moves with it).
struct Case {
  std::string name;
  FieldPtr base;
  RewardPtr reward;
  ExactCorrection::Gradient g;
  int64_t width = 2;
  Tensor x() const { return noise(7, 0, 5, width); }
};

Case riccati_case(const std::string& name, const Tensor& a) {
  auto riccati = std::make_shared<Riccati>(a, reward_matrix(), kBeta);
  return {name, std::make_shared<LinearField>(a),
          std::make_shared<Quadratic>(reward_matrix(), at::zeros({2}, at::kDouble)),
          [riccati](const Tensor& x, const Tensor& t) { return riccati->gradient(x, t); }};
}

Case no_base_case() {
  const double k = 2;
  const Tensor centre = vector({0.5, -1.0});
  return {"v_base = 0", std::make_shared<LinearField>(at::zeros({2, 2}, at::kDouble)),
          std::make_shared<Quadratic>(k * at::eye(2, at::kDouble), centre),
          [=](const Tensor& x, const Tensor& t) {
            return k / (1 + kBeta * k * (1 - t.unsqueeze(1))) * (x - centre);
          }};
}

Case mixture_case(int64_t width) {
  const auto base = mixture(width);
  const auto reward = mixture_reward(width);
  auto paths = std::make_shared<Characteristics>(base, reward, kBeta);
  return {fmt::format("mixture {}-D", width), base, reward,
          [paths](const Tensor& x, const Tensor& t) {
            return paths->at(x, t[0].item<double>()).gradient;
          },
          width};
}

struct Estimate {
  Tensor residual, g;
  double size() const { return relative(residual, g); }
};

// The estimator's residual of the exact value gradient, times `scale` (1 unless a test wants to see
// an error).
Estimate estimate(const Case& c, const ConsistencyOptions& options, Eta eta_schedule, double t,
                  double scale = 1) {
  at::NoGradGuard no_grad;
  const auto control = std::make_shared<LinearField>(-0.3 * at::eye(c.width, at::kDouble) + 0.1);
  const auto scaled = [&](const Tensor& x, const Tensor& time) { return scale * c.g(x, time); };
  Problem problem(
      c.base, c.reward, control,
      std::make_shared<ExactCorrection>(scaled, c.base, control, c.reward, eta_schedule));
  const States s = states(c.x(), t);
  RewardClipOptions none;
  none.kind = ClipBound::kNone;
  const RewardGradients r =
      reward_gradients(problem, none, one_step_guess(s.x, s.t, problem.policy(s)), s.rows, 100);
  const Tensor g = value_gradient(problem, eta_schedule, s, r.gradient);
  return {
      consistency(problem, options, eta_schedule, kBeta, {s, r.gradient, r.factor, r.weights, g})
          .residual.detach(),
      g};
}

ConsistencyOptions kind(ConsistencyKind name, double step = 1e-2) {
  ConsistencyOptions o;
  o.kind = name;
  o.fd_t = o.fd_x = step;
  return o;
}

}  // namespace

// dg/dt + [grad g]^T (v_base - beta g) + [grad v_base]^T g = 0 for g = grad V.
void exact_residual(AnalyticReport& report) {
  for (const Case& c : {no_base_case(), riccati_case("symmetric A", symmetric_base()),
                        riccati_case("general A", general_base())}) {
    double worst = 0;
    for (const Eta schedule : {Eta::kConstant, Eta::kLinear, Eta::kQuadratic}) {
      for (const double t : {0.1, 0.5, 0.9})
        worst = std::max(worst,
                         largest(estimate(c, kind(ConsistencyKind::kExact), schedule, t).residual));
    }
    report.below("exact residual, " + c.name, worst, 1e-8, "all eta schedules, t = 0.1, 0.5, 0.9");
  }
  const Case one = mixture_case(1), two = mixture_case(2);
  double worst = 0;
  for (const Eta schedule : {Eta::kConstant, Eta::kLinear, Eta::kQuadratic})
    worst = std::max(worst,
                     largest(estimate(one, kind(ConsistencyKind::kExact), schedule, 0.5).residual));
  report.below("exact residual, " + one.name, worst, 1e-7,
               "g from the numeric optimum; all eta schedules, t = 0.5");
  report.below("exact residual, " + two.name,
               largest(estimate(two, kind(ConsistencyKind::kExact), Eta::kLinear, 0.4).residual),
               1e-7, "g from the numeric optimum, t = 0.4");
  report.above("exact residual of 1.01 g, general A",
               estimate(riccati_case("", general_base()), kind(ConsistencyKind::kExact),
                        Eta::kQuadratic, 0.5, 1.01)
                   .size(),
               1e-3, "a 1 % error of g is seen; relative to |g|");
}

void paper_residual(AnalyticReport& report) {
  for (const int64_t width : {1, 2}) {
    const Case c = mixture_case(width);
    const Tensor exact = estimate(c, kind(ConsistencyKind::kExact), Eta::kQuadratic, 0.5).residual;
    const double coarse =
        (estimate(c, kind(ConsistencyKind::kPaper, 4e-2), Eta::kQuadratic, 0.5).residual - exact)
            .norm()
            .item<double>();
    const double fine =
        (estimate(c, kind(ConsistencyKind::kPaper, 2e-2), Eta::kQuadratic, 0.5).residual - exact)
            .norm()
            .item<double>();
    report.below("paper residual's order, " + c.name, std::abs(std::log2(coarse / fine) - 2), 0.2,
                 fmt::format("error {:.1e} at eps 0.04, {:.1e} at 0.02: order {:.2f}", coarse, fine,
                             std::log2(coarse / fine)));
  }
  const Case symmetric = riccati_case("symmetric A", symmetric_base()),
             general = riccati_case("general A", general_base());
  report.below(
      "paper residual, symmetric A",
      estimate(symmetric, kind(ConsistencyKind::kPaper, 1e-3), Eta::kQuadratic, 0.5).size(), 1e-5,
      "relative to |g|");
  const Estimate e = estimate(general, kind(ConsistencyKind::kPaper, 1e-3), Eta::kQuadratic, 0.5);
  report.above("paper residual, general A", e.size(), 0.1,
               "relative to |g|: J g in place of J^T g leaves (A - A^T) g");
  const Tensor a = general_base();
  report.below("paper residual - (A - A^T) g, general A",
               relative(e.residual - e.g.matmul(a.t() - a), e.g), 1e-5, "and nothing else");
}

void release_residual(AnalyticReport& report) {
  for (const Case& c : {no_base_case(), riccati_case("symmetric A", symmetric_base()),
                        riccati_case("general A", general_base()), mixture_case(1)}) {
    report.above("release residual, " + c.name,
                 estimate(c, kind(ConsistencyKind::kRelease), Eta::kQuadratic, 0.5).size(), 10,
                 "of the exact g, relative to |g|; must be 0");
  }
  AnalyticFigure figure{"analytic_residual",
                        "Residual of the exact value gradient, general A",
                        "t",
                        "|residual| / |g|",
                        true,
                        {}};
  const Case c = riccati_case("", general_base());
  for (const ConsistencyKind name :
       {ConsistencyKind::kExact, ConsistencyKind::kPaper, ConsistencyKind::kRelease}) {
    AnalyticSeries series{word_of(name), {}, {}};
    for (double t = 0.05; t < 0.96; t += 0.1) {
      series.x.push_back(t);
      series.y.push_back(std::max(estimate(c, kind(name), Eta::kQuadratic, t).size(), 1e-16));
    }
    figure.series.push_back(series);
  }
  report.figures.push_back(figure);
}

}  // namespace vggflow::analytic
