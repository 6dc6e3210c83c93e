// Coarse adjoints against the lean one, and the bounds of docs/coarse-adjoint.md on bases whose
// Jacobian is known.
#include "vggflow/algorithms/coarse_adjoint.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "vggflow/algorithms/adjoint.h"
#include "vggflow/algorithms/gradient_probe.h"
#include "vggflow/algorithms/pmp.h"
#include "vggflow/algorithms/vgg_flow.h"
#include "vggflow/proofs/analytic_claims.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using namespace analytic;
using ::testing::ElementsAre;

constexpr double kUndamped = 1e12;

CoarseOptions options_of(int64_t nodes, double damping = kUndamped) {
  CoarseOptions o;
  o.nodes = nodes;
  o.damping = damping;
  return o;
}

// A base's own trajectories of `rows` samples, with the reward's gradient -1 everywhere.
struct Along {
  Along(const FieldPtr& base, int64_t rows, int64_t width, const std::vector<double>& times)
      : problem(base, mixture_reward(width),
                std::make_shared<LinearField>(at::zeros({width, width}, at::kDouble))),
        all(at::arange(rows)) {
    path = roll_out(problem, update_input(4, 0, rows, width, times));
    end = noise(9, 0, rows, width);
  }
  std::vector<Tensor> lean() { return sweep(path, all, end, 100, lean_step(problem)); }
  std::vector<Tensor> coarse(const CoarseOptions& o, int64_t micro_batch = 100) {
    return coarse_adjoint(problem, path, all, end, o, micro_batch).adjoints;
  }
  Problem problem;
  Tensor all, end;
  Trajectory path;
};

std::vector<double> sd3_grid(int64_t steps) {
  return time_grid({.steps = steps, .kind = GridKind::kDiffusersDefault, .shift = 3});
}

TEST(CoarseAdjoint, IsTheLeanAdjointWhereEveryStepIsANode) {
  for (const auto& times : {uniform_grid(20), sd3_grid(20)}) {
    Along along(mixture(2), 6, 2, times);
    const auto lean = along.lean();
    for (const int64_t micro_batch : {4, 100}) {
      const auto coarse = along.coarse(options_of(20), micro_batch);
      for (size_t k = 0; k < lean.size(); ++k) EXPECT_LT(largest(coarse[k] - lean[k]), 1e-12) << k;
    }
  }
}

TEST(CoarseAdjoint, PlacesNodesOnAnyGrid) {
  EXPECT_THAT(coarse_nodes(options_of(1), uniform_grid(20)), ElementsAre(19));
  EXPECT_THAT(coarse_nodes(options_of(3), uniform_grid(20)), ElementsAre(19, 17, 13));
  EXPECT_THAT(coarse_nodes(options_of(5), uniform_grid(20)), ElementsAre(19, 18, 16, 13, 10));
  EXPECT_THAT(coarse_nodes(options_of(4), uniform_grid(4)), ElementsAre(3, 2, 1, 0));
  EXPECT_THAT(coarse_nodes(options_of(1), uniform_grid(1)), ElementsAre(0));
  for (const auto& times : {uniform_grid(40), sd3_grid(20), sd3_grid(28)}) {
    for (const int64_t count : {1, 3, 5, 8, 20}) {
      const auto nodes = coarse_nodes(options_of(count), times);
      ASSERT_EQ(nodes.size(), static_cast<size_t>(count));
      EXPECT_TRUE(std::is_sorted(nodes.rbegin(), nodes.rend()));
      EXPECT_EQ(std::adjacent_find(nodes.begin(), nodes.end()), nodes.end());
      EXPECT_LT(nodes.front(), times.size() - 1);
    }
  }
}

TEST(CoarseAdjoint, RefusesNodesThatTheGridDoesNotHave) {
  const auto refusal = [](const CoarseOptions& o) {
    return testing::message_of([&] { check_coarse(o, 4); });
  };
  EXPECT_EQ(refusal(options_of(5)), "[coarse] expected nodes of at most 4 (the steps), got 5");
  CoarseOptions o;
  o.node_steps = {3, 1};
  EXPECT_EQ(refusal(o), "no error");
  EXPECT_THAT(coarse_nodes(o, uniform_grid(4)), ElementsAre(3, 1));
  o.node_steps = {4, 1};
  EXPECT_EQ(refusal(o),
            "[coarse] expected node_steps that decrease, within 0 and 3, got 4 where at most 3 may "
            "stand");
  o.node_steps = {2, 2};
  EXPECT_EQ(refusal(o),
            "[coarse] expected node_steps that decrease, within 0 and 3, got 2 where at most 1 may "
            "stand");
}

