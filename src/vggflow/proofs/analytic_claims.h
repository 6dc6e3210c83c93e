#pragma once
// The claims of the analytic suite, and what their files share.

#include <functional>
#include <vector>

#include "vggflow/algorithms/registry.h"
#include "vggflow/proofs/analytic_optima.h"
#include "vggflow/proofs/analytic_suite.h"

namespace vggflow::analytic {

// ---- analytic_value_claims.cpp: value gradients and their estimators
// ---------------------------------------------------
void exact_residual(AnalyticReport& report);
void paper_residual(AnalyticReport& report);
void release_residual(AnalyticReport& report);

// ---- analytic_adjoint_claims.cpp: adjoints of trajectories
// -------------------------------------------------------------
void adjoints_on_optimal_paths(AnalyticReport& report);
void fitted_adjoints(AnalyticReport& report);
void coarse_adjoints(AnalyticReport& report);

// ---- analytic_mode_claims.cpp: truncated adjoints and schedules on one Gaussian mode
// ------------------------------------------------------------------------------------
void truncated_adjoints(AnalyticReport& report);

// ---- analytic_ascent_claims.cpp: direct ascent without a graph over time
// ------------------------------------------------------------------------------------
void surrogate_gradients(AnalyticReport& report);

// ---- analytic_renoised_claims.cpp: training on noise added to end points
// ------------------------------------------------------------------------------------
void renoised_targets(AnalyticReport& report);
void reinforced_targets(AnalyticReport& report);

// ---- analytic_training_claims.cpp: what training reaches
// ---------------------------------------------------------------
void learned_correction(AnalyticReport& report);
void every_method(AnalyticReport& report);

// ---- analytic_tilt_claims.cpp: Adjoint Matching
// ------------------------------------------------------------------------
void tilted_distribution(AnalyticReport& report);

// ---- analytic_update_claims.cpp: gradients, passes and splits of updates
// -----------------------------------------------
void sampler_gradients(AnalyticReport& report);
void counted_passes(AnalyticReport& report);
void split_updates(AnalyticReport& report);
void balanced_rewards(AnalyticReport& report);

// ---- shared
// ------------------------------------------------------------------------------------------------------------
constexpr double kBeta = 0.7;

/// The linear-quadratic problem's matrices: base fields with and without symmetry, and R of r =
/// -x^T R x / 2.
Tensor symmetric_base();
Tensor general_base();
Tensor reward_matrix();

/// Two components in one dimension, three in two.
FieldPtr mixture(int64_t width);
RewardPtr mixture_reward(int64_t width);

/// No bound on reward gradients.
RewardClipOptions no_clip();
/// The defaults of every method, with no bound on reward gradients.
MethodOptions unclipped();

double largest(const Tensor& x);
/// |x| / |y| over all elements.
double relative(const Tensor& x, const Tensor& y);

/// The noise of samples first_sample ... of an update, all in one micro-batch.
UpdateInput update_input(uint64_t seed, uint64_t update, int64_t batch, int64_t width,
                         const std::vector<double>& times, uint64_t first_sample = 0);

/// A keyed optimisation: updates with Adam, the rate falling linearly to 0.
struct Training {
  int64_t updates = 300, batch = 32, width = 2;
  double rate = 0.05, value_rate = 0.01;
  uint64_t seed = 1;
};
void train(AlignmentProblem& problem, const Method& method, Trainable& policy, Trainable* value,
           const Training& training, const std::vector<double>& times,
           const std::function<void(int64_t update)>& after = {});

}  // namespace vggflow::analytic
