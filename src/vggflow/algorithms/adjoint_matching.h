#pragma once
// Adjoint Matching (Domingo-Enrich et al. 2024, arXiv 2409.08861): stochastic optimal control with
// the memoryless schedule, whose fixed point samples p*(x_1) ~ p_base(x_1) exp(lambda r(x_1)).
//
//   sigma_k^2 = 2 (1 - t_k + h_k) / (t_k + h_k)           (App. G: h in numerator and denominator)
//   x_{k+1} = x_k + h_k (2 v_theta(x_k, t_k) - x_k / (t_k + h_k)) + sqrt(h_k) sigma_k e_k;
//             the last step is x + h v_base, without noise
//   a_N = -lambda grad r(x_N),   a_k = a_{k+1} + h_k [grad b(x_k, t_k)]^T a_{k+1},
//             b = 2 v_base - x / (t + h)                  (lean adjoint)
//   loss = sum_k | (2/sigma_k) (v_theta - v_base)(x_k, t_k) + sigma_k a_k |^2,  x and a detached
//
// Steps with gradient: the last `tail` share of the grid, and as many again as `early` says, drawn
// without replacement from the rest (paper: 10 + 10 of 40), the same for the whole update; the
// value of v_theta there is the rollout's. Terms (sums over a sample's elements) above the clip
// have no gradient: clip_constant lambda^2 ("constant", the paper's LCT, 1.6), or a quantile over
// the samples of each step, so that outliers are clipped and not steps, whose terms differ by
// orders of magnitude. The loss reported is the mean over elements and terms. Telemetry: adjoint
// norm, share of the loss and share of clipped terms by step. Guidance: in the rollout alone by
// default (soc-fine-tuning-sd's mode 1); rollouts, gradient, adjoint and base branch each follow
// the problem's own setting.

#include <string>
#include <vector>

#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/core/random.h"
#include "vggflow/flow/sampling.h"

namespace vggflow {

/// What bounds a term of the loss.
enum class TermClip { kConstant, kQuantile, kNone };
inline OptionWords<TermClip> option_words(TermClip) {
  return {{"constant", TermClip::kConstant},
          {"quantile", TermClip::kQuantile},
          {"none", TermClip::kNone}};
}

struct AdjointMatchingOptions {
  double lambda = 1.0;
  LambdaUnit lambda_unit = LambdaUnit::kSpread;
  double tail = 0.25;
  double early = 0.25;
  TermClip clip = TermClip::kQuantile;
  double clip_constant = 1.6;
  double clip_quantile = 0.9;

  template <class V>
  void fields(V& v) {
    v("lambda", lambda, "reward multiplier: the target is p_base exp(lambda r)", range(0, 1e12));
    v("lambda_unit", lambda_unit,
      "what lambda multiplies: the reward, or the reward in standard deviations of the base's "
      "rewards within a prompt (spread)");
    v("tail", tail, "fraction of the steps, at the end, that are always trained", range(0, 1));
    v("early", early, "steps sampled from the others, as a fraction of all steps", range(0, 1));
    v("clip", clip,
      "loss terms above this bound get no gradient: clip_constant lambda^2, a quantile over the "
      "samples of each step, or none");
    v("clip_constant", clip_constant, "bound for constant", range(0, 1e12));
    v("clip_quantile", clip_quantile, "quantile", range(0, 1));
  }

  static MethodTrials trials();
};

class AdjointMatching : public Method {
 public:
  AdjointMatching(const AdjointMatchingOptions& options, const RewardClipOptions& clip)
      : options_(options), clip_(clip) {}
  MethodReport update(AlignmentProblem& problem, const UpdateInput& input) const override;
  Passes cost(const CostShape& shape, const MethodReport& report) const override;
  Demand demand(const CostShape& shape) const override;
  std::string cost_formula(const CostShape& shape) const override;
  bool scales_with_beta() const override { return true; }
  bool asks_spread() const override { return options_.lambda_unit == LambdaUnit::kSpread; }
  bool guides_rollouts_alone() const override { return true; }

 private:
  AdjointMatchingOptions options_;
  RewardClipOptions clip_;
};

/// sigma of the memoryless schedule at the start t of a step of length h.
double memoryless_sigma(double t, double h);

/// A path of the SDE and v_theta at the start of each step, by the rollout's guidance.
struct MemorylessPath {
  Trajectory trajectory;
  std::vector<Tensor> velocities;
  std::vector<Tensor> differences;  ///< v_theta - v_base at the steps that asked for it, else
                                    ///< undefined
};

/// The SDE above from input.x0, without gradient; noise keyed by (seed, kPathNoise, update,
/// sample). Carries the difference through `steps` (increasing) where the problem has one.
MemorylessPath roll_out_memoryless(AlignmentProblem& problem, const UpdateInput& input,
                                   const std::vector<int64_t>& steps = {});

/// Steps to train on, increasing.
std::vector<int64_t> draw_steps(const AdjointMatchingOptions& options, int64_t steps,
                                RandomStream random);
/// How many of a trajectory's `steps` they are.
int64_t trained_steps(const AdjointMatchingOptions& options, int64_t steps);

}  // namespace vggflow