// One mode N(0, s^2 I): D(t) = t s^2 / (t^2 s^2 + (1-t)^2), a number.
double denoiser(double t, double s) { return t * s * s / (t * t * s * s + (1 - t) * (1 - t)); }
FieldPtr gaussian(double s) {
  return std::make_shared<MixtureField>(vector({1}), matrix({{0, 0}}), vector({s}));
}

TEST(CoarseAdjoint, OnAGaussianBaseIsAProductOfNumbers) {
  Along along(gaussian(0.6), 3, 2, uniform_grid(20));
  CoarseOptions o = options_of(1);
  o.node_steps = {19, 14, 6};
  const auto coarse = along.coarse(o);
  const double first = denoiser(0.95, 0.6), second = 1.0 / 6 + 5.0 / 6 * denoiser(0.7, 0.6),
               third = 3.0 / 7 + 4.0 / 7 * denoiser(0.3, 0.6);
  const double at14 = first * second, at6 = at14 * third;
  EXPECT_LT(largest(coarse[19] - first * along.end), 1e-14);
  EXPECT_LT(largest(coarse[14] - at14 * along.end), 1e-14);
  EXPECT_LT(largest(coarse[6] - at6 * along.end), 1e-14);
  EXPECT_LT(largest(coarse[10] - (at6 + at14) / 2 * along.end), 1e-14) << "linear in between";
  EXPECT_LT(largest(coarse[0] - 0.7 * at6 * along.end), 1e-14) << "and no denoiser before";
}

// The error of a step is at most l max_j |D_k a_k' - D_j a_{j+1}|, and the one before it is passed
// on by |1 - l + l D_k|.
TEST(CoarseAdjoint, ErrsOnAGaussianBaseByNoMoreThanTheBound) {
  double seen = 0;
  for (const double s : {0.3, 1.0, 3.0}) {
    for (const auto& times : {uniform_grid(20), sd3_grid(28)}) {
      Along along(gaussian(s), 3, 2, times);
      const auto lean = along.lean();
      for (const int64_t count : {3, 5, 8}) {
        const CoarseOptions o = options_of(count);
        const auto coarse = along.coarse(o);
        double bound = 0;
        size_t right = times.size() - 1;
        for (const size_t k : coarse_nodes(o, times)) {
          const double l = (times[right] - times[k]) / (1 - times[k]), d = denoiser(times[k], s);
          double change = 0;
          for (size_t j = k; j < right; ++j)
            change = std::max(
                change,
                (d * lean[right] - denoiser(times[j], s) * lean[j + 1]).norm().item<double>());
          bound = std::abs(1 - l + l * d) * bound + l * change;
          const double error = (coarse[k] - lean[k]).norm().item<double>();
          EXPECT_LE(error, bound + 1e-12) << "s " << s << " node " << k << " of " << count;
          if (bound > 0) seen = std::max(seen, error / bound);
          right = k;
        }
      }
    }
  }
  EXPECT_GT(seen, 0.2) << "the bound says something";
}

// v_base = A x: a step of length H errs by at most e^{LH} - 1 - LH, L = |A|, whatever lies between.
TEST(CoarseAdjoint, ErrsOnALinearBaseByTheSecondOrderOfItsSteps) {
  const Tensor a = general_base();
  const double size = at::linalg_matrix_norm(a, 2).item<double>();
  Along along(std::make_shared<LinearField>(a), 5, 2, uniform_grid(20));
  const auto lean = along.lean();
  const auto error = [&](const CoarseOptions& o) {
    const auto coarse = along.coarse(o);
    double bound = 0, last = 0;
    size_t right = 20;
    for (const size_t k : coarse_nodes(o, along.path.times)) {
      const double h = along.path.times[right] - along.path.times[k];
      bound = (1 + size * h) * bound +
              (std::exp(size * h) - 1 - size * h) * lean[right].norm().item<double>();
      last = (coarse[k] - lean[k]).norm().item<double>();
      EXPECT_LE(last, bound + 1e-12);
      right = k;
    }
    return last;
  };
  CoarseOptions o;
  o.damping = kUndamped;
  o.node_steps = {15, 10, 5, 0};
  const double coarse = error(o);
  o.node_steps = {17, 15, 12, 10, 7, 5, 2, 0};
  EXPECT_NEAR(std::log2(coarse / error(o)), 1, 0.35) << "of first order in the steps";
}

