#include "vggflow/proofs/analytic_suite.h"

#include <algorithm>

#include "vggflow/proofs/analytic_claims.h"

namespace vggflow {

void AnalyticReport::below(const std::string& name, double value, double bound,
                           const std::string& note) {
  results.push_back({name, value, bound, value < bound, "<", note});
}

void AnalyticReport::above(const std::string& name, double value, double bound,
                           const std::string& note) {
  results.push_back({name, value, bound, value > bound, ">", note});
}

bool AnalyticReport::ok() const {
  return std::all_of(results.begin(), results.end(), [](const AnalyticResult& r) { return r.ok; });
}

const std::vector<AnalyticClaim>& analytic_claims() {
  using namespace analytic;
  static const std::vector<AnalyticClaim> list{
      {"ExactValueGradientsLeaveNoResidual", exact_residual},
      {"CentralDifferencesAgreeForSymmetricJacobiansOnly", paper_residual},
      {"TheReleasedEstimatorRejectsExactValueGradients", release_residual},
      {"ALearnedCorrectionReachesTheOptimumWhereTheGuessDoesNot", learned_correction},
      {"AdjointsAreValueGradientsOnOptimalPaths", adjoints_on_optimal_paths},
      {"AdjointMatchingSamplesTheTiltedDistribution", tilted_distribution},
      {"GradientsThroughSamplersEqualFiniteDifferences", sampler_gradients},
      {"FittedAdjointsMixNStepTargets", fitted_adjoints},
      {"CoarseAdjointsNearTheLeanOne", coarse_adjoints},
      {"EveryMethodImprovesAndTheExactOnesReachTheOptimum", every_method},
      {"MethodsRunThePassesTheyCount", counted_passes},
      {"UpdatesDoNotDependOnHowTheyAreSplit", split_updates},
      {"BalancedRewardsShareTheGradientByWeight", balanced_rewards},
      {"TruncatedAdjointsReachTheirClosedFixedPoints", truncated_adjoints},
      {"SurrogatesOfARolloutHaveTheirGraphsGradients", surrogate_gradients},
      {"RenoisedEndPointsReachTheTiltedDistribution", renoised_targets},
      {"RewardsWithoutGradientTiltLinearlyExactly", reinforced_targets},
  };
  return list;
}

AnalyticReport analytic_suite() {
  AnalyticReport report;
  for (const AnalyticClaim& claim : analytic_claims()) claim.run(report);
  return report;
}

}  // namespace vggflow