TEST(CoarseAdjoint, DampingBoundsWhatAStepAdds) {
  Along along(gaussian(8.0), 4, 2, uniform_grid(20));
  const auto at = [&](size_t k) {  // from step 12 to step k, where D is 3.1 or 4.4
    CoarseOptions o;
    o.node_steps = {12, static_cast<int64_t>(k)};
    o.damping = 0.5;
    const auto coarse = along.coarse(o);
    EXPECT_LT(largest(coarse[12] - denoiser(0.6, 8) * along.end), 1e-14) << "never from t = 1";
    return (coarse[k] / coarse[12]).mean().item<double>();
  };
  EXPECT_NEAR(at(6), 4.0 / 7 + 0.5, 1e-12);
  EXPECT_NEAR(at(2), 1, 1e-12) << "the share of the time left, 0.56, is longer";
}

TEST(CoarseAdjoint, KeepsTheBasesValueAtItsNodes) {
  Along along(mixture(2), 6, 2, uniform_grid(8));
  const auto found =
      coarse_adjoint(along.problem, along.path, along.all, along.end, options_of(3), 4);
  for (size_t k = 0; k < 8; ++k) {
    if (!found.base[k].defined()) continue;
    const Tensor base = along.problem.base(states(along.path.states[k], along.path.times[k]));
    EXPECT_EQ(largest(found.base[k] - base), 0) << k;
  }
  EXPECT_EQ(std::count_if(found.base.begin(), found.base.end(),
                          [](const Tensor& b) { return b.defined(); }),
            3);
}

// ---- in VGG-Flow

struct Trained {
  std::shared_ptr<Mlp> control = std::make_shared<Mlp>(2, 8, 11, /*last=*/0.7);
  Tensor gradient(const Method& method, FieldPtr nu = nullptr) {
    Problem problem(mixture(2), mixture_reward(2), control, nu);
    report = method.update(problem, update_input(3, 5, 7, 2, uniform_grid(6)));
    const Tensor g = control->parameters.grad().clone();
    control->parameters.mutable_grad().reset();
    return g;
  }
  MethodReport report;
};

VggFlowOptions coarse_everywhere() {
  VggFlowOptions o;
  o.guess = Guess::kCoarse;
  o.coarse = options_of(6);
  return o;
}

TEST(VggFlowGuess, ACoarseOneWithEveryNodeTrainsAsPmpDoes) {
  Trained a, b;
  const Tensor coarse = a.gradient(VggFlow(coarse_everywhere(), no_clip())),
               pmp = b.gradient(Pmp({}, no_clip()));
  EXPECT_GT(largest(pmp), 1e-3);
  EXPECT_LT(largest(coarse - pmp), 1e-13);
  EXPECT_GT(a.report.values.at("shared_base"), 0);
}

TEST(VggFlowGuess, AWholeAdjointLeavesAnEmptyNuNoResidual) {
  const auto nu = std::make_shared<Mlp>(2, 8, 12);  // its last layer is 0
  Trained all, few;
  VggFlowOptions o = coarse_everywhere();
  all.gradient(VggFlow(o, no_clip()), nu);
  EXPECT_LT(all.report.loss.at("consistency"), 1e-24);
  o.coarse = options_of(2);
  few.gradient(VggFlow(o, no_clip()), nu);
  EXPECT_GT(few.report.loss.at("consistency"), 1e-6) << "nu has the coarse steps' error to learn";
}

// Reward Score Matching's fixed point without a base field: x_N - m = (x_0 - m) / (1 + beta k S), S
// = sum_k h_k eta(t_k).
TEST(VggFlowGuess, AnEndPointsFixedPointIsKnownWithoutABaseField) {
  const double k = 2.0;
  const Tensor centre = vector({0.5, -1}), one = at::eye(2, at::kDouble);
  const auto times = uniform_grid(6);
  for (const Eta schedule : {Eta::kConstant, Eta::kLinear, Eta::kQuadratic}) {
    const Tensor e = eta(schedule, vector(times));
    const auto along = [&](size_t j) { return e[static_cast<int64_t>(j)].item<double>() / 6; };
    double sum = 0, so_far = 0;
    for (size_t j = 0; j < 6; ++j) sum += along(j);
    const double factor = 1 + kBeta * k * sum;
    auto control = std::make_shared<BinnedLinear>(times, 2);
    for (size_t j = 0; j < 6; ++j) {
      const double gain = -kBeta * k * 6 * along(j) / factor / (1 - kBeta * k * so_far / factor);
      control->set(static_cast<int64_t>(j), gain * one, -gain * centre);
      so_far += along(j);
    }
    Problem problem(std::make_shared<LinearField>(0 * one),
                    std::make_shared<Quadratic>(k * one, centre), control);
    VggFlowOptions o;
    o.beta = kBeta;
    o.guess = Guess::kEndpoint;
    o.eta = schedule;
    const UpdateInput input = update_input(1, 0, 5, 2, times);
    const MethodReport report = VggFlow(o, no_clip()).update(problem, input);
    EXPECT_LT(report.loss.at("matching"), 1e-24) << word_of(schedule);
    EXPECT_GT(report.values.at("control_energy"), 1e-3);
    EXPECT_LT(
        largest(roll_out(problem, input).final_state() - centre - (input.x0 - centre) / factor),
        1e-12);
  }
}

TEST(VggFlowGuess, RefusesEstimatorsOfTheOneStepGuess) {
  VggFlowOptions o;
  o.guess = Guess::kEndpoint;
  o.consistency.kind = ConsistencyKind::kPaper;
  EXPECT_EQ(
      testing::message_of([&] { VggFlow(o, no_clip()).check(20); }),
      "[vgg] expected consistency.kind=exact, return or off with guess=endpoint, got paper: that "
      "estimator differentiates the one-step guess");
  o.guess = Guess::kCoarse;
  o.consistency.kind = ConsistencyKind::kStep;
  EXPECT_EQ(testing::message_of([&] { VggFlow(o, no_clip()).check(20); }),
            "[vgg] expected consistency.kind=exact, return or off with guess=coarse, got step: a "
            "coarse adjoint is no function of single states");
  o.consistency.kind = ConsistencyKind::kOff;
  o.coarse.nodes = 21;
  EXPECT_EQ(testing::message_of([&] { VggFlow(o, no_clip()).check(20); }),
            "[coarse] expected nodes of at most 20 (the steps), got 21");
}

TEST(VggFlowGuess, AProbeFindsNoErrorInTheWholeAdjointAndOneInTheGuess) {
  VggFlowOptions o = coarse_everywhere();
  o.probe_every = 5;  // the update is number 5
  Trained whole, guess, never;
  whole.gradient(VggFlow(o, no_clip()));
  EXPECT_LT(whole.report.values.at("error_of_g"), 1e-12);
  EXPECT_NEAR(whole.report.values.at("cosine_of_guess"), 1, 1e-12);
  o.guess = Guess::kOneStep;
  guess.gradient(VggFlow(o, no_clip()), std::make_shared<Mlp>(2, 8, 12, /*last=*/0.5));
  EXPECT_GT(guess.report.values.at("error_of_guess"), 0.05);
  EXPECT_NE(guess.report.values.at("error_of_g"), guess.report.values.at("error_of_guess"));
  o.probe_every = 4;
  never.gradient(VggFlow(o, no_clip()));
  EXPECT_EQ(never.report.values.count("error_of_g"), 0u);
}

TEST(GradientProbe, MeasuresErrorCosineAndRatioBySample) {
  const Agreement found =
      agreement(matrix({{2, 0}, {0, 3}, {1, 0}}), matrix({{1, 0}, {3, 0}, {0, 0}}));
  EXPECT_LT(largest(found.error.narrow(0, 0, 2) - vector({1, std::sqrt(2)})), 1e-14);
  EXPECT_LT(largest(found.cosine - vector({1, 0, 0})), 1e-14);
  EXPECT_LT(largest(found.ratio.narrow(0, 0, 2) - vector({2, 1})), 1e-14);
}

}  // namespace
}  // namespace vggflow
